"""Reference cases for the tests of the operators."""

from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch

SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="session")
def golden():
    """Reads `../shared/golden/NAME.npz`; skips where the reference cases are absent."""

    def load(name):
        path = SHARED / "golden" / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"reference cases ../shared/golden are absent ({name})")
        return np.load(path)

    return load


@pytest.fixture(scope="session")
def kitchen_points():
    """Cloud of `../shared/scenes/kitchen`, [N, 3] float32."""
    path = SHARED / "scenes" / "kitchen" / "scene.ply"
    if not path.is_file():
        pytest.skip("scene ../shared/scenes/kitchen is absent")
    vertex = plyfile.PlyData.read(path)["vertex"]
    return torch.from_numpy(np.stack([vertex[axis] for axis in "xyz"], 1).astype(np.float32))
