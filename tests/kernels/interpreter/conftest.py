"""Tests of the Triton kernels in Triton's interpreter; they need a process of their own.

`tests/kernels/test_interpreter.py` runs every file of this folder in a child process with
TRITON_INTERPRET=1. To run one by hand:
`TRITON_INTERPRET=1 .venv/bin/python -m pytest tests/kernels/interpreter/test_voxelize.py`
There, every operator called on CPU tensors launches its Triton kernels.
"""

import os
from unittest.mock import patch as patch_attribute

import pytest
import torch
from triton.runtime import interpreter

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def patched_once_a_launch():
    """Let the interpreter put its functions into `triton.language` once a launch.

    It does so anew for every call of a function inside a kernel, `tl.sum` and `tl.zeros`
    included, which is half of its time.
    """
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched = set()  # globals of functions, which hold the modules to patch

    def patch_once(function):
        if id(function.__globals__) in patched:
            return None
        patched.add(id(function.__globals__))
        return patch(function)

    def launch_anew(*args, **kwargs):
        patched.clear()
        return launch(*args, **kwargs)

    with (
        patch_attribute.object(interpreter, "_patch_lang", patch_once),
        patch_attribute.object(interpreter.GridExecutor, "__call__", launch_anew),
    ):
        yield


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fill what torch.empty returns with NaN and huge integers, so unwritten output shows."""
    torch.set_deterministic_debug_mode("warn")
    yield
    torch.set_deterministic_debug_mode("default")
