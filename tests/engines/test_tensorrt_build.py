"""TensorRT engines built ahead of time: results, the cache, and every way a build can fail."""

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.base import AxisRange, Signature, TensorSpec
from xmask3d_rt.engines.compute_capability import find_gpu, parse_compute_capability
from xmask3d_rt.engines.stamp import read_stamp
from xmask3d_rt.engines.tensorrt_library import import_tensorrt
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends import tensorrt as tensorrt_build
from xmask3d_rt.export.backends.engine_cache import KEEP_PER_COMPONENT, EngineCache, hash_graph
from xmask3d_rt.export.backends.tensorrt import (
    TensorRtSettings,
    build_tensorrt,
    choose_target,
    describe_failure,
    list_profiles,
)

CHILD = tensorrt_build.child_command(Path("job.json"))[2]


@pytest.fixture(scope="module")
def library():
    try:
        found = import_tensorrt("tensorrt_rtx")
    except EngineError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture
def settings(library):
    return TensorRtSettings(
        Precision.FP32, compute_capability="8.9", library=library.name, threads=1
    )


@pytest.mark.trt
@pytest.mark.parametrize("capability", ["8.9", "sm_120"])
def test_build_writes_engine_and_stamp(
    library, settings, linear_onnx, linear_signature, tmp_path, capability
):
    settings = dataclasses.replace(settings, compute_capability=capability)
    output = tmp_path / "linear" / "model.engine"
    report = build_tensorrt("linear", linear_onnx, output, linear_signature, settings)
    assert report.size == output.stat().st_size > 1000
    assert report.target == f"sm_{parse_compute_capability(capability)}"
    assert report.library == f"tensorrt_rtx {library.version}"
    assert not report.from_cache
    assert report.host_bytes > 2**20
    stamp = read_stamp(output)
    assert (stamp.component, stamp.target, stamp.version) == (
        "linear",
        report.target,
        library.version,
    )
    assert stamp.profiles == ({"x": [[1, 5], [4, 5], [16, 5]]},)
    assert sorted(p.name for p in output.parent.iterdir()) == [
        "model.engine",
        "model.engine.json",
    ]


def test_the_building_process_leaves_torch_out():
    """It would take three seconds of a core and 300 MB beside every builder."""
    code = f"import sys, {CHILD}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.trt
def test_cache_hits_and_invalidation(
    settings, linear_onnx, linear_signature, tmp_path, monkeypatch
):
    graph, output = tmp_path / "model.onnx", tmp_path / "out" / "model.engine"
    graph.write_bytes(linear_onnx.read_bytes())

    def from_cache(signature=linear_signature, **changes):
        changed = dataclasses.replace(settings, **changes)
        report = build_tensorrt("linear", graph, output, signature, changed, tmp_path / "cache")
        return report.from_cache

    assert not from_cache()
    first = output.read_bytes()
    output.unlink()
    assert from_cache()
    assert output.read_bytes() == first
    assert from_cache(threads=2, verbose=True), "neither touches the engine"
    assert not from_cache(compute_capability="120")
    assert read_stamp(output).target == "sm_120"
    assert not from_cache(tf32=True)
    assert not from_cache(precision=Precision.FP16)
    narrow = dataclasses.replace(linear_signature, profile={"T": AxisRange(1, 2, 8)})
    assert not from_cache(narrow)
    monkeypatch.setattr(tensorrt_build, "RECIPE", -1)
    assert not from_cache()
    model = onnx.load(graph)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[::-1]
    onnx.save(model, graph)
    assert not from_cache()
    assert from_cache()


def test_key_depends_on_the_library_version(settings, library):
    stamp = tensorrt_build.BuildStamp(
        "c", library.name, library.version, "sm_89", settings.precision
    )
    keys = {
        tensorrt_build.make_key(tensorrt_build._key_values("graph", changed, settings))
        for changed in (stamp, dataclasses.replace(stamp, version="0.0"))
    }
    assert len(keys) == 2


def test_cache_ignores_damaged_entries_and_drops_old_ones(tmp_path):
    cache, engine = EngineCache(tmp_path / "cache"), tmp_path / "engine"
    engine.write_bytes(b"0123456789")
    cache.store("unet", "key", engine, {"layers": 3})
    assert cache.fetch("unet", "key", tmp_path / "out") == {"layers": 3}
    assert (tmp_path / "out").read_bytes() == b"0123456789"
    assert cache.fetch("unet", "other", tmp_path / "out") is None
    (tmp_path / "cache" / "unet-key.engine").write_bytes(b"cut")
    assert cache.fetch("unet", "key", tmp_path / "out") is None
    for i in range(KEEP_PER_COMPONENT + 2):
        cache.store("unet", f"new{i}", engine, {})
        time.sleep(0.01)
    cache.store("vae", "key", engine, {})
    names = {p.stem for p in (tmp_path / "cache").glob("unet-*.engine")}
    assert names == {f"unet-new{i + 2}" for i in range(KEEP_PER_COMPONENT)}
    assert cache.fetch("vae", "key", tmp_path / "out") == {}


