"""The same `infer` through every backend, and the errors of a wrong call."""

import dataclasses
import sys
import threading

import numpy as np
import pytest
import torch

from xmask3d_rt.config import Precision
from xmask3d_rt.engines import AxisRange, Engine, Signature, TensorSpec, open_engine, pick_device
from xmask3d_rt.engines.onnxruntime import OnnxRuntimeEngine
from xmask3d_rt.engines.openvino import OpenVinoEngine
from xmask3d_rt.errors import EngineError

CPU = torch.device("cpu")


@pytest.fixture(params=[OnnxRuntimeEngine, OpenVinoEngine])
def engine(request, linear_onnx, linear_signature):
    pytest.importorskip(request.param.backend)
    with request.param("linear", linear_onnx, linear_signature, CPU, threads=1) as engine:
        yield engine


def expected(weights, x):
    x = np.asarray(x)
    return x @ weights[0] + weights[1], np.abs(x).sum(axis=1)


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_outputs_match_numpy(engine, linear_weights, rows):
    x = np.random.default_rng(rows).standard_normal((rows, 5), dtype=np.float32)
    out = engine.infer({"x": x})
    y, z = expected(linear_weights, x)
    assert list(out) == ["y", "z"]
    np.testing.assert_allclose(out["y"].numpy(), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out["z"].numpy(), z, rtol=1e-5, atol=1e-6)


def test_torch_and_strided_inputs(engine, linear_weights):
    base = torch.randn(8, 10, generator=torch.Generator().manual_seed(1))
    strided = base[::2, ::2]
    y, _ = expected(linear_weights, strided)
    np.testing.assert_allclose(engine.infer({"x": strided})["y"], y, rtol=1e-5, atol=1e-6)
    reversed_rows = strided.numpy()[::-1]
    y, _ = expected(linear_weights, reversed_rows)
    np.testing.assert_allclose(engine.infer({"x": reversed_rows})["y"], y, rtol=1e-5, atol=1e-6)


def test_outputs_belong_to_the_caller(engine):
    x = np.ones((2, 5), np.float32)
    first = engine.infer({"x": x})["y"]
    kept = first.clone()
    engine.infer({"x": 3 * x})
    assert torch.equal(first, kept)


def test_results_land_in_the_buffers_of_the_caller(engine, linear_weights):
    x = np.random.default_rng(7).standard_normal((3, 5), dtype=np.float32)
    out = {"z": torch.full((3,), torch.nan), "y": torch.full((3, 3), torch.nan)}
    for feed in (x, 2 * x):
        found = engine.infer({"x": feed}, out)
        assert list(found) == ["y", "z"]
        assert found["y"] is out["y"]
        for name, want in zip(found, expected(linear_weights, feed), strict=True):
            np.testing.assert_allclose(out[name].numpy(), want, rtol=1e-5, atol=1e-6)
    assert torch.equal(out["y"], engine.infer({"x": 2 * x})["y"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"w": torch.zeros(2)}, r"unknown output 'w'; outputs: y \[T, 3\] float32, z"),
        ({"y": None}, r"no buffer for output 'y'"),
        ({"y": torch.zeros(2, 4)}, r"'y' must be contiguous \[2, 3\] float32 .*got \[2, 4\]"),
        ({"y": torch.zeros(2, 3).double()}, "got .*float64"),
        ({"y": torch.zeros(2, 3, device="meta")}, "got .* on meta"),
        ({"y": torch.zeros(3, 2).T}, r"strides \[1, 2\]"),
    ],
)
def test_wrong_buffers_rejected(engine, changed, message):
    out = {"y": torch.zeros(2, 3), "z": torch.zeros(2)} | changed
    out = {name: buffer for name, buffer in out.items() if buffer is not None}
    with pytest.raises(EngineError, match=message):
        engine.infer({"x": np.ones((2, 5), np.float32)}, out)


def test_only_engines_that_queue_may_be_captured():
    from xmask3d_rt.engines.inductor import InductorEngine
    from xmask3d_rt.engines.tensorrt import TensorRtEngine

    assert TensorRtEngine.capturable
    assert InductorEngine.capturable
    assert not OnnxRuntimeEngine.capturable
    assert not OpenVinoEngine.capturable


