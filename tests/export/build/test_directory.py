"""Building a directory: what is rebuilt when, and what is left after a failure or Ctrl-C."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from xmask3d_rt.cli.commands import app as cli_app
from xmask3d_rt.config import get_preset
from xmask3d_rt.engines import Manifest, WeightSource, open_engine
from xmask3d_rt.engines.files import FileEntry
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError, ExportMismatch
from xmask3d_rt.export import build_engines as build_script
from xmask3d_rt.export.build import engine as engine_builder
from xmask3d_rt.export.build.directory import Reporter, build_engines
from xmask3d_rt.export.build.staging import STAGING_NAME
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.build_engines import app

CONFIG = get_preset("tiny")
SMALL = dataclasses.replace(CONFIG, name="small")
# components of different weight files that are quick to export
ONLY = ("mask_clip", "binary_head", "heads")
SCRIPT = Path(build_script.__file__)

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("traced_once")


class OtherWeights(SyntheticWeights):
    """Synthetic weights that claim to come from other files of some namespaces."""

    def __init__(self, *changed):
        self.changed = changed

    def fingerprint(self, namespaces):
        marks = sorted(set(self.changed) & set(namespaces))
        return super().fingerprint(namespaces) + "".join(marks)


def build(out, weights=None, config=CONFIG, only=ONLY, **options):
    options = {"backend": "onnxruntime", "precision": "fp32", "device": "cpu"} | options
    return build_engines(out, config, weights or SyntheticWeights(), only=only, **options)


def snapshot(folder):
    """Path → (content, time of change) of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".verified.json"
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "engines"
    return out, build(out)


@pytest.fixture
def engines(built, tmp_path):
    """A private copy of the built directory."""
    out = tmp_path / "engines"
    subprocess.run(["cp", "-a", str(built[0]), str(out)], check=True)
    return out


def test_manifest_of_a_build(built):
    out, result = built
    assert set(result.outcomes.values()) == {"built"}
    manifest = Manifest.load(out)
    assert manifest == result.manifest
    assert list(manifest.components) == list(ONLY)
    assert manifest.config == CONFIG
    assert manifest.weights.kind == "synthetic"
    assert {"torch", "onnx", "python", "xmask3d_rt"} <= set(manifest.versions)
    clip = manifest.get("mask_clip")
    assert clip.opset in (18, 19, 20)
    assert clip.parity.errors["mask_embed_clip"] <= clip.parity.tolerance
    assert sorted(path.name for path in out.iterdir()) == [
        ".verified.json",
        "binary_head.safetensors",
        "heads.safetensors",
        "manifest.json",
        "mask_clip",
    ]
    assert b"/export/" not in manifest.path_of("mask_clip").read_bytes()  # no source paths
    with open_engine(manifest, "mask_clip", "cpu") as engine:
        feeds = {
            spec.name: torch.zeros(shape)
            for spec, shape in zip(
                engine.inputs,
                engine.signature.resolve(engine.inputs, {"B": 1}),
                strict=True,
            )
        }
        assert engine.infer(feeds)["mask_embed_clip"].shape[1] == CONFIG.mask_head.queries


def test_second_run_changes_nothing(engines):
    before = snapshot(engines)
    result = build(engines)
    assert set(result.outcomes.values()) == {"unchanged"}
    after = snapshot(engines)
    assert {k: v for k, v in before.items() if k != "manifest.json"} == {
        k: v for k, v in after.items() if k != "manifest.json"
    }


def test_changed_weights_rebuild_what_depends_on_them(engines):
    result = build(engines, OtherWeights("clip"))
    assert result.outcomes == {
        "mask_clip": "built",
        "binary_head": "unchanged",
        "heads": "unchanged",
    }
    result = build(engines, OtherWeights("clip", "xmask3d"))
    assert result.outcomes == {
        "mask_clip": "unchanged",
        "binary_head": "built",
        "heads": "built",
    }


def test_class_split_alone_rebuilds_nothing(engines):
    split = dataclasses.replace(CONFIG.split, novel=(0,))
    config = dataclasses.replace(CONFIG, split=split, base_ratio=0.5)
    result = build(engines, config=config)
    assert set(result.outcomes.values()) == {"unchanged"}
    assert Manifest.load(engines).config.base_ratio == 0.5


def test_force_rebuilds(engines):
    assert build(engines, only=("heads",), force=True).outcomes == {"heads": "built"}
    assert list(Manifest.load(engines).components) == list(ONLY)


def test_damaged_file_is_rebuilt(engines):
    path = engines / "heads.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert build(engines).outcomes["heads"] == "built"
    Manifest.load(engines).verify(full=True)


def test_damaged_manifest_starts_anew(engines):
    (engines / "manifest.json").write_text("{")
    assert build(engines, only=("heads",), replace=True).outcomes == {"heads": "built"}


def test_other_configuration_beside_the_old_rejected(engines):
    before = snapshot(engines)
    with pytest.raises(
        EngineError, match="holds mask_clip, binary_head of tiny with synthetic weights, asked"
    ):
        build(engines, config=SMALL, only=("heads",), replace=True)
    assert snapshot(engines) == before


