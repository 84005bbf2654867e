"""Loading TensorRT engines: what is checked before the library sees the file; runs on a GPU."""

import dataclasses
import sys
import threading
import types

import numpy as np
import pytest
import torch
from fuzzing import assert_clear

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.compute_capability import find_gpu
from xmask3d_rt.engines.stamp import BuildStamp, read_stamp, stamp_path
from xmask3d_rt.engines.tensorrt import TensorRtEngine, pick_profile
from xmask3d_rt.engines.tensorrt_library import import_tensorrt
from xmask3d_rt.errors import EngineError, StaleEngineError
from xmask3d_rt.export.backends.tensorrt import TensorRtSettings, build_tensorrt

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
REBUILD = r"rebuild it with .*`xmask3d build .*--out .* --only linear --backend tensorrt"


@pytest.fixture
def built(tmp_path, linear_onnx, linear_signature):
    """An engine for the GPU at hand, or for SM 89 where there is none."""
    try:
        import_tensorrt()
    except EngineError as error:
        pytest.skip(str(error))
    path = tmp_path / "engines" / "linear" / "model.engine"
    capability = None if find_gpu() else "8.9"
    settings = TensorRtSettings(Precision.FP32, compute_capability=capability, threads=1)
    build_tensorrt("linear", linear_onnx, path, linear_signature, settings)
    return path


@pytest.mark.trt
def test_cpu_rejected(built, linear_signature):
    with pytest.raises(EngineError, match=r"TensorRT engine for sm_\d+ and cannot run on cpu; .*"):
        TensorRtEngine("linear", built, linear_signature, CPU, Precision.FP32)


@pytest.mark.trt
def test_machine_without_gpu_rejected(built, linear_signature):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match=r"cannot run on cuda:0; use a machine with an NVIDIA"):
        TensorRtEngine("linear", built, linear_signature, CUDA, Precision.FP32)


@pytest.mark.trt
def test_other_version_rejected(built, linear_signature):
    stamp = read_stamp(built)
    dataclasses.replace(stamp, version="1.0.0.1").save(built)
    message = rf"was built with {stamp.library} 1\.0\.0\.1, installed is .*{REBUILD}"
    with pytest.raises(EngineError, match=message):
        TensorRtEngine("linear", built, linear_signature, CPU, Precision.FP32)


@pytest.mark.trt
def test_other_library_rejected(built, linear_signature, monkeypatch):
    other = types.ModuleType("tensorrt")
    other.Builder, other.__version__ = object, "12.0"
    installed = read_stamp(built).library
    monkeypatch.setitem(sys.modules, "tensorrt", other)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    if installed == "tensorrt":
        pytest.skip("the engine was built with tensorrt itself")
    message = rf"was built with {installed} .*, installed is tensorrt 12\.0; {REBUILD}"
    with pytest.raises(EngineError, match=message):
        TensorRtEngine("linear", built, linear_signature, CPU, Precision.FP32)


@pytest.mark.trt
def test_other_precision_rejected(built, linear_signature):
    message = rf"computes in fp32, its manifest says fp16; {REBUILD} --precision fp16 --force"
    with pytest.raises(EngineError, match=message):
        TensorRtEngine("linear", built, linear_signature, CPU, Precision.FP16)


@pytest.mark.trt
@pytest.mark.parametrize("content", [None, "{", "{}", '{"precision": "fp31"}'])
def test_missing_or_damaged_stamp_rejected(built, linear_signature, content):
    if content is None:
        stamp_path(built).unlink()
    else:
        stamp_path(built).write_text(content)
    with pytest.raises(EngineError, match=r"no readable stamp model\.engine\.json .*; rebuild"):
        TensorRtEngine("linear", built, linear_signature, CPU, Precision.FP32)


def test_other_gpu_rejected(tmp_path):
    stamp = BuildStamp("linear", "tensorrt_rtx", "1.7", "sm_89", Precision.FP16)
    path = tmp_path / "linear" / "model.engine"
    stamp.check(path, "tensorrt", "tensorrt_rtx", "1.7", "sm_89", Precision.FP16)
    with pytest.raises(EngineError, match=rf"was built for sm_89, this device is sm_90; {REBUILD}"):
        stamp.check(path, "tensorrt", "tensorrt_rtx", "1.7", "sm_90", Precision.FP16)


def test_stamp_round_trip(tmp_path):
    profiles = ({"x": [[1, 5], [4, 5], [16, 5]]},)
    stamp = BuildStamp("c", "torch", "2.13", "cpu", Precision.BF16, "model.onnx", profiles)
    stamp.save(tmp_path / "model.engine")
    assert read_stamp(tmp_path / "model.engine") == stamp


