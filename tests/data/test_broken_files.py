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
from xmask3d_rt.data.scene_folders import read_json_object, read_tensors

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