def test_concurrent_calls_agree(engine, linear_weights):
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal((4, 5), dtype=np.float32) for _ in range(16)]
    results = [None] * len(inputs)

    def work(start):
        for i in range(start, len(inputs), 4):
            results[i] = engine.infer({"x": inputs[i]})["y"].numpy()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, y in zip(inputs, results, strict=True):
        np.testing.assert_allclose(y, expected(linear_weights, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"missing input 'x'; inputs: x \[T, 5\] float32"),
        ({"x": np.ones((2, 5), np.float32), "w": 1}, r"unknown input 'w'"),
        ({"x": np.ones((2, 4), np.float32)}, r"x \[T, 5\] float32 got shape \[2, 4\]"),
        ({"x": np.ones(5, np.float32)}, r"got shape \[5\]"),
        ({"x": np.ones((2, 5))}, "got dtype float64"),
        ({"x": [[1.0] * 5]}, "must be a torch tensor or numpy array, got list"),
        ({"x": np.ones((17, 5), np.float32)}, "axis T .* is 17, .*min 1, opt 4, max 16"),
    ],
)
def test_wrong_call_rejected(engine, feeds, message):
    with pytest.raises(EngineError, match=message):
        engine.infer(feeds)


def test_axis_shared_by_inputs_rejected(linear_onnx):
    from xmask3d_rt.engines.base import bind_axes

    signature = Signature(
        inputs=(TensorSpec("a", "float32", ("T",)), TensorSpec("b", "float32", ("T", 2))),
        outputs=(),
        profile={"T": AxisRange(1, 2, 4)},
    )
    with pytest.raises(EngineError, match="axis T is 3 in one input and 2 in b"):
        bind_axes("pair", signature, {"a": (3,), "b": (2, 2)})


def test_closed_engine_rejected(engine):
    engine.close()
    with pytest.raises(EngineError, match="closed engine"):
        engine.infer({"x": np.ones((1, 5), np.float32)})


def test_unbound_axis_rejected():
    with pytest.raises(EngineError, match="axis Q appears in no input"):
        Signature((), (TensorSpec("y", "float32", ("Q",)),), {})
    with pytest.raises(EngineError, match="axis T has no range"):
        Signature((TensorSpec("x", "float32", ("T",)),), (), {})
    with pytest.raises(EngineError, match="unknown dtype 'float31'"):
        TensorSpec("x", "float31", ())
    with pytest.raises(EngineError, match="min <= opt <= max"):
        AxisRange(2, 1, 3)


@pytest.mark.parametrize("kind", [OnnxRuntimeEngine, OpenVinoEngine])
def test_broken_file_rejected(kind, tmp_path, linear_signature):
    pytest.importorskip(kind.backend)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"linear: .* cannot (load|compile) .*model\.onnx"):
        kind("linear", path, linear_signature, CPU)


@pytest.mark.parametrize("kind", [OnnxRuntimeEngine, OpenVinoEngine])
def test_missing_backend_says_what_to_install(kind, monkeypatch, linear_onnx, linear_signature):
    monkeypatch.setitem(sys.modules, kind.backend, None)
    with pytest.raises(EngineError, match=rf"{kind.backend} is not installed; pip install onnxr"):
        kind("linear", linear_onnx, linear_signature, CPU)


def test_gpu_without_provider_rejected(linear_onnx, linear_signature):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has a CUDA provider")
    with pytest.raises(EngineError, match=r"cannot run on cuda.*CPUExecutionProvider"):
        OnnxRuntimeEngine("linear", linear_onnx, linear_signature, torch.device("cuda", 0))


