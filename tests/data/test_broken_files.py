"""Files of labelled scenes with random damage: a right answer, or one line that names the file."""

import io
import json

import numpy as np
import pytest
import torch
from fuzzing import FUZZ, assert_handled, mutate
from hypothesis import given
from safetensors.numpy import save

from xmask3d_rt.data.released import read_caption_files, read_cloud_file
from xmask3d_rt.data.scene_folders import open_scene_folders, read_tensors
from xmask3d_rt.scene.text_files import read_json_object

XYZ = np.arange(12, dtype=np.float32).reshape(4, 3)


def make_pth():
    stream = io.BytesIO()
    torch.save((XYZ, XYZ / 12, np.zeros(4)), stream)
    return stream.getvalue()


def read_captions(path):
    read_caption_files.cache_clear()
    return read_caption_files(path.parent)


CASES = {
    "scene_vh_clean_2.pth": (make_pth(), read_cloud_file),
    "scene.safetensors": (save({"xyz": XYZ, "rgb": XYZ.astype(np.uint8)}), read_tensors),
    "captions.json": (json.dumps({"scene0": {"0": "a chair"}}).encode(), read_captions),
    "dataset.json": (json.dumps({"label_sets": ["scannet20"]}).encode(), read_json_object),
}


@pytest.mark.fuzz
@pytest.mark.parametrize("name", CASES)
def test_damaged_files_end_with_one_line(tmp_path_factory, name):
    good, read = CASES[name]
    path = tmp_path_factory.mktemp("broken") / name

    @FUZZ
    @given(mutate([good]))
    def check(content):
        path.write_bytes(content)
        assert_handled(lambda: read(path), path)

    check()


@pytest.mark.parametrize("content", ["{}", '{"label_sets": 3}', '{"label_sets": [[]]}'])
def test_data_sets_without_label_sets_rejected(tmp_path, content):
    (tmp_path / "scene0").mkdir()
    (tmp_path / "scene0/scene.safetensors").write_bytes(CASES["scene.safetensors"][0])
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset\.json: expected label_sets with scannet20 or"):
        open_scene_folders(tmp_path, "train")
    (tmp_path / "dataset.json").write_text('{"label_sets": ["scannet20"]}', encoding="utf-8-sig")
    assert len(open_scene_folders(tmp_path, "train").scenes) == 1


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xe9", b"[]", b"{"])
def test_json_that_is_no_object_rejected(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"captions\.json") as error:
        read_json_object(path)
    assert str(error.value).count("captions.json") == 1


def test_class_names_in_another_encoding_name_their_file(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room/scene.ply").write_text("")
    (tmp_path / "room/classes.txt").write_bytes("canapé".encode("latin-1"))
    with pytest.raises(ValueError, match=r"classes\.txt is not UTF-8 text"):
        open_scene_folders(tmp_path, "train")
