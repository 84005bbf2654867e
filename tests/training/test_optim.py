"""Groups, rates and first values of what is trained."""

import json
import math

import pytest
import torch

from tests.training.rooms import make_micro_model
from xmask3d_rt.config import get_preset
from xmask3d_rt.model.mask_decoder import MaskDecoder
from xmask3d_rt.model.pixel_decoder import PixelDecoder
from xmask3d_rt.model.projections import ConditionProjection, FeatureProjections
from xmask3d_rt.model.sparse_unet import BinaryHead, PointEncoder, SparseConv
from xmask3d_rt.training.config import make_config
from xmask3d_rt.training.first_weights import make_model
from xmask3d_rt.training.optim import cosine_rate, make_optimizer, named_trained, set_rates
from xmask3d_rt.training.step import embed_texts

TINY = get_preset("tiny")


@pytest.fixture(scope="module")
def model():
    return make_micro_model()


def test_rates_are_the_released_ones(shared):
    recorded = json.loads((shared / "golden" / "lr_schedule.json").read_text())
    total = recorded["total_iterations"]
    rows = [tuple(row) for row in recorded["first_20_iterations"]["rows"]]
    rows += [tuple(row[1:]) for row in recorded["start_of_epoch"]["rows"]]
    assert len(rows) == 20 + 150
    settings = make_config("b15n4").optim
    for iteration, lr_3d, lr_others in rows:
        assert cosine_rate(settings.lr_3d, iteration, total) == pytest.approx(lr_3d, abs=1e-12)
        assert cosine_rate(settings.lr_others, iteration, total) == pytest.approx(
            lr_others, abs=1e-12
        )


def test_the_first_iteration_runs_at_the_base_rates_and_the_last_near_zero(model):
    settings = make_config("b15n4").optim
    optimizer = make_optimizer(model, settings)
    assert set_rates(optimizer, settings, 0, 100) == (1e-3, 1e-4)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-4]
    assert max(set_rates(optimizer, settings, 99, 100)) < 3e-7


def test_groups_hold_every_trained_parameter_once(model):
    optimizer = make_optimizer(model, make_config("b15n4").optim)
    sparse, others = (group["params"] for group in optimizer.param_groups)
    names = {id(p): name for name, p in named_trained(model)}
    assert all(names[id(p)].startswith(("pc_decoder", "pc_binary_head")) for p in sparse)
    assert not any(names[id(p)].startswith("pc_") for p in others)
    assert len(sparse) + len(others) == len(names)
    assert not any(name.startswith(("diffusion", "clip")) for name in names.values())
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}


def spread(tensor):
    return float(tensor.detach().double().pow(2).mean().sqrt())


@pytest.mark.parametrize(("size", "fan_out"), [(1, 48), (2, 8 * 96), (3, 27 * 96), (5, 125 * 96)])
def test_sparse_convolutions_start_normal_over_the_fan_out(size, fan_out):
    """Of a 1×1 kernel [Cin, Cout] the released rule reads Cin as its fan-out."""
    torch.manual_seed(0)
    assert spread(SparseConv(48, 96, size).kernel) == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)


def test_transposed_sparse_convolutions_start_uniform():
    torch.manual_seed(0)
    kernel = SparseConv(48, 96, 2, transposed=True).kernel
    bound = 1 / math.sqrt(96 * 8)
    assert float(kernel.abs().max()) <= bound
    assert spread(kernel) == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("build", [PointEncoder, BinaryHead])
def test_batch_norms_start_as_the_identity(build):
    module = build(TINY.point_encoder, 8) if build is PointEncoder else build(TINY.binary_head)
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert norms
    assert all((n.weight == 1).all() and (n.bias == 0).all() for n in norms)
    assert {(n.momentum, n.eps) for n in norms} == {(0.1, 1e-5)}


def test_the_condition_starts_without_effect():
    torch.manual_seed(0)
    condition = ConditionProjection(TINY)
    assert not condition.alpha_cond.any()
    assert not condition.alpha_cond_time_embed.any()
    assert spread(condition.clip_project.positional_embedding) == pytest.approx(0.02, rel=0.05)


def test_feature_projections_start_with_the_kaiming_rule():
    torch.manual_seed(0)
    for block in FeatureProjections(TINY):
        for conv in (block[0].conv1, block[0].conv2, block[0].conv3):
            fan_out = conv.weight.shape[0] * conv.weight[0, 0].numel()
            assert spread(conv.weight) == pytest.approx(math.sqrt(2 / fan_out), rel=0.15)
            assert (conv.norm.weight == 1).all()
            assert not conv.norm.bias.any()


def xavier(weight):
    return math.sqrt(2 / (weight.shape[0] + weight.shape[1]))


def test_the_mask_head_starts_with_the_xavier_rule():
    torch.manual_seed(0)
    pixel, mask = PixelDecoder(TINY.mask_head), MaskDecoder(TINY.mask_head, 128)
    layer = pixel.transformer.encoder.layers[0]
    matrices = [layer.linear1.weight, layer.linear2.weight, layer.self_attn.value_proj.weight]
    feed_forward = mask.transformer_ffn_layers[0]
    matrices += [feed_forward.linear1.weight, feed_forward.linear2.weight]
    matrices += [mask.transformer_self_attention_layers[0].self_attn.in_proj_weight]
    for weight in matrices:
        assert spread(weight) == pytest.approx(xavier(weight), rel=0.05)
    for embedding in (mask.query_feat, mask.query_embed, mask.level_embed):
        assert spread(embedding.weight) == pytest.approx(1, rel=0.15)
    assert spread(pixel.transformer.level_embed) == pytest.approx(1, rel=0.15)
    assert float(mask.post_mask_embed.logit_scale) == pytest.approx(math.log(1 / 0.07))


def test_first_weights_follow_the_seed_and_no_object_is_the_empty_text():
    config = make_config("tiny", ["run.seed=7"])
    one, two = (make_model(config, torch.device("cpu")) for _ in range(2))
    state, again = one.state_dict(), two.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    torch.testing.assert_close(one.category_head.null_embed.data, embed_texts(one, [""]))
    other = make_model(make_config("tiny", ["run.seed=8"]), torch.device("cpu"))
    kernel = "pc_decoder.encoder.conv0p1s1.kernel"
    assert not torch.equal(state[kernel], other.state_dict()[kernel])


def test_frozen_weights_from_one_file_alone_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="--sd needs --clip"):
        make_model(make_config("tiny"), torch.device("cpu"), sd=tmp_path / "sd.ckpt")
