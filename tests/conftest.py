"""Settings of the whole suite."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from filelock import FileLock

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """One thread per process, except for the full-size tests.

    Small operators that all take every core spend their time waiting for each other: with two
    workers on a loaded machine the suite took 9 minutes in place of one.
    """
    if config.option.markexpr != "full":
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
    # A shell starts background jobs with Ctrl-C ignored, and so would be every process that a
    # test starts to interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the reference data in ../shared, which is not part of the package")
    return SHARED


@pytest.fixture(scope="session")
def tiny_engines() -> Path:
    """An engine directory of the tiny preset: ONNX Runtime, fp32, synthetic weights.

    Kept between runs and shared by the workers; a build does only what its fingerprints ask for.
    """
    from xmask3d_rt.config import get_preset
    from xmask3d_rt.export.build.directory import build_engines
    from xmask3d_rt.export.build.weights import SyntheticWeights

    out = ROOT / ".pytest_cache" / "engines-tiny"
    out.parent.mkdir(exist_ok=True)
    with FileLock(f"{out}.lock"):
        build_engines(
            out,
            get_preset("tiny"),
            SyntheticWeights(),
            backend="onnxruntime",
            precision="fp32",
            device="cpu",
            replace=True,  # of an older configuration
        )
    return out


@pytest.fixture(scope="session")
def traced_graphs(tmp_path_factory) -> Path:
    """Where `traced_once` keeps graphs."""
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(scope="module")
def traced_once(traced_graphs):
    """Equal modules are traced once a session: for tests of what becomes of the graphs."""
    from tests.kept_traces import hash_module
    from xmask3d_rt.export.build import engine

    trace = engine.export_onnx

    def trace_once(module, contract, inputs, folder):
        kept = traced_graphs / hash_module(module, (contract, [x.shape for x in inputs]))
        if not kept.is_dir():
            path = trace(module, contract, inputs, folder)
            shutil.copytree(folder, kept)
            return path
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        return folder / "model.onnx"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "export_onnx", trace_once)
        yield