class FilesOf(SyntheticWeights):
    """Synthetic weights that claim to come from files."""

    def __init__(self, name):
        self.source_ = WeightSource("files", (FileEntry(f"{name}.ckpt", 7, name * 32),))

    @property
    def source(self):
        return self.source_


WIDER = dataclasses.replace(
    CONFIG, mask_head=dataclasses.replace(CONFIG.mask_head, queries=CONFIG.mask_head.queries + 1)
)


@pytest.mark.parametrize(
    ("options", "both"),
    [
        ({"config": SMALL}, "holds tiny with synthetic weights, asked for is small with synthetic"),
        (
            {"config": WIDER},
            "synthetic weights of another version of the package \\(mask_head differ\\)",
        ),
        ({"weights": FilesOf("ab")}, "holds tiny with synthetic .* with ab.ckpt abababababab"),
    ],
)
def test_other_model_or_weights_stop_the_build(engines, options, both):
    before = snapshot(engines)
    with pytest.raises(EngineError, match=rf"{both}.*; build into another .* with --replace$"):
        build(engines, **options)
    assert snapshot(engines) == before


def test_replace_builds_over_another_model(engines):
    result = build(engines, config=SMALL, replace=True)
    assert result.manifest.config.name == "small"


@pytest.mark.parametrize("damage", ["{", "", '{"schema": 1}', None])
def test_unknown_engines_stop_the_build(engines, damage):
    """Nothing says what lies there, so nothing of it is replaced by default."""
    path = engines / "manifest.json"
    path.unlink() if damage is None else path.write_text(damage)
    before = snapshot(engines)
    with pytest.raises(EngineError, match=r"no manifest says of what model.* with --replace$"):
        build(engines)
    assert snapshot(engines) == before


def test_a_damaged_byte_of_the_manifest_is_mended_by_its_own_hint(engines):
    """The command it names builds the same model, and says nothing of --replace."""
    path = engines / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema" 2'))
    with pytest.raises(EngineError, match="cannot be read as JSON") as caught:
        Manifest.load(engines)
    hint = shlex.split(str(caught.value).split("`")[-2])[2:]
    assert "--replace" not in hint
    only = [word for name in ONLY for word in ("--only", name)]
    choice = ["--backend", "onnxruntime", "--precision", "fp32", "--device", "cpu"]
    done = CliRunner().invoke(app, [*hint, *choice, *only])
    assert done.exit_code == 0, done.output
    Manifest.load(engines)


def test_hint_over_another_model_destroys_nothing(engines):
    """`xmask3d build --out DIR` over a directory of weight files."""
    path = engines / "manifest.json"
    values = json.loads(path.read_text())
    values["config"]["name"] = "b15n4"
    values["weights"] = {"kind": "files", "files": [{"path": "b.pth", "size": 1, "sha256": "ab"}]}
    path.write_text(json.dumps(values))
    before = snapshot(engines)
    done = CliRunner().invoke(app, ["--out", str(engines), "--weights", "synthetic"])
    assert done.exit_code == 2
    message = "holds b15n4 with b.pth ab, asked for is tiny with synthetic weights"
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert snapshot(engines) == before


def test_demo_over_another_model_destroys_nothing(engines, tmp_path):
    """The demo builds where engines are damaged, but not over those of another model."""
    path = engines / "manifest.json"
    path.write_text(path.read_text().replace('"name": "tiny"', '"name": "b15n4"', 1)[:-9])
    before = snapshot(engines)
    options = ["--out", str(tmp_path / "demo"), "--engine-dir", str(engines), "--device", "cpu"]
    done = CliRunner().invoke(cli_app, ["demo", *options])
    assert done.exit_code == 2
    assert "the demo does not replace other engines than its own" in done.stderr
    assert snapshot(engines) == before


def test_renamed_weight_files_are_the_same(engines):
    build(engines, FilesOf("ab"), replace=True)
    renamed = FilesOf("ab")
    entry = dataclasses.replace(renamed.source.files[0], path="other.ckpt")
    renamed.source_ = WeightSource("files", (entry,))
    assert set(build(engines, renamed).outcomes.values()) == {"unchanged"}


def test_options_are_recorded_for_every_component(engines):
    options = BuildOptions(max_batch=2, tf32=True)
    outcomes = build(engines, options=options).outcomes
    assert outcomes == {"mask_clip": "built", "binary_head": "unchanged", "heads": "unchanged"}
    loaded = Manifest.load(engines)
    assert {part.options for part in loaded.components.values()} == {options}
    assert {part.device for part in loaded.components.values()} == {"cpu"}
    assert loaded.get("mask_clip").signature.profile["B"].max == 2


def test_mismatch_stops_the_build_and_leaves_the_old(engines, monkeypatch):
    before = snapshot(engines)

    def disagree(contract, *_):
        raise ExportMismatch(f"{contract.name}: output differs")

    monkeypatch.setattr(engine_builder, "check_values", disagree)
    with pytest.raises(ExportMismatch, match="mask_clip: output differs"):
        build(engines, force=True)
    assert snapshot(engines) == before
    assert not (engines / STAGING_NAME).exists()


