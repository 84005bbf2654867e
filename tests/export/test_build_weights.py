"""Building from weight files gives the engines of the weights inside them."""

import contextlib

import pytest
import torch
from safetensors.torch import save_file
from tracing import list_hashed, trace
from typer.testing import CliRunner

from xmask3d_rt.config import get_preset
from xmask3d_rt.engines import Manifest
from xmask3d_rt.engines.build_command import list_arguments
from xmask3d_rt.engines.component import WeightSource
from xmask3d_rt.engines.files import FileEntry, hash_file
from xmask3d_rt.engines.rebuild import make_command
from xmask3d_rt.errors import CheckpointError, EngineError
from xmask3d_rt.export.build import weights
from xmask3d_rt.export.build.directory import build_engines
from xmask3d_rt.export.build.weights import BundledWeights, FileWeights, SyntheticWeights
from xmask3d_rt.export.build_engines import app
from xmask3d_rt.model import bundled
from xmask3d_rt.model.key_map import build_key_map
from xmask3d_rt.model.synthetic import fill_synthetic, synthetic_tensor
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.towers.stages import copy_text_encoder

CONFIG = get_preset("tiny")
ONLY = ("binary_head", "heads")


@pytest.fixture(scope="module")
def weight_files(tmp_path_factory):
    """The synthetic weights as three files in their usual names."""
    folder = tmp_path_factory.mktemp("weights")
    model = XMask3D(CONFIG)
    state = model.state_dict()
    files = {"xmask3d": {}, "sd": {}, "clip": {}}
    for name, source in build_key_map(model).items():
        for key, shape in zip(source.keys, source.shapes(state[name].shape), strict=True):
            value = synthetic_tensor(source.namespace, key, shape)
            files[source.namespace][key] = state[name] if value is None else torch.tensor(value)
    paths = {}
    for namespace, tensors in files.items():
        paths[namespace] = folder / f"{namespace}.safetensors"
        save_file(tensors, paths[namespace])
    return paths


def test_every_tensor_is_the_files(weight_files):
    weights = FileWeights(CONFIG, **weight_files)
    synthetic = SyntheticWeights()
    state = XMask3D(CONFIG).state_dict()
    names = [name for name in state if name not in ("criterion.empty_weight",)]
    names = [name for name in names if not name.startswith("binary_loss_func")]
    for name in names:
        shape = tuple(state[name].shape)
        assert torch.equal(weights.read(name, shape), synthetic.read(name, shape)), name
    with pytest.raises(CheckpointError, match="no weight file has 'engine'"):
        weights.read("engine", ())


def test_components_from_files(weight_files, tmp_path):
    made = build_engines(tmp_path / "files", CONFIG, FileWeights(CONFIG, **weight_files), only=ONLY)
    build_engines(tmp_path / "rule", CONFIG, SyntheticWeights(), only=ONLY)
    for name in ONLY:
        file = f"{name}.safetensors"
        assert (tmp_path / "files" / file).read_bytes() == (tmp_path / "rule" / file).read_bytes()
    source = Manifest.load(tmp_path / "files").weights
    assert source == made.manifest.weights
    assert source.kind == "files"
    assert {entry.path: entry.sha256 for entry in source.files} == {
        path.name: hash_file(path) for path in weight_files.values()
    }


def test_components_from_the_packages_own_weights(tmp_path, monkeypatch):
    model = XMask3D(CONFIG)
    fill_synthetic(model)
    copy_text_encoder(model.clip, model.diffusion)
    packed = tmp_path / "tiny.safetensors"
    monkeypatch.setattr(weights, "BUNDLED_WEIGHTS", packed)
    with pytest.raises(CheckpointError, match="has no such weights; use --weights synthetic"):
        BundledWeights(CONFIG)
    bundled.write_packed(model, torch.tensor([1, 2]), packed)
    out = tmp_path / "engines"
    arguments = ["--out", str(out), "--weights", "bundled", "--only", "binary_head"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "synthetic" not in done.stdout
    manifest = Manifest.load(out)
    assert manifest.weights == WeightSource(
        "bundled", (FileEntry("tiny.safetensors", packed.stat().st_size, hash_file(packed)),)
    )
    assert list_arguments(manifest)[-2:] == ["--weights", "bundled"]
    with pytest.raises(CheckpointError, match="bundled weights have no 'engine'"):
        BundledWeights(CONFIG).read("engine", ())


def test_another_file_rebuilds_its_components(weight_files, tmp_path):
    out = tmp_path / "engines"
    build_engines(out, CONFIG, FileWeights(CONFIG, **weight_files), only=ONLY)
    again = build_engines(out, CONFIG, FileWeights(CONFIG, **weight_files), only=ONLY)
    assert set(again.outcomes.values()) == {"unchanged"}
    clip = tmp_path / "clip.safetensors"
    clip.write_bytes(weight_files["clip"].read_bytes())
    with clip.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    other = FileWeights(CONFIG, **(weight_files | {"clip": clip}))
    files = FileWeights(CONFIG, **weight_files)
    assert other.fingerprint(("clip",)) != files.fingerprint(("clip",))
    assert other.fingerprint(("sd", "xmask3d")) == files.fingerprint(("xmask3d", "sd"))
    assert set(build_engines(out, CONFIG, other, only=ONLY, replace=True).outcomes.values()) == {
        "unchanged"
    }


def test_command_with_files_keeps_converted_copies(weight_files, tmp_path):
    names = {"--checkpoint": "xmask3d", "--sd": "sd", "--clip": "clip"}
    files = [part for option, n in names.items() for part in (option, str(weight_files[n]))]
    done = CliRunner().invoke(app, ["--out", str(tmp_path), "--only", "heads", *files])
    assert done.exit_code == 0, done.output
    assert "synthetic" not in done.stdout
    copies = sorted(path.name.split("-")[0] for path in (tmp_path / ".weights").iterdir())
    assert copies == ["clip", "sd", "xmask3d"]
    assert Manifest.load(tmp_path).weights.kind == "files"


def test_wrong_file_rejected(weight_files, tmp_path):
    swapped = ["--checkpoint", "clip", "--sd", "sd", "--clip", "clip"]
    arguments = [str(weight_files.get(part, part)) for part in swapped]
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "new"), *arguments])
    assert done.exit_code == 2
    assert "expected an XMask3D checkpoint" in done.stderr
    assert not (tmp_path / "new").exists()


