"""Manifest: round trip, and every way in which a directory can be wrong."""

import json
import os

import pytest
from fuzzing import assert_clear

from xmask3d_rt.engines import Manifest, WeightSource
from xmask3d_rt.engines.files import VERIFIED_NAME, FileEntry, hash_file, write_atomically
from xmask3d_rt.engines.manifest import MANIFEST_NAME
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError

ABSENT = object()


def edit(manifest, change):
    path = manifest.root / MANIFEST_NAME
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_round_trip(manifest):
    loaded = Manifest.load(manifest.root)
    assert loaded == manifest
    assert loaded.root == manifest.root
    assert loaded.get("linear").signature.profile["T"].max == 16
    assert loaded.path_of("linear").is_file()
    values = json.loads(manifest.to_json())
    assert set(values["class_split"]["base"]).isdisjoint(values["class_split"]["novel"])


def test_missing_manifest_rejected(tmp_path):
    message = (
        r"has no manifest\.json; build engines .*`xmask3d build --preset tiny --out .*nowhere`"
    )
    with pytest.raises(EngineError, match=message):
        Manifest.load(tmp_path / "nowhere")
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "unet").write_text("perhaps of another model")
    with pytest.raises(EngineError, match=r"`xmask3d build --preset PRESET --out .*somewhere`"):
        Manifest.load(tmp_path / "somewhere")


def test_schema_1_still_loads(manifest):
    def make_old(values):
        values["schema"] = 1
        linear = values["components"]["linear"]
        linear["signature"]["profile"]["B"] = {"min": 1, "opt": 1, "max": 4}
        for part in values["components"].values():
            del part["options"], part["device"]

    edit(manifest, make_old)
    loaded = Manifest.load(manifest.root)
    assert loaded.get("heads") == manifest.get("heads")
    assert loaded.get("linear").options == BuildOptions(max_batch=4)
    assert loaded.get("linear").device is None
    loaded.save()
    assert Manifest.load(manifest.root) == loaded


@pytest.mark.parametrize(
    ("names", "stripped"),
    [
        (("model.engine", "model.engine.json", "model.fp16.onnx"), True),
        (("model.engine", "model.engine.json"), False),
        (("model.fp16.onnx", "model.fp16.onnx.data"), False),
    ],
)
def test_schema_1_shows_stripped_weights(manifest, names, stripped):
    def make_old(values):
        values["schema"] = 1
        files = values["components"]["linear"]["files"]
        values["components"]["linear"]["files"] = [files[0] | {"path": name} for name in names]
        for part in values["components"].values():
            del part["options"], part["device"]

    edit(manifest, make_old)
    loaded = Manifest.load(manifest.root, verify=False)
    assert loaded.get("linear").options == BuildOptions(strip_weights=stripped)


@pytest.mark.parametrize("schema", [3, 99, None, "1", True, 0, 1.0])
def test_newer_schema_rejected(manifest, schema):
    edit(manifest, lambda values: values.update(schema=schema))
    with pytest.raises(EngineError, match=f"has schema {schema!r}, this version reads up to 2"):
        Manifest.load(manifest.root)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_unreadable_manifest_rejected(manifest, text):
    (manifest.root / MANIFEST_NAME).write_text(text)
    with pytest.raises(EngineError, match=r"cannot be read|is not a manifest"):
        Manifest.load(manifest.root)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("config"),
        lambda v: v["config"].update(voxel_size=-1),
        lambda v: v["components"]["linear"].pop("files"),
        lambda v: v["components"]["linear"].update(precision="fp31"),
        lambda v: v["components"]["linear"]["files"][0].update(colour="red"),
    ],
)
def test_damaged_manifest_rejected(manifest, change):
    edit(manifest, change)
    with pytest.raises(EngineError, match="is damaged"):
        Manifest.load(manifest.root)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("components", "linear", "parity", "tolerances"), ABSENT, "missing key 'tolerances'"),
        (("components", "linear", "parity", "tolerances", "y"), ABSENT, "same outputs; not of 'y'"),
        (("components", "linear", "parity", "errors", "y"), None, "errors.y: should be a valid n"),
        (("components", "linear", "parity", "errors"), {}, "parity: errors and tolerances must"),
        (("components", "linear", "files"), [], "linear.files: a component has at least one file"),
        (("components", "linear", "files"), {}, "linear.files: should be a valid array, got {}"),
        (("components", "linear", "name"), "heads", "components.linear: its name is 'heads'"),
        (("components", "linear", "signature", "inputs"), [7], "inputs.0: should be an object"),
        (("components", "linear", "signature", "profile", "T", "max"), 2**99, "profile.T.max"),
        (("components", "linear", "opset"), "18", "components.linear.opset: should be a valid int"),
        (("components", "heads", "fingerprint"), "a\nb", "fingerprint: should be one line of"),
        (("components", "heads", "files", 0, "size"), -1, "heads.files.0.size: should be greater"),
        (("components", "heads", "files", 0, "sha256"), "\x1b", "heads.files.0.sha256: string"),
        (("components", "heads"), None, "components.heads: should be an object, got None"),
        (("components",), [], "components: should be an object, got []"),
        (("versions", "torch"), 2.13, "versions.torch: should be a valid string, got 2.13"),
        (("config", "mask_head", "heads"), 0, "config.mask_head.heads: should be greater than"),
        (("config", "view", "mask_shape"), [1], "config.view.mask_shape: missing key '1'"),
        (("config", "split", "novel"), [99], "config.split: novel indices [99] are outside 0..63"),
        (
            ("weights", "kind"),
            "magic",
            "weights: kind must be of synthetic, bundled, files, mixed, got 'magic'",
        ),
    ],
)
def test_every_wrong_value_is_one_line_with_its_place(manifest, place, value, message):
    def change(values):
        *parents, last = place
        for key in parents:
            values = values[key]
        if value is ABSENT:
            del values[last]
        else:
            values[last] = value

    edit(manifest, change)
    with pytest.raises(EngineError) as caught:
        Manifest.load(manifest.root)
    assert_clear(caught.value, manifest.root / MANIFEST_NAME)
    assert message in str(caught.value)
    assert "`xmask3d build --preset tiny" in str(caught.value)


