"""The whole module at tiny size: shapes, modes, gradients; names of the released model."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.fusion import CategoryHead, Fuser, fuse_points, own_points
from xmask3d_rt.model.labelling import label_views
from xmask3d_rt.model.xmask3d import ViewBatch, XMask3D

KEYS = Path(__file__).parents[3] / "shared" / "golden" / "checkpoint_keys.json"
CONFIG = get_preset("tiny")
FROZEN = ("diffusion.", "clip.")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = XMask3D(CONFIG)
    with torch.no_grad():  # zero at first, and a closed gate hides what lies behind it
        condition = model.backbone.feature_extractor
        condition.alpha_cond.fill_(0.3)
        condition.alpha_cond_time_embed.fill_(0.3)
        for layer in model.sem_seg_head.pixel_decoder.transformer.encoder.layers:
            layer.self_attn.sampling_offsets.weight.normal_(std=0.02)
            layer.self_attn.attention_weights.weight.normal_(std=0.02)
    model.diffusion.embed_empty_prompt()
    return model


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 30, (1500, 3), generator=generator)
    views = torch.randint(0, 2, (1500, 1), generator=generator)
    coords = torch.unique(torch.cat([views, cells], dim=1), dim=0).int()
    point_to_voxel = torch.randint(0, len(coords), (2000,), generator=generator)
    rows, cols = CONFIG.view.mask_shape
    side = CONFIG.diffusion.image_size
    return ViewBatch(
        images=torch.rand(2, 3, side, side, generator=generator),
        coords=coords,
        colors=torch.rand(len(coords), 3, generator=generator) * 2 - 1,
        point_to_voxel=point_to_voxel,
        point_view=coords[point_to_voxel, 0].long(),
        row=torch.randint(5, rows - 5, (2000,), generator=generator),
        col=torch.randint(5, cols - 5, (2000,), generator=generator),
        text_embed=torch.randn(8, CONFIG.clip.embed_dim, generator=generator),
        text_class=torch.tensor([0, 0, 1, 2, 3, 4, 5, 5]),
    )


@torch.no_grad()
def test_inference_computes_everything_once(model, batch):
    output = model.eval()(batch)
    head, side = CONFIG.mask_head, CONFIG.diffusion.image_size
    named = output.named()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in named.values())
    assert output.aux_masks == ()
    assert named["pred_masks"].shape == (2, head.queries, side // 4, side // 4)
    assert named["mask_embed"].shape == (2, head.queries, CONFIG.clip.embed_dim)
    assert named["mask_embed_clip"].shape == named["mask_embed"].shape
    assert named["pred_logits"].shape == (2, head.queries, 6 + 1)
    assert named["pred_3d"].shape == (len(batch.coords), CONFIG.clip.embed_dim)
    assert named["binary_logit"].shape == (len(batch.coords),)
    for name in ("enc5", "unet2", "unet11", "dec5", "s2", "s5", "ms0", "ms2", "latent"):
        assert name in named


@torch.no_grad()
def test_views_of_a_batch_are_independent(model, batch):
    output = model.eval()(batch)
    voxels, points = batch.coords[:, 0] == 1, batch.point_view == 1
    coords = batch.coords[voxels].clone()
    coords[:, 0] = 0
    alone = dataclasses.replace(
        batch,
        images=batch.images[1:],
        coords=coords,
        colors=batch.colors[voxels],
        point_to_voxel=voxels.cumsum(0)[batch.point_to_voxel[points]] - 1,
        point_view=torch.zeros(int(points.sum()), dtype=torch.int64),
        row=batch.row[points],
        col=batch.col[points],
    )
    single = model(alone)
    tolerance = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(
        single.sparse.imp_condition[0], output.sparse.imp_condition[1], **tolerance
    )
    torch.testing.assert_close(single.diffusion.latent[0], output.diffusion.latent[1], **tolerance)
    torch.testing.assert_close(single.masks.pred_masks[0], output.masks.pred_masks[1], **tolerance)


@torch.no_grad()
def test_released_order_gives_the_same_answer(model, batch):
    released = XMask3D(CONFIG, released_order=True).eval()
    released.load_state_dict(model.state_dict())
    released.diffusion.embed_empty_prompt()
    expected = model.eval()(batch).named()
    for name, tensor in released(batch).named().items():
        torch.testing.assert_close(tensor, expected[name], msg=lambda m, n=name: f"{n}: {m}")


def test_gradients_reach_every_trained_parameter_and_no_other(model, batch):
    model.train()
    output = model(batch)
    assert len(output.aux_masks) == CONFIG.mask_head.decoder_layers
    loss = output.sparse.binary_logit.square().mean()
    for points in model.fuse(batch, output):
        assert bool(points.covered.any())
        loss = loss + points.fused.square().mean() + points.two_d.square().mean()
    for head in (*output.aux_masks, output.masks):
        loss = loss + head.pred_masks.square().mean() + head.pred_logits.square().mean()
    loss.backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.abs().amax() > 0)
    ]
    frozen = [name for name, _ in model.named_parameters() if name.startswith(FROZEN)]
    model.zero_grad(set_to_none=True)
    assert without == frozen
    trained = {id(parameter) for parameter in model.trained_parameters()}
    assert len(trained) + len(frozen) == len(list(model.parameters()))


def test_frozen_parts_stay_in_evaluation_mode(model):
    model.train()
    assert model.pc_decoder.training
    assert model.sem_seg_head.training
    frozen = [*model.diffusion.modules(), *model.clip.modules()]
    assert not any(module.training for module in frozen)
    model.eval()
    assert not model.pc_decoder.training


def test_missing_empty_prompt_rejected(batch):
    with pytest.raises(ValueError, match="embed_empty_prompt"):
        XMask3D(CONFIG).eval()(batch)


@torch.no_grad()
def test_view_without_voxels_rejected(model, batch):
    three = dataclasses.replace(batch, images=batch.images[[0, 1, 1]])
    with pytest.raises(ValueError, match=r"every view 0\.\.2 needs voxels"):
        model.eval()(three)


@torch.no_grad()
def test_every_point_of_every_view_gets_labels(model, batch):
    output = model.eval()(batch)
    points = torch.rand(len(batch.row), 3, generator=torch.Generator().manual_seed(1))
    is_base = torch.tensor([True, True, False, True, False, True])
    views = label_views(model, batch, output, points, is_base)
    assert len(views) == 2
    for view, (assignment, labels) in enumerate(views):
        here = batch.point_view == view
        base = output.sparse.binary_logit[batch.point_to_voxel[here]] > 0
        assert assignment.point_query.shape == (int(here.sum()),)
        for head in (labels.fused, labels.two_d, labels.three_d):
            assert torch.equal(is_base[head], base)


def test_class_logits_take_the_best_name():
    head = CategoryHead(2)
    with torch.no_grad():
        head.null_embed.copy_(torch.tensor([[0.0, -2.0]]))
    text = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    logits = head(torch.tensor([[0.0, 2.0]]), text, torch.tensor([0, 0, 1]), torch.tensor(10.0))
    torch.testing.assert_close(logits, torch.tensor([[10.0, 0.0, -10.0]]))


def test_points_belong_to_the_best_mask_of_their_pixel():
    masks = torch.full((3, 2, 2), -4.0)
    masks[0, 0], masks[1, 0, 0], masks[2, 1, 1] = 1.0, 3.0, 0.1
    sure = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 0.0]])
    row, col = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    query = own_points(masks, sure, (2, 2), row, col)
    # (1, 0): no mask; (1, 1): the third mask, unsure of its class but alone
    assert query.tolist() == [1, 0, -1, 2]


def test_uncovered_points_keep_their_3d_feature():
    torch.manual_seed(0)
    fuser = Fuser(4)
    embed, feats = torch.randn(2, 4), torch.randn(3, 4)
    points = fuse_points(fuser, embed, torch.tensor([1, -1, 0]), feats)
    torch.testing.assert_close(points.fused[1], feats[1])
    torch.testing.assert_close(points.fused[0], fuser.linear(torch.cat([embed[1], feats[0]])))
    assert points.two_d[1].tolist() == [0, 0, 0, 0]
    assert points.covered.tolist() == [True, False, True]


@pytest.mark.skipif(not KEYS.exists(), reason="shared/golden is not next to the repository")
def test_trained_names_and_shapes_are_the_released_ones():
    with torch.device("meta"):
        model = XMask3D(get_preset("b15n4"))
    ours = {
        name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in model.state_dict().items()
        if not name.startswith(FROZEN)
    }
    assert ours == json.loads(KEYS.read_text())["xmask3d"]
