"""Settings of the whole suite."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# Each xdist worker keeps to one thread: workers that all take every core spend their time
# waiting for each other (9 minutes in place of half a minute on a loaded machine).
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not part of the package")
    return SHARED