def test_graph_hash_covers_external_data(tmp_path, linear_onnx):
    model = onnx.load(linear_onnx)
    onnx.save(
        model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0
    )
    first = hash_graph(tmp_path / "a.onnx")
    content = bytearray((tmp_path / "a.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "a.data").write_bytes(content)
    assert hash_graph(tmp_path / "a.onnx") != first


@pytest.mark.trt
def test_refused_graph_names_the_operator(settings, tmp_path, linear_signature):
    graph = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["y"], domain="nowhere", name="the_node")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    path = tmp_path / "bad.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    with pytest.raises(EngineError, match=r"(?s)bad: the TensorRT builder failed.*Mystery"):
        build_tensorrt("bad", path, tmp_path / "o" / "e", linear_signature, settings)
    assert list((tmp_path / "o").iterdir()) == []


@pytest.mark.trt
def test_memory_limit_says_what_to_lower(settings, linear_onnx, linear_signature, tmp_path):
    limited = dataclasses.replace(settings, host_memory_limit=2**20)
    with pytest.raises(EngineError, match=r"ran out of memory and was killed; lower --max-batch"):
        build_tensorrt("linear", linear_onnx, tmp_path / "e", linear_signature, limited)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "log", "message"),
    [
        (3, "[E] Error Code 2: OutOfMemory (Requested size was 8)", "ran out of memory; lower"),
        (1, "terminate called after throwing std::bad_alloc", "ran out of memory; lower"),
        (-9, "", "ran out of memory and was killed; lower"),
        (-11, "line", "crashed with SIGSEGV; build this component with another backend"),
        (3, "no such operator", "failed with status 3"),
    ],
)
def test_failures_are_named(status, log, message):
    text = describe_failure("unet", status, log)
    assert text.startswith(f"unet: the TensorRT builder {message}")
    assert (log or "(no output)") in text


CRASH = "import os, sys; print('last words', flush=True); os.abort()"


@pytest.mark.trt
def test_crash_of_the_builder_is_an_error(
    settings, linear_onnx, linear_signature, tmp_path, monkeypatch
):
    monkeypatch.setattr(tensorrt_build, "child_command", lambda job: [sys.executable, "-c", CRASH])
    with pytest.raises(EngineError, match=r"(?s)crashed with SIGABRT.*last words"):
        build_tensorrt("linear", linear_onnx, tmp_path / "e", linear_signature, settings)
    assert list(tmp_path.iterdir()) == []


HANG = """
import json, os, sys, time
job = json.load(open(sys.argv[1]))
open(job["output"], "wb").write(b"half an engine")
open(os.environ["MARK"], "w").write(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.trt
def test_interrupt_leaves_nothing(settings, linear_onnx, linear_signature, tmp_path, monkeypatch):
    mark, out = tmp_path / "pid", tmp_path / "out"
    monkeypatch.setenv("MARK", str(mark))
    monkeypatch.setattr(
        tensorrt_build, "child_command", lambda job: [sys.executable, "-c", HANG, str(job)]
    )

    def interrupt():
        while not (mark.is_file() and mark.read_text()):
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    out.mkdir()
    (out / "e").write_bytes(b"old engine")
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        build_tensorrt("linear", linear_onnx, out / "e", linear_signature, settings)
    thread.join()
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {"e": b"old engine"}
    assert not Path(f"/proc/{mark.read_text()}").exists()


@pytest.mark.trt
def test_target_rejected(settings, library):
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU to build for")
    assert choose_target(settings)[1] == "89"
    for changes, message in (
        ({"compute_capability": None}, r"no GPU.*--compute-capability, one of .*89, 120"),
        ({"compute_capability": "5.0"}, r"does not build for compute capability 50 here; .*89"),
        ({"compute_capability": "new"}, r"compute capability 'new' is not of the form 8\.9"),
        ({"library": "tensorflow"}, "unknown TensorRT library 'tensorflow'"),
    ):
        with pytest.raises(EngineError, match=message):
            choose_target(dataclasses.replace(settings, **changes))


@pytest.mark.trt
def test_replaceable_weights_need_a_gpu(settings, linear_onnx, linear_signature, tmp_path):
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    for changes in ({"refit": True}, {"strip_weights": True}):
        with pytest.raises(EngineError, match="needs a GPU to build an engine whose weights"):
            build_tensorrt(
                "linear",
                linear_onnx,
                tmp_path / "e",
                linear_signature,
                dataclasses.replace(settings, **changes),
            )


def test_missing_library_rejected(monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"backend tensorrt is not installed .*tensorrt-rtx"):
        import_tensorrt()


def test_shell_of_a_library_rejected(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", json)
    with pytest.raises(EngineError, match="tensorrt: holds no Builder"):
        import_tensorrt("tensorrt")


@pytest.mark.parametrize("text", ["8.9", "89", "sm_89", "SM89"])
def test_compute_capability_forms(text):
    assert parse_compute_capability(text) == "89"


def test_profiles_of_a_batch_axis():
    signature = Signature(
        inputs=(TensorSpec("image", "float32", ("B", 3)), TensorSpec("bias", "float32", (3,))),
        outputs=(TensorSpec("y", "float32", ("B", 3)),),
        profile={"B": AxisRange(1, 1, 4)},
    )
    assert list_profiles(signature) == [
        {"image": [[1, 3], [1, 3], [1, 3]]},
        {"image": [[1, 3], [4, 3], [4, 3]]},
    ]
    static = dataclasses.replace(signature, profile={"B": AxisRange(1, 1, 1)})
    assert list_profiles(static) == []
