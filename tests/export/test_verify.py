"""export/verify.py on engines and module of `tiny`: record, compare, report, refuse."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from xmask3d_rt.cli import commands as cli
from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.export import verify as script
from xmask3d_rt.export.parity.cases import CASE_INPUTS, read_arrays, write_arrays
from xmask3d_rt.export.parity.compare import HEADS, Row
from xmask3d_rt.export.verify import app, check_case, check_scene, open_module, pick_views
from xmask3d_rt.segmenter import Segmenter

# Only the module shows what happens inside the engines.
INSIDE = {"noisy_latent", "cond_inputs", "cond_emb", "mask_pooled_features"}
INSIDE |= {"s2", "s3", "s4", "s5", "ms0", "ms1", "ms2"}
# At this size a point is 0.05 % of all: two runs may differ in a few labels and be right.
SMALL_CASE = 0.99


@pytest.fixture(scope="module")
def room():
    return generate_room(seed=3, views=3, image_size=(120, 160), point_spacing=0.1)


@pytest.fixture(scope="module")
def scene(room, tmp_path_factory):
    return write_room(room, tmp_path_factory.mktemp("room") / "scene")


@pytest.fixture(scope="module")
def inputs(room, tmp_path_factory):
    view = room.views[0]
    path = tmp_path_factory.mktemp("case") / "inputs.npz"
    case = {
        "points_xyz": room.points,
        "points_rgb": room.rgb,
        "image_orig": view.read_image(),
        "depth_320x240_mm": np.rint(view.read_depth() * 1000).astype(np.uint16),
        "pose": view.camera_to_world,
        "K640": view.intrinsics,
    }
    assert set(case) == set(CASE_INPUTS)
    write_arrays(path, case)
    return path


@pytest.fixture(scope="module")
def engines(tiny_engines):
    return Segmenter(tiny_engines, "cpu", threads=1)


@pytest.fixture(scope="module")
def module():
    return open_module(get_preset("tiny"), "cpu")


@pytest.fixture
def run(engines, monkeypatch):
    """The command on engines that are loaded already: (exit code, stdout, stderr)."""

    def open_loaded(engine_dir, device, threads):
        assert Path(engine_dir) == engines.manifest.root
        return engines

    monkeypatch.setattr(script, "Segmenter", open_loaded)

    def run(*args):
        words = [str(engines.manifest.root) if arg == "ENGINES" else str(arg) for arg in args]
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture(scope="module")
def golden(engines, inputs, tmp_path_factory):
    """The case as the engines see it."""
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    write_arrays(path, check_case(engines, read_arrays(inputs), None).recorded)
    return path


def test_recorded_case_passes(tiny_engines, inputs, tmp_path):
    """Engines loaded anew give the same numbers to the last bit."""
    recorded, report = tmp_path / "golden.npz", tmp_path / "report.json"
    common = ["--engine-dir", str(tiny_engines), "--inputs", str(inputs), "--device", "cpu"]
    common += ["--threads", "1"]
    first = CliRunner().invoke(app, [*common, "--record", str(recorded)])
    assert (first.exit_code, first.stdout.split()[0]) == (0, "recorded")
    second = CliRunner().invoke(app, [*common, "--golden", str(recorded), "--json", str(report)])
    assert second.exit_code == 0, second.output
    assert "FAIL" not in second.stdout
    content = json.loads(report.read_text())
    assert content["ok"] is True
    assert {row["value"] for row in content["rows"]} == {0.0, 1.0}
    assert content["preset"] == "tiny"
    assert content["weights"] == "synthetic"
    assert content["precision"] == "fp32"
    assert content["components"]["unet"] == "onnxruntime fp32"
    assert content["subject"] == str(tiny_engines)
    assert content["case"] == str(inputs)
    assert content["golden"] == str(recorded)
    assert content["device"] == "cpu"
    assert {"torch", "onnxruntime", "xmask3d_rt"} <= set(content["versions"])
    assert set(content["not_compared"]) == INSIDE
    assert len(content["rows"]) == 31


def test_recorded_case_holds_the_documented_arrays(golden):
    arrays = read_arrays(golden)
    assert {"voxel_coords", "mapping", "bott_C", "bott_F", "vox_rows", "keep_full"} <= set(arrays)
    assert {f"sd_feat{i}_{kind}" for i in range(8) for kind in ("sub", "stride")} <= set(arrays)
    assert arrays["pred_masks"].shape == (20, 64, 64)
    assert arrays["mask_embed"].shape == arrays["mask_embed_clip"].shape == (20, 128)
    assert arrays["imp_condition"].shape == (1, 128)
    visible = int(arrays["mapping"][:, 2].sum())
    assert visible > 1000
    assert all(arrays[f"label_{head}"].shape == (visible,) for head in HEADS)


def test_changed_reference_fails(run, inputs, golden, tmp_path):
    changed, report = tmp_path / "changed.npz", tmp_path / "report.json"
    arrays = dict(read_arrays(golden))
    arrays["latent"] = arrays["latent"] * np.float32(1 + 1e-4)
    arrays["label_2d"] = (arrays["label_2d"] + 1) % 19
    write_arrays(changed, arrays)
    common = ["--engine-dir", "ENGINES", "--inputs", inputs, "--golden", changed]
    code, stdout, _ = run(*common, "--json", report)
    assert code == 1
    assert stdout.count("FAIL") == 3  # two rows and the summary
    assert "2 of 31 rows FAIL" in stdout
    content = json.loads(report.read_text())
    assert content["ok"] is False
    failed = {row["stage"]: row for row in content["rows"] if not row["ok"]}
    assert set(failed) == {"latent", "label_2d"}
    assert failed["latent"]["value"] == pytest.approx(1e-4, rel=0.01)
    assert failed["latent"]["limit"] == 1e-5
    assert failed["latent"]["relation"] == "<="
    assert failed["label_2d"]["relation"] == ">="


def test_module_and_engines_agree(module, engines, inputs, tmp_path):
    case = read_arrays(inputs)
    path = tmp_path / "module.npz"
    write_arrays(path, check_case(module, case, None).recorded)
    check = check_case(engines, case, read_arrays(path))
    # one flipped pixel weighs ten times what it does at full size: after it, other limits
    flips = next(i for i, row in enumerate(check.rows) if row.metric == "sign flips")
    before, behind = check.rows[:flips], check.rows[flips:]
    assert len(before) > 20
    assert [row for row in before if not row.ok] == []
    assert behind[0].value <= 20
    assert all(row.value <= 0.01 for row in behind if row.metric == "relative L2")
    assert all(row.value <= 1 for row in behind if row.metric == "queries differ")
    assert all(row.value >= SMALL_CASE for row in behind if row.at_least)
    assert set(check.uncompared) == INSIDE
    again = check_case(module, case, read_arrays(path))
    assert again.ok
    assert again.uncompared == []


def test_scene_is_recorded_and_verified(run, module, engines, room, scene, tmp_path):
    recorded = tmp_path / "scene.npz"
    subject = ["--engine-dir", "ENGINES", "--scene", scene]
    code, _, _ = run(*subject, "--view", "2", "--view", "0", "--record", recorded)
    assert code == 0
    arrays = read_arrays(recorded)
    assert arrays["view_ids"].tolist() == ["2", "0"]
    assert len(arrays["scene_label_fused"]) == len(room.points)
    code, stdout, _ = run(*subject, "--golden", recorded)
    assert code == 0
    assert "all 11 rows ok" in stdout
    check = check_scene(module, scene, arrays)
    assert [row.stage for row in check.rows if row.metric == "visibility differs"] == [
        "view 2",
        "view 0",
    ]
    assert all(row.value == 0 for row in check.rows if row.metric == "visibility differs")
    assert all(row.value >= SMALL_CASE for row in check.rows if row.at_least)
    arrays["scene_label_3d"] = (arrays["scene_label_3d"] + 1) % 19
    failed = [row.stage for row in check_scene(engines, scene, arrays).rows if not row.ok]
    assert failed == ["scene 3d"]


def test_all_views_are_the_default(engines, scene):
    recorded = check_scene(engines, scene, None).recorded
    assert recorded["view_ids"].tolist() == ["0", "1", "2"]


def test_numbers_may_name_views(engines, scene, tmp_path):
    """Reference files keep view names as integers."""
    recorded = check_scene(engines, scene, None, ["1"]).recorded
    recorded["view_ids"] = np.array([1])
    write_arrays(tmp_path / "scene.npz", recorded)
    assert check_scene(engines, scene, read_arrays(tmp_path / "scene.npz")).ok


def test_zeros_before_a_number_do_not_count(scene, tmp_path):
    padded = tmp_path / "padded"
    shutil.copytree(scene, padded)
    for kind, suffix in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
        for i in range(3):
            (padded / kind / f"{i}.{suffix}").rename(padded / kind / f"00{i}.{suffix}")
    assert [view.name for view in pick_views(padded, ["2", "001"])] == ["002", "001"]


def test_view_that_sees_too_little_counts_as_empty(engines, scene, monkeypatch):
    recorded = check_scene(engines, scene, None, ["0", "1"]).recorded
    seen = [len(recorded[f"label_fused_{j}"]) for j in range(2)]
    least = dataclasses.replace(engines.config.view, min_points=max(seen))
    monkeypatch.setattr(engines, "config", dataclasses.replace(engines.config, view=least))
    check = check_scene(engines, scene, None, ["0", "1"])
    sizes = [len(check.recorded[f"label_fused_{j}"]) for j in range(2)]
    assert sorted(sizes) == [0, max(seen)]


@pytest.mark.parametrize(
    ("component", "precision", "limits", "free"),
    [
        ("unet", Precision.FP16, [0.992, 0.99, 0.992], {"unet2", "mask_embed"}),
        ("vae_encoder", Precision.BF16, [0.96, 0.93, 0.993], {"latent", "dec5", "pred_masks"}),
    ],
)
def test_manifest_decides_the_limits(
    engines, inputs, golden, monkeypatch, tmp_path, component, precision, limits, free
):
    parts = dict(engines.manifest.components)
    parts[component] = dataclasses.replace(parts[component], precision=precision)
    manifest = dataclasses.replace(engines.manifest, components=parts)
    monkeypatch.setattr(engines, "manifest", manifest)
    check = check_case(engines, read_arrays(inputs), read_arrays(golden))
    found = {row.stage: row.limit for row in check.rows}
    assert [found[f"label_{head}"] for head in HEADS] == limits
    assert {found[stage] for stage in free} == {None}
    assert found["enc_out"] == found["text_embed"] == 5e-6
    report = script.make_report(engines, check)
    assert report["precision"] == precision
    assert report["components"][component] == f"onnxruntime {precision}"
    json.dumps(report, allow_nan=False)


def test_table_shows_rows_without_a_limit(engines, inputs, golden, run, monkeypatch):
    parts = dict(engines.manifest.components)
    parts["unet"] = dataclasses.replace(parts["unet"], precision=Precision.BF16)
    manifest = dataclasses.replace(engines.manifest, components=parts)
    monkeypatch.setattr(engines, "manifest", manifest)
    code, stdout, _ = run("--engine-dir", "ENGINES", "--inputs", inputs, "--golden", golden)
    assert code == 0
    (line,) = [line for line in stdout.splitlines() if "unet11" in line]
    assert "none" in line
    assert ">= 93.000%" in stdout


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        (Row("latent", "relative L2", 1.2345e-6, 1e-5), ("1.23e-06", "<= 1e-05")),
        (Row("pred_masks", "sign flips", 1389.0, 50), ("1389", "<= 50")),
        (Row("pred_masks", "sign flips", 7.0, None), ("7", "none")),
        (Row("label_2d", "labels equal", 0.99994, 0.9995, True), ("99.994%", ">= 99.950%")),
        (Row("latent", "relative L2", float("nan"), None), ("nan", "none")),
    ],
)
def test_numbers_as_text(row, texts):
    assert script.format_numbers(row) == texts


def fails(result):
    """The one line of an error."""
    code, stdout, stderr = result
    assert code == 2
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    return stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --module or --engine-dir"),
        (["--module", "--engine-dir", "E"], "either --module or --engine-dir"),
        (["--module"], "either --inputs"),
        (["--module", "--inputs", "a", "--scene", "b"], "either --inputs"),
        (["--module", "--inputs", "a"], "--golden to compare with, or --record"),
        (["--module", "--inputs", "a", "--record", "b", "--json", "c"], "give --golden"),
        (["--module", "--inputs", "a", "--record", "b", "--view", "0"], "--view goes with"),
        (["--module", "--scene", "a", "--golden", "b", "--view", "0"], "--golden names its views"),
        (["--engine-dir", "E", "--inputs", "a", "--golden", "b", "--preset", "tiny"], "--preset"),
        (["--module", "--inputs", "none.npz", "--golden", "none.npz"], "no file none.npz"),
    ],
)
def test_contradicting_options_rejected(run, options, message):
    assert message in fails(run(*options))


def test_unknown_preset_rejected(run, inputs, golden):
    options = ["--inputs", inputs, "--golden", golden, "--preset", "b1n1"]
    assert "unknown preset 'b1n1'" in fails(run("--module", *options))


def test_folder_without_engines_rejected(inputs, golden, tmp_path):
    options = ["--engine-dir", tmp_path, "--inputs", inputs, "--golden", golden]
    result = CliRunner().invoke(app, [str(option) for option in options])
    assert "has no manifest.json" in fails((result.exit_code, result.stdout, result.stderr))


@pytest.mark.parametrize("name", ["label_3d", "mapping", "voxel_coords", "vox_rows", "bott_C"])
def test_missing_array_rejected(run, inputs, golden, tmp_path, name):
    arrays = dict(read_arrays(golden))
    del arrays[name]
    write_arrays(tmp_path / "part.npz", arrays)
    options = ["--inputs", inputs, "--golden", tmp_path / "part.npz"]
    assert f"'{name}'" in fails(run("--engine-dir", "ENGINES", *options))


def test_missing_input_rejected(run, golden, tmp_path, inputs):
    arrays = dict(read_arrays(inputs))
    del arrays["K640"]
    write_arrays(tmp_path / "part.npz", arrays)
    options = ["--inputs", tmp_path / "part.npz", "--golden", golden]
    assert "no array 'K640'" in fails(run("--engine-dir", "ENGINES", *options))


def test_bad_input_rejected(run, golden, tmp_path, inputs):
    arrays = dict(read_arrays(inputs))
    arrays["pose"] = np.zeros((4, 4))
    write_arrays(tmp_path / "singular.npz", arrays)
    options = ["--inputs", tmp_path / "singular.npz", "--golden", golden]
    assert "singular" in fails(run("--engine-dir", "ENGINES", *options))


def test_camera_that_sees_nothing_rejected(run, golden, tmp_path, inputs):
    arrays = dict(read_arrays(inputs))
    arrays["pose"] = arrays["pose"] + np.outer([1000, 0, 0, 0], [0, 0, 0, 1])  # a kilometre off
    write_arrays(tmp_path / "away.npz", arrays)
    options = ["--inputs", tmp_path / "away.npz", "--golden", golden]
    assert "sees no point" in fails(run("--engine-dir", "ENGINES", *options))


def test_text_file_rejected(run, inputs, tmp_path):
    (tmp_path / "golden.npz").write_text("label_fused 1 2 3\nlabel_2d 4 5 6\n")
    options = ["--inputs", inputs, "--golden", tmp_path / "golden.npz"]
    assert "not an .npz file" in fails(run("--engine-dir", "ENGINES", *options))


def test_pickled_reference_rejected(run, inputs, golden, tmp_path):
    arrays = dict(read_arrays(golden)) | {"note": np.array([{"a": 1}], dtype=object)}
    np.savez(tmp_path / "pickled.npz", **arrays)
    options = ["--inputs", inputs, "--golden", tmp_path / "pickled.npz"]
    assert "not an .npz file" in fails(run("--engine-dir", "ENGINES", *options))


@pytest.mark.parametrize("given", ["golden", "option"])
def test_unknown_view_rejected(run, engines, scene, tmp_path, given):
    path = tmp_path / "scene.npz"
    if given == "golden":
        write_arrays(path, {"view_ids": np.array([0, 186])})
        options = ["--golden", path]
    else:
        options = ["--view", "186", "--record", path]
    message = fails(run("--engine-dir", "ENGINES", "--scene", scene, *options))
    assert "has no view '186'; it has 0, 1, 2" in message


def test_reference_of_another_cloud_rejected(run, inputs, golden, tmp_path):
    arrays = dict(read_arrays(golden))
    arrays["mapping"] = arrays["mapping"][:100]
    write_arrays(tmp_path / "other.npz", arrays)
    options = ["--inputs", inputs, "--golden", tmp_path / "other.npz"]
    assert "another cloud" in fails(run("--engine-dir", "ENGINES", *options))


def test_recording_needs_its_suffix(run, inputs, tmp_path):
    options = ["--inputs", inputs, "--record", tmp_path / "golden.txt"]
    assert "ends in .npz" in fails(run("--engine-dir", "ENGINES", *options))


def test_xmask3d_verify_is_the_same_command(run, inputs, golden, tmp_path):
    engine_dir = str(script.Segmenter.__closure__[0].cell_contents.manifest.root)
    options = ["--engine-dir", engine_dir, "--inputs", str(inputs)]
    good = CliRunner().invoke(cli.app, ["verify", *options, "--golden", str(golden)])
    assert good.exit_code == 0
    assert "all 31 rows ok" in good.stdout
    bad = CliRunner().invoke(cli.app, ["verify", *options])
    assert "--record" in fails((bad.exit_code, bad.stdout, bad.stderr))


def test_script_runs_from_the_checkout(tmp_path):
    options = ["--module", "--inputs", "none.npz", "--golden", "none.npz"]
    command = [sys.executable, str(Path(script.__file__)), *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "no file none.npz" in fails((result.returncode, result.stdout, result.stderr))
