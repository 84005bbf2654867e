"""Deformable attention against an explicit loop, and the pixel decoder around it."""

import math

import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.layers import sine_position
from xmask3d_rt.model.pixel_decoder import (
    DeformableAttention,
    PixelDecoder,
    sample_levels,
    sample_levels_gather,
)

CONFIG = get_preset("tiny").mask_head
SHAPES = ((2, 3), (4, 5), (7, 6))


def sample_bilinear(image, x, y):
    """Value at pixel coordinates (x, y) of `image` [h, w, D]; zero outside."""
    height, width, depth = image.shape
    total = torch.zeros(depth, dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for col in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= col < width:
                total += (1 - abs(y - row)) * (1 - abs(x - col)) * image[row, col]
    return total


def sample_levels_loop(value, shapes, locations, weights):
    """The formula, one sample at a time."""
    batch, queries, heads, levels, points, _ = locations.shape
    output = torch.zeros(batch, queries, heads, value.shape[-1], dtype=value.dtype)
    start = 0
    for level in range(levels):
        height, width = shapes[level]
        part = value[:, start : start + height * width].unflatten(1, (height, width))
        start += height * width
        for b, q, h, p in torch.cartesian_prod(*map(torch.arange, (batch, queries, heads, points))):
            x, y = locations[b, q, h, level, p].tolist()
            sampled = sample_bilinear(part[b, :, :, h], x * width - 0.5, y * height - 0.5)
            output[b, q, h] += weights[b, q, h, level, p] * sampled
    return output.flatten(2)


@pytest.mark.parametrize("sample", [sample_levels, sample_levels_gather])
def test_sampling_equals_explicit_loop(sample):
    generator = torch.Generator().manual_seed(0)
    total = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, total, 2, 3, dtype=torch.float64, generator=generator)
    # some samples fall outside of the maps
    locations = torch.rand(2, 5, 2, 3, 4, 2, dtype=torch.float64, generator=generator) * 1.6 - 0.3
    weights = torch.rand(2, 5, 2, 3, 4, dtype=torch.float64, generator=generator)
    expected = sample_levels_loop(value, SHAPES, locations, weights)
    torch.testing.assert_close(sample(value, SHAPES, locations, weights), expected)


def test_gather_form_has_the_same_gradients():
    generator = torch.Generator().manual_seed(1)
    total = sum(h * w for h, w in SHAPES)
    inputs = [
        torch.randn(1, total, 2, 3, dtype=torch.float64, generator=generator),
        torch.rand(1, 4, 2, 3, 2, 2, dtype=torch.float64, generator=generator),
        torch.rand(1, 4, 2, 3, 2, dtype=torch.float64, generator=generator),
    ]
    gradients = []
    for sample in (sample_levels, sample_levels_gather):
        value, locations, weights = (x.clone().requires_grad_() for x in inputs)
        sample(value, SHAPES, locations, weights).square().sum().backward()
        gradients.append((value.grad, locations.grad, weights.grad))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_attention_starts_as_the_mean_along_rays():
    attention = DeformableAttention(CONFIG)
    offsets = attention.sampling_offsets.bias.view(CONFIG.heads, 3, CONFIG.points, 2)
    reach = offsets.abs().amax(-1)
    expected = torch.arange(1.0, CONFIG.points + 1).expand(CONFIG.heads, 3, -1)
    torch.testing.assert_close(reach, expected)
    assert attention.attention_weights.weight.count_nonzero() == 0


def test_positions_against_formula():
    height, width, channels = 3, 5, 8
    position = sine_position(height, width, channels, torch.device("cpu"))
    half = channels // 2
    for row, col in ((0, 0), (2, 4), (1, 3)):
        for axis, (index, size) in enumerate(((row, height), (col, width))):
            angle = (index + 1) / (size + 1e-6) * 2 * math.pi
            for channel in range(half):
                scaled = angle / 10000 ** (2 * (channel // 2) / half)
                expected = math.cos(scaled) if channel % 2 else math.sin(scaled)
                assert position[axis * half + channel, row, col] == pytest.approx(
                    expected, abs=1e-6
                )


@torch.no_grad()
def test_pixel_decoder_shapes_and_order():
    torch.manual_seed(0)
    decoder = PixelDecoder(CONFIG).eval()
    features = [torch.randn(2, CONFIG.projection_dim, 32 >> i, 32 >> i) for i in range(4)]
    mask_features, levels = decoder(features)
    assert mask_features.shape == (2, CONFIG.hidden_dim, 32, 32)
    assert [level.shape[-1] for level in levels] == [4, 8, 16]
    # an image's result does not depend on its neighbours in the batch
    alone, _ = decoder([feature[1:] for feature in features])
    torch.testing.assert_close(mask_features[1:], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pixel_decoder_same_with_gather():
    torch.manual_seed(0)
    decoder = PixelDecoder(CONFIG).eval()
    features = [torch.randn(1, CONFIG.projection_dim, 32 >> i, 32 >> i) for i in range(4)]
    expected, _ = decoder(features)
    for module in decoder.modules():
        if isinstance(module, DeformableAttention):
            module.sample = sample_levels_gather
    actual, _ = decoder(features)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
