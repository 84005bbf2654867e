"""Tests of the Triton kernels in Triton's interpreter; they need a process of their own.

`tests/kernels/test_interpreter.py` runs every file of this folder in a child process with
TRITON_INTERPRET=1. To run one by hand:
`TRITON_INTERPRET=1 .venv/bin/python -m pytest tests/kernels/interpreter/test_voxelize.py`
There, every operator called on CPU tensors launches its Triton kernels.
"""

import os

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fill what torch.empty returns with NaN and huge integers, so unwritten output shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
