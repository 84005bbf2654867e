"""Doctor: every backend is tried, and one that fails says why."""

import json

import pytest
import torch

from xmask3d_rt import doctor


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
    assert state.detail == "not installed; pip install 'xmask3d_rt[cpu]'"


def test_both_onnxruntimes_are_named_as_the_fault(monkeypatch):
    monkeypatch.setattr(doctor, "find_version", lambda *names: "1.31.1")
    state = doctor.try_backend("onnxruntime", doctor._probe_onnxruntime)
    assert "break each other" in state.detail


def test_crash_of_a_library_stays_in_the_child(monkeypatch):
    monkeypatch.setattr(doctor, "find_version", lambda *names: "1.7")
    monkeypatch.setattr(doctor, "TENSORRT_PROBE", "import os; os.abort()  # {module}")
    state = doctor.try_backend("tensorrt_rtx", lambda: doctor._probe_tensorrt("tensorrt_rtx"))
    assert not state.works
    assert "ended with code" in state.detail


def test_broken_import_is_a_reason():
    def probe():
        raise ImportError("libcudart.so.13: cannot open shared object file\nmore")

    state = doctor.try_backend("x", probe)
    assert state.detail == "ImportError: libcudart.so.13: cannot open shared object file"


def test_find_version_names_the_other_distribution():
    assert doctor.find_version("no-such-thing", "torch") == f"{torch.__version__} (torch)"
    assert doctor.find_version("no-such-thing") is None


def test_wrong_numbers_do_not_count_as_working():
    with pytest.raises(doctor.Unavailable, match="wrong numbers"):
        doctor._check_relu(torch.tensor([0.0, 3.0]))