def test_profile_choice():
    profiles = ({"x": [[1, 3]] * 3}, {"x": [[1, 3], [4, 3], [4, 3]]})
    stamp = BuildStamp("unet", "tensorrt", "11", "sm_90", Precision.FP16, profiles=profiles)
    assert pick_profile(stamp, {"x": torch.zeros(1, 3)}) == 0
    assert pick_profile(stamp, {"x": torch.zeros(3, 3)}) == 1
    assert pick_profile(dataclasses.replace(stamp, profiles=()), {"x": torch.zeros(9)}) == 0
    with pytest.raises(EngineError, match=r"unet: inputs \{'x': \[5, 3\]\} fit none .*--max-batch"):
        pick_profile(stamp, {"x": torch.zeros(5, 3)})


@pytest.fixture
def engine(built, linear_signature, tmp_path):
    with TensorRtEngine(
        "linear", built, linear_signature, CUDA, Precision.FP32, tmp_path / "cache"
    ) as engine:
        yield engine


def expected(weights, x):
    return x @ weights[0] + weights[1]


@pytest.mark.gpu
@pytest.mark.trt
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_outputs_match_numpy(engine, linear_weights, rows):
    x = np.random.default_rng(rows).standard_normal((rows, 5), dtype=np.float32)
    out = engine.infer({"x": x})
    assert out["y"].device == CUDA
    np.testing.assert_allclose(out["y"].cpu(), expected(linear_weights, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out["z"].cpu(), np.abs(x).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.trt
def test_concurrent_streams_agree(engine, linear_weights):
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal((4, 5), dtype=np.float32) for _ in range(32)]
    results = [None] * len(inputs)

    def work(start):
        with torch.cuda.stream(torch.cuda.Stream(CUDA)):
            for i in range(start, len(inputs), 4):
                results[i] = engine.infer({"x": inputs[i]})["y"].cpu().numpy()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, y in zip(inputs, results, strict=True):
        np.testing.assert_allclose(y, expected(linear_weights, x), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.trt
def test_cuda_graph(engine, linear_weights):
    x = torch.randn(4, 5, device=CUDA)
    engine.infer({"x": x})
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = engine.infer({"x": x})["y"]
    for seed in range(3):
        fresh = np.random.default_rng(seed).standard_normal((4, 5), dtype=np.float32)
        x.copy_(torch.from_numpy(fresh))
        graph.replay()
        torch.cuda.synchronize()
        np.testing.assert_allclose(
            captured.cpu(), expected(linear_weights, fresh), rtol=1e-4, atol=1e-5
        )


@pytest.mark.gpu
@pytest.mark.trt
def test_graphs_of_several_buffers_keep_apart(engine, linear_weights):
    """A graph stays what it is while the engine is called with other buffers and sizes."""
    captured = []
    for rows in (4, 2, 4):
        x = torch.zeros(rows, 5, device=CUDA)
        out = {"y": torch.empty(rows, 3, device=CUDA), "z": torch.empty(rows, device=CUDA)}
        engine.infer({"x": x}, out)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            engine.infer({"x": x}, out)
        captured.append((graph, x, out["y"]))
    for graph, x, y in captured:
        fresh = np.random.default_rng(len(x)).standard_normal(tuple(x.shape), dtype=np.float32)
        x.copy_(torch.from_numpy(fresh))
        graph.replay()
        torch.cuda.synchronize()
        np.testing.assert_allclose(y.cpu(), expected(linear_weights, fresh), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.trt
def test_truncated_engine_rejected(built, linear_signature):
    built.write_bytes(built.read_bytes()[:1000])
    with pytest.raises(EngineError, match=rf"linear: TensorRT cannot load .*; {REBUILD}"):
        TensorRtEngine("linear", built, linear_signature, CUDA, Precision.FP32)


def test_other_processor_rejected(tmp_path):
    stamp = BuildStamp("linear", "torch", "2", "cpu avx2", Precision.FP32, instructions=("a", "b"))
    path = tmp_path / "linear" / "model.pt2"
    stamp.check_instructions(path, "inductor", ("a", "b", "c"))
    dataclasses.replace(stamp, instructions=()).check_instructions(path, "inductor", ())
    message = r"was built for a processor with b, which this one lacks; .*--backend inductor"
    with pytest.raises(StaleEngineError, match=message):
        stamp.check_instructions(path, "inductor", ("a", "c"))


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"precision": "fp31"}', '{"component": 7}', None, "\x00"]
)
def test_damaged_stamp_is_stale(tmp_path, content):
    """So that a rebuild mends it."""
    path = tmp_path / "linear" / "model.engine"
    path.parent.mkdir()
    if content is not None:
        stamp_path(path).write_text(content)
    with pytest.raises(
        StaleEngineError, match=r"has no readable stamp model\.engine\.json"
    ) as caught:
        read_stamp(path)
    assert_clear(caught.value, path)