def test_mismatch_in_a_new_directory_leaves_nothing(tmp_path, monkeypatch):
    original = engine_builder.compute_reference

    def disturb(contract, module, inputs):
        return {k: v + 0.01 for k, v in original(contract, module, inputs).items()}

    monkeypatch.setattr(engine_builder, "compute_reference", disturb)
    with pytest.raises(ExportMismatch, match="mask_embed_clip of onnxruntime fp32 differs"):
        build(tmp_path / "new", only=("mask_clip",))
    assert not (tmp_path / "new").exists()


class Interrupter(Reporter):
    """Presses Ctrl-C at a step of a component."""

    def __init__(self, at):
        self.at = at

    def step(self, name, step):
        if (name, step) == self.at:
            raise KeyboardInterrupt


def test_interrupt_keeps_the_old_and_resumes(engines):
    before = snapshot(engines)
    with pytest.raises(KeyboardInterrupt):
        build(engines, force=True, reporter=Interrupter(("heads", "hash")))
    left = snapshot(engines)
    assert {k: v for k, v in left.items() if not k.startswith(STAGING_NAME)} == before
    staged = {k.removeprefix(f"{STAGING_NAME}/") for k in left if k.startswith(STAGING_NAME)}
    assert staged == {
        "lock",
        "entries/mask_clip.json",
        "entries/binary_head.json",
        "mask_clip/model.onnx",
        "binary_head.safetensors",
    }
    Manifest.load(engines)
    (engines / "manifest.json").unlink()
    result = build(engines, replace=True)
    assert result.outcomes == {"mask_clip": "resumed", "binary_head": "resumed", "heads": "built"}
    assert not (engines / STAGING_NAME).exists()
    Manifest.load(engines).verify(full=True)


def test_interrupt_in_a_new_directory_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "new", reporter=Interrupter(("mask_clip", "export")))
    assert not (tmp_path / "new").exists()


def test_stale_staging_is_not_used(engines, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(engines, force=True, reporter=Interrupter(("heads", "weights")))
    staged = engines / STAGING_NAME / "mask_clip" / "model.onnx"
    staged.write_bytes(b"half")
    (engines / "manifest.json").unlink()
    outcomes = build(engines, replace=True).outcomes
    assert outcomes == {"mask_clip": "built", "binary_head": "resumed", "heads": "built"}


def test_second_build_into_the_same_directory_rejected(engines):
    (engines / STAGING_NAME).mkdir()
    with FileLock(engines / STAGING_NAME / "lock"):
        with pytest.raises(EngineError, match=r"another build into .* is running"):
            build(engines)
        assert (engines / STAGING_NAME / "lock").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ("vae",)}, "unknown component 'vae'; components are vae_encoder, unet"),
        ({"backend": "abacus"}, "unknown backend 'abacus'; choose one of auto, "),
        ({"precision": "fp8"}, "unknown precision 'fp8'; choose one of auto, fp32, fp16, bf16"),
        ({"precision": "bf16"}, "onnxruntime on cpu has fp32"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda:31"}, "cuda:31 asked for"),
    ],
)
def test_bad_options_rejected(tmp_path, options, message):
    with pytest.raises(EngineError, match=message):
        build(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_unwritable_directory_rejected(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot write engines into"):
        build(tmp_path / "file" / "engines", only=("heads",))


def test_script_builds_and_says_what_it_did(tmp_path):
    command = [sys.executable, str(SCRIPT), "--only", "heads", "--weights", "synthetic"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "engines are in engines/tiny" in done.stdout
    assert "weights are synthetic" in done.stdout
    assert list(
        json.loads((tmp_path / "engines/tiny/manifest.json").read_text())["components"]
    ) == ["heads"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "b15n4"], "needs --checkpoint, --sd, --clip"),
        (["--preset", "b16n3"], "unknown preset 'b16n3'"),
        (["--weights", "magic"], "--weights must be synthetic or bundled, got 'magic'"),
        (["--weights", "synthetic", "--sd", "x"], "--weights synthetic and --sd exclude"),
        (["--weights", "bundled", "--preset", "b15n4"], "bundled is of preset tiny, not b15n4"),
        (["--precision", "fp8"], "unknown precision 'fp8'"),
    ],
)
def test_script_errors_are_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_script_reports_a_mismatch_with_code_1(tmp_path, monkeypatch):
    def disagree(*_, **__):
        raise ExportMismatch("unet: output differs")

    monkeypatch.setattr(build_script, "build_engines", disagree)
    done = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (1, "error: unet: output differs\n")


def test_real_interrupt_leaves_no_partial_file(tmp_path):
    out = tmp_path / "engines"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--out", str(out), "--only", "unet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out / STAGING_NAME / "unet").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert not out.exists()
    assert os.listdir(tmp_path) == []
