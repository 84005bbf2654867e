"""Patches change how a module computes, not what."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xmask3d_rt.config import MaskHeadConfig
from xmask3d_rt.export.graph.patches import (
    LARGE_GROUP,
    accurate_group_norm,
    bilinear_matrix,
    gather_instead_of_grid_sample,
    patched,
    resize_by_matrix,
)
from xmask3d_rt.model.pixel_decoder import PixelDecoder, sample_levels


@pytest.mark.parametrize(
    ("source", "target"), [(512, 224), (256, 112), (128, 224), (30, 7), (7, 30), (5, 5), (1, 4)]
)
def test_bilinear_matrix_is_torchs(source, target):
    identity = torch.eye(source)[None, None]
    expected = F.interpolate(identity, size=(target, source), mode="bilinear", align_corners=False)[
        0, 0
    ]
    assert torch.equal(torch.from_numpy(bilinear_matrix(source, target)), expected)


def test_resize_by_matrix_and_undone():
    class Resize(nn.Module):
        def forward(self, x):
            smooth = F.interpolate(x, size=(9, 13), mode="bilinear", align_corners=False)
            return smooth, F.interpolate(x, size=(4, 4), mode="nearest")

    x = torch.randn(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    module, original = Resize(), F.interpolate
    expected = module(x)
    with resize_by_matrix(module):
        assert F.interpolate is not original
        found = module(x)
    assert F.interpolate is original
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=1e-6)
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(("channels", "side"), [(32, 200), (64, 8)])
def test_group_norm(channels, side):
    norm = nn.GroupNorm(32, channels)
    generator = torch.Generator().manual_seed(1)
    nn.init.normal_(norm.weight, generator=generator)
    nn.init.normal_(norm.bias, generator=generator)
    module = nn.Sequential(norm)
    x = 3 + torch.randn(2, channels, side, side, generator=generator)
    large = channels // 32 * side**2 >= LARGE_GROUP
    expected = F.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double(), norm.eps)
    with accurate_group_norm(module), torch.no_grad():
        found = module(x)
        flat = module(x.flatten(2))
    assert ("forward" in vars(norm)) is False
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(flat.double(), expected.flatten(2), rtol=1e-5, atol=1e-5)
    assert large == (side == 200)


def test_gather_instead_of_grid_sample():
    config = MaskHeadConfig(
        projection_dim=32, hidden_dim=32, heads=2, pixel_layers=2, pixel_ffn=32, queries=3
    )
    torch.manual_seed(2)
    decoder = PixelDecoder(config).eval()
    features = [torch.randn(1, 32, side, side) for side in (32, 16, 8, 4)]
    with torch.no_grad():
        expected, _ = decoder(features)
        with gather_instead_of_grid_sample(decoder):
            found, _ = decoder(features)
    layers = decoder.transformer.encoder.layers
    assert all(layer.self_attn.sample is sample_levels for layer in layers)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_patches_are_undone_after_an_error():
    original = F.interpolate
    with pytest.raises(ZeroDivisionError), patched("mask_clip", nn.Identity()):
        raise ZeroDivisionError
    assert F.interpolate is original
