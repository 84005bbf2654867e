"""Full-size weight files, written as users have them, give back every tensor bit for bit."""

import zlib

import pytest
import torch
import weight_files as write

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.checkpoints import inspect_weights, load_checkpoints
from xmask3d_rt.model.key_map import build_key_map
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import XMask3D

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def model():
    model = XMask3D(get_preset("b15n4"))
    fill_synthetic(model)
    return model


def checksums(model, namespace, half=False):
    key_map = build_key_map(model)
    found = {}
    for name, tensor in model.state_dict().items():
        if key_map[name].namespace == namespace:
            values = tensor.half().float() if half else tensor
            found[name] = zlib.crc32(values.contiguous().view(-1).numpy())
    return found


def write_released(path, model):
    return write.write_xmask3d(path / "b15n4.pth.tar", write.file_tensors(model, "xmask3d"))


def write_compvis(path, model):
    return write.write_sd_ckpt(path / "sd-v1-3.ckpt", write.file_tensors(model, "sd"))


@pytest.mark.parametrize(
    ("namespace", "write_file", "tensors", "half"),
    [
        ("xmask3d", write_released, 1073, False),
        ("sd", write_compvis, 1138, False),
        ("sd", lambda p, m: write.write_diffusers(p / "sd", m), 1130, False),
        ("clip", lambda p, m: write.write_openai(p / "ViT-L-14.pt", m), 449, True),
        ("clip", lambda p, m: write.write_hf_clip(p / "hf", m, shards=2), 591, False),
    ],
    ids=["pth.tar", "ckpt", "diffusers", "openai", "hugging face"],
)
def test_full_size_round_trip(namespace, write_file, tensors, half, tmp_path, model):
    path = write_file(tmp_path, model)
    expected = checksums(model, namespace, half)

    report = inspect_weights(path)
    assert report.complete
    assert report.preset == "b15n4"
    assert report.tensors == tensors
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    load_checkpoints(model, **{namespace: path}, cache_dir=tmp_path / "cache")
    assert checksums(model, namespace) == expected
    fill_synthetic(model)