def test_openvino_rejects_gpu_and_fp16(linear_onnx, linear_signature):
    pytest.importorskip("openvino")
    with pytest.raises(EngineError, match="runs on the cpu"):
        OpenVinoEngine("linear", linear_onnx, linear_signature, torch.device("cuda", 0))
    with pytest.raises(EngineError, match="has no fp16; choose one of fp32, bf16"):
        OpenVinoEngine("linear", linear_onnx, linear_signature, CPU, Precision.FP16)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_open_engine_follows_the_manifest(manifest, linear_weights, backend):
    pytest.importorskip(backend)
    component = dataclasses.replace(manifest.get("linear"), backend=backend)
    manifest.components["linear"] = component
    x = np.ones((2, 5), np.float32)
    with open_engine(manifest, "linear", "cpu", threads=1) as engine:
        assert engine.backend == backend
        np.testing.assert_allclose(
            engine.infer({"x": x})["y"], expected(linear_weights, x)[0], rtol=1e-5
        )


def test_open_engine_rejected(manifest):
    with pytest.raises(EngineError, match=r"no component 'unet' \(it has heads, linear\)"):
        open_engine(manifest, "unet", "cpu")
    with pytest.raises(EngineError, match="plain weights"):
        open_engine(manifest, "heads", "cpu")
    manifest.components["linear"] = dataclasses.replace(manifest.get("linear"), backend="abacus")
    with pytest.raises(EngineError, match="backend 'abacus'; this version has tensorrt, openvino"):
        open_engine(manifest, "linear", "cpu")


def test_device_names():
    assert pick_device("cpu") == CPU
    with pytest.raises(EngineError, match="unknown device 'gpu'"):
        pick_device("gpu")
    with pytest.raises(EngineError, match="unknown device 'meta'"):
        pick_device("meta")
    with pytest.raises(EngineError, match=r"cuda:99 asked for, \d+ CUDA"):
        pick_device("cuda:99")


@pytest.mark.parametrize(("backend", "expected"), [("onnxruntime", "cuda"), ("openvino", "cpu")])
def test_auto_device_follows_the_engines(manifest, monkeypatch, backend, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    manifest.components["linear"] = dataclasses.replace(manifest.get("linear"), backend=backend)
    assert pick_device("auto", manifest).type == expected
    assert pick_device("auto").type == "cuda"


class Recorded(torch.Tensor):
    """A tensor that says whether copies of it may go on behind the call."""

    modes: list[bool]

    def detach(self):
        return self

    def to(self, device, non_blocking=False):
        self.modes.append(non_blocking)
        return self


def make_recorded(cuda=False, pinned=False):
    class Tensor(Recorded):
        is_cuda = property(lambda self: cuda)

        def is_pinned(self):
            return pinned

    Tensor.modes = []
    return torch.ones(2, 5).as_subclass(Tensor)


@pytest.mark.parametrize(
    ("device", "tensor", "expected"),
    [
        ("cpu", {"cuda": True}, False),  # the host would read it before it has landed
        ("cpu", {}, False),
        ("cuda", {}, True),
        ("cuda", {"cuda": True}, True),
        ("cuda", {"pinned": True}, False),  # the caller may overwrite it right after the call
    ],
)
def test_copies_that_nobody_waits_for(linear_signature, device, tensor, expected):
    class Idle(Engine):
        def _run(self, inputs, outputs):
            """Nothing."""

    recorded = make_recorded(**tensor)
    Idle("linear", linear_signature, torch.device(device))._place(recorded)
    assert recorded.modes == [expected]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [OnnxRuntimeEngine, OpenVinoEngine])
def test_a_tensor_of_the_gpu_has_landed_before_a_cpu_engine_reads_it(
    kind, linear_onnx, linear_signature, linear_weights
):
    pytest.importorskip(kind.backend)
    with kind("linear", linear_onnx, linear_signature, CPU, threads=1) as engine:
        busy = torch.randn(4096, 4096, device="cuda")
        for seed in range(5):
            x = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed))
            for _ in range(20):
                busy = busy @ busy / 4096
            late = x.cuda(non_blocking=True) + 0 * busy[0, 0].nan_to_num(0, 0, 0)
            found = engine.infer({"x": late})["y"]
            np.testing.assert_allclose(found, expected(linear_weights, x)[0], rtol=1e-4, atol=1e-5)
