"""Doctor: every backend is tried, and one that fails says why."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
import torch

from xmask3d_rt.cli import doctor


def test_diagnosis_is_plain_values():
    diagnosis = doctor.diagnose()
    values = json.loads(json.dumps(diagnosis.to_dict()))
    assert values["libraries"]["torch"] == torch.__version__
    assert len(values["gpus"]) == torch.cuda.device_count()
    states = {backend["name"]: backend for backend in values["backends"]}
    assert states["cuda"]["works"] == torch.cuda.is_available()
    assert all(backend["detail"] for backend in states.values())
    assert {"onnxruntime", "openvino", "inductor", "tensorrt", "tensorrt_rtx"} <= set(states)


def test_onnxruntime_really_runs(monkeypatch):
    pytest.importorskip("onnxruntime")
    state = doctor.try_backend("onnxruntime", doctor._probe_onnxruntime)
    assert state.works, state.detail
    monkeypatch.setattr(doctor, "_make_graph", lambda: b"no graph")
    state = doctor.try_backend("onnxruntime", doctor._probe_onnxruntime)
    assert not state.works
    assert state.detail


def test_missing_library_says_how_to_install(monkeypatch):
    monkeypatch.setattr(doctor, "find_version", lambda *names: None)
    state = doctor.try_backend("openvino", doctor._probe_openvino)
    assert not state.works
    assert state.detail == "not installed; pip install onnxruntime openvino"


def test_both_onnxruntimes_are_named_as_the_fault(monkeypatch):
    monkeypatch.setattr(doctor, "find_version", lambda *names: "1.31.1")
    state = doctor.try_backend("onnxruntime", doctor._probe_onnxruntime)
    assert "break each other" in state.detail


BROKEN = {
    "crash": ("import os; os.abort()", "the library ended its process with signal SIGABRT"),
    "exit": ("raise SystemExit('licence')", "SystemExit: licence"),
    "hard exit": ("import os; os._exit(3)", "the library ended its process with exit code 3"),
    "missing file": ("raise OSError('libx.so: no such file\\nmore')", "OSError: libx.so: no such"),
    "old": ("raise RuntimeError('built for numpy 1')", "RuntimeError: built for numpy 1"),
    "hang": ("import time; time.sleep(300)", "no answer within 5 s: the library or its driver"),
    "noise": ("print('xmask3d', end=''); raise ImportError('\x1b[31m\xff')", "ImportError: \\x1b"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_library_is_one_line(fault, tmp_path, monkeypatch):
    code, reason = BROKEN[fault]
    (tmp_path / "openvino.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT", 5 if fault == "hang" else 60)
    states = doctor.run_probes(["openvino", "tensorrt"])
    assert states["openvino"].detail.startswith(reason)
    assert states["openvino"].detail.isprintable()
    assert not any(state.works for state in states.values())
    assert states["tensorrt"].detail == "not installed"  # the others are still tried


def test_broken_torch_leaves_a_diagnosis(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "PROBE_GROUPS", (("gpus", "cuda"),))
    diagnosis = doctor.diagnose()
    assert diagnosis.gpus == ("unknown: the library ended its process with signal SIGABRT",)
    assert not diagnosis.backends[0].works


def test_command_reports_where_torch_crashes(tmp_path):
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = "from xmask3d_rt.cli.commands import main; main()"
    command = [sys.executable, "-c", code, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    states = {state["name"]: state for state in json.loads(done.stdout)["backends"]}
    assert states["cuda"]["detail"] == "the library ended its process with signal SIGABRT"
    assert states["onnxruntime"]["works"]


SICK_TOOLS = {
    "hangs": ("sleep 300", "unknown: nvidia-smi does not answer within 1 s; restart the machine"),
    "fails": (
        "echo 'NVIDIA-SMI has failed'; echo more; exit 9",
        "none: nvidia-smi ended with exit code 9 and said 'NVIDIA-SMI has failed'; reinstall the "
        "driver",
    ),
    "fails in silence": (
        "exit 1",
        "none: nvidia-smi ended with exit code 1 and said 'nothing'; reinstall the driver",
    ),
    "crashes": (
        "kill -SEGV $$",
        "none: nvidia-smi ended with signal SIGSEGV and said 'nothing'; reinstall the driver",
    ),
    "garbage": ("printf 'a\\033b\\377'", "unknown: nvidia-smi said 'a\\\\x1bb\ufffd', no version"),
    "silent": ("exit 0", "unknown: nvidia-smi said 'nothing', no version"),
    "works": ("echo 580.65.06; echo 580.65.06", "580.65.06"),
}


@pytest.mark.parametrize("kind", SICK_TOOLS)
def test_sick_nvidia_smi_is_one_line(kind, tmp_path, monkeypatch):
    script, expected = SICK_TOOLS[kind]
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "TOOL_TIMEOUT", 1)
    assert doctor.describe_system()["nvidia driver"] == expected


def test_nvidia_smi_that_is_no_program(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    driver = doctor.describe_system()["nvidia driver"]
    assert "cannot run" in driver
    assert "Exec format error" in driver


def test_broken_import_is_a_reason():
    def probe():
        raise ImportError("libcudart.so.13: cannot open shared object file\nmore")

    state = doctor.try_backend("x", probe)
    assert state.detail == "ImportError: libcudart.so.13: cannot open shared object file"


def test_find_version_names_the_other_distribution():
    assert doctor.find_version("no-such-thing", "torch") == f"{torch.__version__} (torch)"
    assert doctor.find_version("no-such-thing") is None


def test_damaged_metadata_of_a_library(monkeypatch):
    def fail(name):
        raise KeyError("Version")

    monkeypatch.setattr(importlib.metadata, "version", fail)
    assert doctor.find_version("torch") == "unreadable: 'Version'"


def test_wrong_numbers_do_not_count_as_working():
    with pytest.raises(doctor.Unavailable, match="wrong numbers"):
        doctor._check_relu(torch.tensor([0.0, 3.0]))
