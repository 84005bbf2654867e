"""Runs the files of tests/kernels/interpreter in processes with TRITON_INTERPRET=1.

A process starts in four seconds of a core, so several files share one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreter"
ROOT = Path(__file__).parents[2]
PROCESSES = 2  # of a minute each
FILES = sorted(str(path) for path in FOLDER.glob("test_*.py"))
GROUPS = [FILES[start::PROCESSES] for start in range(PROCESSES)]
NAMES = ["+".join(Path(file).stem.removeprefix("test_") for file in group) for group in GROUPS]


@pytest.mark.parametrize("files", GROUPS, ids=NAMES)
def test_kernels_in_interpreter(files):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment = {**inherited, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ["-n", "0", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", *files, *options]
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout[-8000:] + child.stderr[-2000:]