def test_all_code_that_reads_the_files_is_in_the_fingerprint(weight_files, monkeypatch):
    state = XMask3D(CONFIG).state_dict()
    opened = []

    def read_some():
        opened.append(FileWeights(CONFIG, **weight_files))
        for name in list(state)[::50]:
            with contextlib.suppress(CheckpointError):  # constants, which no file has
                opened[0].read(name, tuple(state[name].shape))

    ran = {module for module in trace(read_some) if ".model.checkpoints." in module}
    assert {f"xmask3d_rt.model.checkpoints.{name}" for name in ("loading", "matching")} <= ran
    hashed = list_hashed(monkeypatch, lambda: opened[0].fingerprint(("sd",)))
    assert ran | {"xmask3d_rt.model.key_map"} <= hashed


def test_a_checkpoint_alone_is_filled_by_the_rule(weight_files, tmp_path):
    """What a run without --sd and --clip was trained beside."""
    mixed = FileWeights(CONFIG, weight_files["xmask3d"], None, None)
    files = FileWeights(CONFIG, **weight_files)
    state = XMask3D(CONFIG).state_dict()
    for name in (
        "clip.visual.proj",
        "diffusion.vae.encoder.conv_in.weight",
        "pc_decoder.decoder.bias",
    ):
        shape = tuple(state[name].shape)
        assert torch.equal(mixed.read(name, shape), files.read(name, shape)), name
    assert mixed.source.kind == "mixed"
    assert [entry.path for entry in mixed.source.files] == [weight_files["xmask3d"].name]
    assert mixed.fingerprint(("xmask3d",)) == files.fingerprint(("xmask3d",))
    assert mixed.fingerprint(("sd",)) != files.fingerprint(("sd",))


def test_command_with_a_checkpoint_alone(weight_files, tmp_path):
    options = ["--out", str(tmp_path / "new"), "--only", "heads", "--device", "cpu"]
    options += ["--checkpoint", str(weight_files["xmask3d"])]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert "frozen networks are synthetic" in done.stdout.replace("\n", " ")
    manifest = Manifest.load(tmp_path / "new")
    assert "of " + str(manifest.root) in manifest.weights_note
    assert list_arguments(manifest)[-4:] == [
        *("--checkpoint", weight_files["xmask3d"].name, "--weights", "synthetic")
    ]
    with pytest.raises(EngineError, match=r"pass their paths: rebuild=\{'checkpoint': …\}"):
        make_command(manifest, "heads", torch.device("cpu"))
    paths = {"checkpoint": weight_files["xmask3d"]}
    command = make_command(manifest, "heads", torch.device("cpu"), paths)
    assert command[-4:-2] == ["--checkpoint", str(weight_files["xmask3d"])]


def test_frozen_weights_by_rule_and_from_files_are_rejected(weight_files, tmp_path):
    common = ["--out", str(tmp_path), "--checkpoint", str(weight_files["xmask3d"])]
    done = CliRunner().invoke(app, [*common, "--weights", "synthetic", "--sd", "x"])
    assert done.exit_code == 2
    assert "--weights synthetic and --sd exclude each other" in done.stderr
    done = CliRunner().invoke(app, [*common, "--preset", "b15n4"])
    assert done.exit_code == 2
    assert "needs --sd, --clip (weight files), or --weights synthetic" in done.stderr
