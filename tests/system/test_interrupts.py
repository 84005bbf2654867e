"""Ctrl-C while a script imports its libraries: one word, exit code 130."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xmask3d_rt.system.interrupts import end_on_interrupt, raise_on_interrupt

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    *(ROOT / "export" / name for name in ("build_engines.py", "verify.py")),
    *(ROOT / "benchmarks" / name for name in ("latency.py", "kernels.py", "tensorrt_builds.py")),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_interrupt_during_imports(script, tmp_path):
    (tmp_path / "torch.py").write_text(
        "import pathlib, time; pathlib.Path(__file__).with_name('begun').touch(); time.sleep(60)"
    )
    (tmp_path / "numpy.py").write_text("import torch")  # whichever comes first
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script), "--help"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "interrupted\n"
    assert process.returncode == 130


@pytest.fixture
def restored():
    previous = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("restored")
def test_interrupts_can_be_handled_again():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    raise_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_ignored_interrupts_stay_ignored(handler):
    """As a shell starts jobs in the background."""
    signal.signal(signal.SIGINT, handler)
    end_on_interrupt()
    raise_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is handler
