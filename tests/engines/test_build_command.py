"""Hints and rebuilds name the whole command, and following one harms nothing."""

import dataclasses
import json
import shlex

import pytest

from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines import Manifest, WeightSource
from xmask3d_rt.engines.build_command import format_command, list_arguments
from xmask3d_rt.engines.files import FileEntry
from xmask3d_rt.engines.manifest import MANIFEST_NAME, describe_rebuild, salvage
from xmask3d_rt.engines.options import MIB, BuildOptions, default_cache_dir
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.build_engines import app
from xmask3d_rt.nets.heads import HEAD_TENSORS, Heads
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet

FILES = tuple(FileEntry(name, 1, 64 * "a") for name in ("b15n4.pth.tar", "sd.ckpt", "my clip.pt"))
OPTIONS = BuildOptions(
    compute_capability="8.9",
    max_batch=4,
    refit=True,
    strip_weights=True,
    tf32=True,
    workspace=512 * MIB,
)


@pytest.fixture
def real(manifest):
    """The manifest of a directory of b15n4 with weight files and every option."""
    linear = dataclasses.replace(
        manifest.get("linear"),
        backend="tensorrt",
        precision=Precision.FP16,
        options=OPTIONS,
        device="cuda",
    )
    heads = dataclasses.replace(manifest.get("heads"), options=OPTIONS, device="cuda")
    changed = dataclasses.replace(
        manifest,
        config=get_preset("b15n4"),
        weights=WeightSource("files", FILES),
        components={"linear": linear, "heads": heads},
    )
    changed.save()
    return changed


def parse(arguments):
    """What the command line makes of arguments, without running the command."""
    from typer.main import get_command

    return get_command(app).make_context("build", list(arguments)).params


def test_every_option_comes_back(real, tmp_path):
    params = parse(list_arguments(real, "linear"))
    assert params["preset"] == "b15n4"
    assert params["out"] == real.root
    assert params["only"] == ["linear"]
    assert (params["backend"], params["precision"]) == ("tensorrt", "fp16")
    assert params["device"] == "cuda"
    assert (params["force"], params["replace"]) == (True, False)
    assert [str(params[key]) for key in ("checkpoint", "sd", "clip")] == [e.path for e in FILES]
    assert params["weights"] is None
    for key in ("compute_capability", "max_batch", "refit", "strip_weights", "tf32"):
        assert params[key] == getattr(OPTIONS, key)
    assert params["workspace"] == 512
    assert params["cache_dir"] is None


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (BuildOptions(), []),
        (BuildOptions(cache_dir=default_cache_dir()), []),
        (BuildOptions(workspace=MIB + 1), ["--workspace", "2"]),
        (BuildOptions(tf32=True), ["--tf32"]),
    ],
)
def test_defaults_are_left_out(options, arguments):
    assert options.list_arguments() == arguments


def test_cache_folder_is_kept(tmp_path):
    assert BuildOptions(cache_dir=tmp_path).list_arguments() == ["--cache-dir", str(tmp_path)]


def test_options_of_components_that_differ_are_left_out(real):
    other = dataclasses.replace(real.get("heads"), options=BuildOptions())
    real.components["heads"] = other
    params = parse(list_arguments(real))
    assert not params["only"]
    assert params["max_batch"] == 1
    assert params["backend"] == "tensorrt"


def test_another_machine_picks_for_itself(real):
    params = parse(list_arguments(real, here=True))
    assert (params["preset"], params["backend"], params["device"]) == ("b15n4", "auto", "auto")


def test_plain_weights_have_no_backend(manifest):
    arguments = list_arguments(manifest, "heads")
    assert "--backend" not in arguments
    assert parse(arguments)["weights"] == "synthetic"


def hint_in(text):
    """The arguments of the command that a message names."""
    return shlex.split(text.split("`")[-2])[2:]


def flip_byte(path, at=3):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_damaged_file_names_the_whole_command(real):
    flip_byte(real.path_of("linear"))
    with pytest.raises(EngineError) as caught:
        Manifest.load(real.root)
    assert hint_in(str(caught.value)) == list_arguments(real, "linear")


@pytest.mark.parametrize("text", ['"backend": "onnxruntime",', '"schema": 2'])
def test_damaged_manifest_names_what_is_left_of_it(real, text):
    path = real.root / MANIFEST_NAME
    content = path.read_text().replace("tensorrt", "onnxruntime")
    path.write_text(content.replace(text, text.replace(":", ""), 1))
    with pytest.raises(EngineError, match="cannot be read as JSON") as caught:
        Manifest.load(real.root)
    params = parse(hint_in(str(caught.value)))
    assert (params["preset"], params["only"], params["replace"]) == ("b15n4", (), False)
    assert params["checkpoint"] is not None


def test_damaged_component_leaves_the_others(real):
    path = real.root / MANIFEST_NAME
    values = json.loads(path.read_text())
    values["components"]["heads"]["files"] = None
    path.write_text(json.dumps(values, indent=2))
    found = salvage(real.root)
    assert set(found.components) == {"linear"}
    assert found.weights == real.weights
    with pytest.raises(EngineError, match=r"components\.heads\.files: .*--max-batch 4 .*--tf32"):
        Manifest.load(real.root)


def test_unknown_contents_are_not_replaced_by_default_ones(real):
    (real.root / MANIFEST_NAME).write_text("{")
    with pytest.raises(EngineError) as caught:
        Manifest.load(real.root)
    assert "the options that you used" in str(caught.value)
    arguments = hint_in(str(caught.value))
    assert arguments[:2] == ["--preset", "PRESET"]  # which no build takes
    assert salvage(real.root) is None


def test_weights_outside_engines_name_the_command(real):
    for load, name in ((Heads.load, "heads"), (FoldedSparseUNet.load, "point_encoder")):
        path = real.root / f"{name}.safetensors"
        path.write_bytes(b"damaged")
        with pytest.raises(EngineError, match=r"cannot read .*`xmask3d build --preset b15n4 --out"):
            load(path)


def test_incomplete_weights_name_the_command(real):
    import torch
    from safetensors.torch import save_file

    path = real.root / "heads.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    message = rf"lacks {len(HEAD_TENSORS)} tensors, first .*--only heads .*--force"
    with pytest.raises(EngineError, match=message):
        Heads.load(path)


def test_configuration_that_is_no_preset_rejected(manifest):
    config = dataclasses.replace(get_preset("tiny"), voxel_size=0.1)
    other = dataclasses.replace(manifest, config=config)
    with pytest.raises(EngineError, match="a configuration that is no preset"):
        list_arguments(other)
    other.save()
    assert "`" not in describe_rebuild(manifest.root)


def test_command_is_quoted():
    assert format_command(["--out", "my engines"]) == "`xmask3d build --out 'my engines'`"
