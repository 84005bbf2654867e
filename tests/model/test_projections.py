"""Conditions from the 3D feature, and the feature pyramid from the diffusion taps."""

import torch
from torch.nn import functional as F

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.projections import (
    Bottleneck,
    ConditionProjection,
    FeatureProjections,
    feature_channels,
)

CONFIG = get_preset("tiny")


def test_closed_gates_leave_the_prompt_alone():
    torch.manual_seed(0)
    projection = ConditionProjection(CONFIG)
    uncond = torch.randn(1, CONFIG.diffusion.context_length, CONFIG.diffusion.context_dim)
    cond_inputs, cond_emb = projection(torch.randn(3, CONFIG.clip.embed_dim), uncond)
    assert torch.equal(cond_inputs, uncond.expand(3, -1, -1))
    assert torch.equal(cond_emb, torch.zeros(3, CONFIG.diffusion.time_dim))


def test_open_gates_add_the_projected_condition():
    torch.manual_seed(0)
    projection = ConditionProjection(CONFIG)
    with torch.no_grad():
        projection.alpha_cond.fill_(0.3)
        projection.alpha_cond_time_embed.fill_(-0.2)
    uncond = torch.randn(1, CONFIG.diffusion.context_length, CONFIG.diffusion.context_dim)
    condition = torch.randn(2, CONFIG.clip.embed_dim)
    cond_inputs, cond_emb = projection(condition, uncond)
    text = projection.clip_project
    row = F.linear(condition[1], text.linear.weight, text.linear.bias)
    gate = torch.tensor(0.3).tanh()
    expected = uncond[0] + gate * (row + text.positional_embedding[0])
    torch.testing.assert_close(cond_inputs[1], expected)
    time = projection.time_embed_project
    row = F.linear(condition[1], time.linear.weight, time.linear.bias)
    expected = torch.tensor(-0.2).tanh() * (row + time.positional_embedding[0, 0])
    torch.testing.assert_close(cond_emb[1], expected)


def test_bottleneck_shortcut_only_where_the_width_changes():
    assert Bottleneck(64, 16, 64).shortcut is None
    assert Bottleneck(32, 16, 64).shortcut is not None
    block = Bottleneck(32, 16, 64)
    x = torch.randn(1, 32, 5, 5)
    expected = F.relu(block.conv3(F.relu(block.conv2(F.relu(block.conv1(x))))) + block.shortcut(x))
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_pyramid_sums_the_right_features():
    torch.manual_seed(0)
    projections = FeatureProjections(CONFIG)
    side = CONFIG.diffusion.image_size
    strides = (4, 8, 64, 32, 16, 8, 8, 4)
    features = [
        torch.randn(1, channels, side // stride, side // stride)
        for channels, stride in zip(feature_channels(CONFIG), strides, strict=True)
    ]
    s2, s3, s4, s5 = projections(features)
    one = [projections[i](feature) for i, feature in enumerate(features) if i != 2]
    enc5, enc7, unet5, unet8, unet11, dec2, dec5 = one
    unet2 = projections[2](features[2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(s2, enc5 + dec5)
    torch.testing.assert_close(s3, enc7 + unet11 + dec2)
    torch.testing.assert_close(s4, unet8)
    torch.testing.assert_close(s5, unet2 + unet5)
