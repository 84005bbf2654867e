"""A benchmark that is ended leaves no process of its own running."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
LATENCY = """
import os, pathlib, sys, time
from benchmarks import latency

def hold_memory(job):
    pathlib.Path(job).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    latency.measure_baseline = hold_memory
    latency.run_apart(sys.argv[1])
"""
ACCEPTANCE = """
import os, pathlib, sys
from benchmarks.gpu_acceptance import Step, run_step
path = pathlib.Path(sys.argv[1])
code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); "
step = Step("hold", ("-c", code + "time.sleep(60)", str(path)))
run_step(step, path.parent, dict(os.environ), 60)
"""
TENSORRT = """
import os, pathlib, sys
from xmask3d_rt.export.backends.tensorrt import run_child
path = pathlib.Path(sys.argv[1])
code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); "
run_child("e", [sys.executable, "-c", code + "time.sleep(60)", str(path)], path.with_name("log"))
"""
SCRIPTS = {"latency": LATENCY, "acceptance": ACCEPTANCE, "tensorrt": TENSORRT}


def read_child(path, parent):
    """Id of the child, once it runs."""
    while not (path.is_file() and path.read_text()):
        assert parent.poll() is None
        time.sleep(0.02)
    return psutil.Process(int(path.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_child_ends_with_the_benchmark(kind, number, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPTS[kind])
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "pid")]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as parent:
        child = read_child(tmp_path / "pid", parent)
        parent.send_signal(number)
        parent.wait(20)
        child.wait(10)
