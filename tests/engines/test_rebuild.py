"""Rebuilding engines that were built for something else."""

import dataclasses
import shutil

import pytest
import torch

from xmask3d_rt import Segmenter
from xmask3d_rt.config import get_preset
from xmask3d_rt.engines import Manifest, WeightSource
from xmask3d_rt.engines import rebuild as rebuild_module
from xmask3d_rt.engines.files import FileEntry
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.engines.rebuild import make_command, rebuild_component
from xmask3d_rt.errors import EngineError, StaleEngineError
from xmask3d_rt.export.build.directory import build_engines
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.system.processes import Outcome

CPU = torch.device("cpu")


@pytest.fixture
def engines(tiny_engines, tmp_path):
    out = tmp_path / "engines"
    shutil.copytree(tiny_engines, out)
    return out


def test_segmenter_rebuilds_a_stale_engine(engines, monkeypatch):
    opened = []
    original = rebuild_module.open_engine

    def open_once_stale(manifest, name, *args):
        opened.append(name)
        if name == "mask_clip" and opened.count(name) == 1:
            raise StaleEngineError("mask_clip was built with torch 1.0")
        return original(manifest, name, *args)

    monkeypatch.setattr(rebuild_module, "open_engine", open_once_stale)
    with pytest.raises(StaleEngineError, match="built with torch 1"):
        Segmenter(engines, device="cpu", threads=1)
    opened.clear()
    before = (engines / "mask_clip" / "model.onnx").stat().st_mtime_ns
    segmenter = Segmenter(engines, device="cpu", threads=1, rebuild=True)
    assert opened.count("mask_clip") == 2
    assert (engines / "mask_clip" / "model.onnx").stat().st_mtime_ns > before
    assert segmenter.manifest == Manifest.load(engines)
    assert set(segmenter.engines) >= {"unet", "mask_clip"}


def test_failed_build_is_an_error(engines, monkeypatch):
    failed = Outcome(2, stdout="", stderr="first\nerror: disk is full\n")
    monkeypatch.setattr(rebuild_module, "run_command", lambda command: failed)
    with pytest.raises(EngineError, match=r"rebuilding unet of .* failed: error: disk is full"):
        rebuild_component(Manifest.load(engines), "unet", CPU)


def test_weight_files_are_asked_for(manifest):
    entries = (FileEntry("b15n4.pth.tar", 1, "aa"), FileEntry("sd.ckpt", 1, "bb"))
    files = dataclasses.replace(manifest, weights=WeightSource("files", entries))
    with pytest.raises(EngineError, match=r"weight files \(b15n4\.pth\.tar, sd\.ckpt\); pass"):
        make_command(files, "linear", CPU, {"sd": "sd.ckpt"})
    paths = {"checkpoint": "a.pth", "sd": "b.ckpt", "clip": "c.pt"}
    command = make_command(files, "linear", CPU, paths)
    assert command[-6:] == ["--checkpoint", "a.pth", "--sd", "b.ckpt", "--clip", "c.pt"]
    assert "--weights" not in command


def test_other_configuration_rejected(manifest):
    config = dataclasses.replace(get_preset("tiny"), voxel_size=0.1)
    with pytest.raises(EngineError, match="a configuration that is no preset; build it again"):
        make_command(dataclasses.replace(manifest, config=config), "linear", CPU)


def test_rebuild_keeps_the_options(engines):
    """A --max-batch 4 engine came back with 1."""
    build_engines(
        engines,
        get_preset("tiny"),
        SyntheticWeights(),
        backend="onnxruntime",
        precision="fp32",
        device="cpu",
        only=("mask_clip",),
        options=BuildOptions(max_batch=4),
    )
    before = Manifest.load(engines)
    after = rebuild_component(before, "mask_clip", CPU)
    part = after.get("mask_clip")
    assert part.signature.profile["B"].max == 4
    assert part.options.max_batch == 4
    assert part.fingerprint == before.get("mask_clip").fingerprint


def test_plain_weights_are_rebuilt_without_a_backend(manifest):
    command = make_command(manifest, "heads", CPU)
    assert "torch" not in command
    assert command[-2:] == ["--weights", "synthetic"]