@pytest.mark.parametrize("number", [24, 632])
def test_found_by_fuzzing(shared, tmp_path, number):
    (tmp_path / MANIFEST_NAME).write_bytes(
        (shared / "field" / "fuzz" / f"manifest-{number}.json").read_bytes()
    )
    with pytest.raises(EngineError) as caught:
        Manifest.load(tmp_path, verify=False)
    assert_clear(caught.value, tmp_path / MANIFEST_NAME)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "C:/windows", "a/../../b"])
def test_path_outside_rejected(manifest, path):
    edit(
        manifest,
        lambda v: v["components"]["linear"]["files"][0].update(path=path),
    )
    with pytest.raises(EngineError, match="outside its directory"):
        Manifest.load(manifest.root)


def test_missing_file_rejected(manifest):
    manifest.path_of("heads").unlink()
    with pytest.raises(EngineError, match=r"heads\.safetensors is missing; rebuild it with"):
        Manifest.load(manifest.root)


def test_truncated_file_rejected(manifest):
    path = manifest.path_of("heads")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineError, match="has 699 bytes, expected 700"):
        Manifest.load(manifest.root)


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("loaded_before", [False, True])
def test_corrupt_file_rejected(manifest, loaded_before):
    path = manifest.path_of("heads")
    if loaded_before:
        Manifest.load(manifest.root)
    times = path.stat()
    flip_byte(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a write that hides itself
    with pytest.raises(EngineError, match=r"heads\.safetensors is corrupt: its SHA-256"):
        Manifest.load(manifest.root)


def test_hashes_are_remembered(manifest, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "xmask3d_rt.engines.files.hash_file", lambda p: hashed.append(p.name) or hash_file(p)
    )
    Manifest.load(manifest.root)
    assert sorted(hashed) == ["heads.safetensors", "model.onnx"]
    hashed.clear()
    loaded = Manifest.load(manifest.root)
    assert hashed == []
    loaded.verify(full=True)
    assert len(hashed) == 2
    hashed.clear()
    (manifest.root / VERIFIED_NAME).write_text("not json")
    Manifest.load(manifest.root)
    assert len(hashed) == 2


def test_load_without_verification(manifest):
    manifest.path_of("heads").unlink()
    assert Manifest.load(manifest.root, verify=False) == manifest


def test_weights_kind_rejected():
    with pytest.raises(EngineError, match="bundled, files, mixed, got 'magic'"):
        WeightSource("magic")


def test_atomic_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    write_atomically(path, "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_empty_entry_rejected():
    with pytest.raises(EngineError, match="outside its directory"):
        FileEntry("", 0, "")


def test_a_path_that_is_no_folder_is_not_to_be_built_over(tmp_path):
    (tmp_path / "scene.npz").write_bytes(b"points")
    with pytest.raises(EngineError, match=r"manifest\.json: Not a directory; check") as caught:
        Manifest.load(tmp_path / "scene.npz")
    assert "build" not in str(caught.value)
