"""What torch sees of the post-processing operators: schema, fakes, tracing through a whole view."""

import pytest
import torch

from xmask3d_rt.kernels import (
    assign_masks,
    build_label_tables,
    finish_votes,
    label_points,
    make_votes,
    mask_pool,
    nearest_fill,
    project_view,
    vote,
)

SIZE = (12, 16)
OPS = torch.ops.xmask3d


def make_view():
    """Tensors of a small view; 4 queries, 5 classes, 8 channels."""
    torch.manual_seed(0)
    points = torch.randn(200, 3) * 0.5 + torch.tensor([0.0, 0.0, 3.0])
    return {
        "points": points,
        "K": torch.tensor([[20.0, 0, 8], [0, 20, 6], [0, 0, 1]], dtype=torch.float64),
        "pose": torch.eye(4, dtype=torch.float64),
        "mask_logits": torch.randn(4, 6, 8),
        "class_logits": torch.randn(4, 6),
        "is_base": torch.tensor([True, True, False, False, True]),
        "prob": torch.rand(200),
        "mask_embed": torch.randn(4, 8),
        "voxel_feats": torch.randn(200, 8),
    }


def make_tables(view):
    text, fuser = torch.randn(5, 8), torch.randn(8, 16)
    return build_label_tables(
        text, torch.arange(5), view["is_base"], fuser, torch.zeros(8), 10.0, 0.65, 0.35
    )


def make_arguments(name):
    view = make_view()
    pixel = torch.randint(0, 12, (200,), dtype=torch.int32)
    query = torch.randint(-1, 4, (200,), dtype=torch.int32)
    every = torch.arange(200)
    votes = make_votes(200, 5)
    return {
        "project_view": (view["points"], view["K"], view["pose"], None, SIZE, 1, 0.25),
        "mask_pool": (torch.randn(1, 30, 8, requires_grad=True), torch.randn(1, 4, 30)),
        "assign_masks": (
            view["mask_logits"],
            SIZE,
            pixel,
            pixel,
            view["prob"],
            view["class_logits"],
            view["is_base"],
            0.5,
        ),
        "label_points": (
            view["voxel_feats"],
            every,
            query,
            view["mask_embed"],
            view["mask_embed"].flip(0),
            view["prob"],
            view["points"],
            *make_tables(view),
        ),
        "nearest_fill": (view["points"], view["prob"] > 0.5),
        "vote": (*votes, every, torch.randint(5, (1, 200)), view["prob"]),
        "finish_votes": (*votes, every),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "project_view",
        "mask_pool",
        "assign_masks",
        "label_points",
        "nearest_fill",
        "vote",
        "finish_votes",
    ],
)
def test_operator_is_well_formed(name):
    """Schema against aliasing and mutation, fake shapes, autograd and dynamic tracing."""
    torch.library.opcheck(getattr(OPS, name).default, make_arguments(name))


def test_whole_view_compiles_to_one_graph():
    view = make_view()
    tables = make_tables(view)

    def run(points, mask_logits, voxel_feats):
        projected = project_view(points, view["K"], view["pose"], size=SIZE, border=1)
        owner = assign_masks(
            mask_logits,
            SIZE,
            projected.row,
            projected.col,
            view["prob"],
            view["class_logits"],
            view["is_base"],
        )
        embed = mask_pool(voxel_feats, torch.randn(4, 1).expand(4, 200) * 0 + 1)
        labels = label_points(
            voxel_feats,
            torch.arange(200),
            owner.point_query,
            embed,
            view["mask_embed"],
            view["prob"],
            points,
            tables,
        )
        votes = make_votes(200, 5)
        vote(votes, projected.indices, labels.fused[None], labels.score)
        return finish_votes(votes, torch.arange(200)), labels

    arguments = view["points"], view["mask_logits"], view["voxel_feats"]
    voted, labels = torch.compile(run, backend="eager", fullgraph=True)(*arguments)
    expected_votes, expected_labels = run(*arguments)
    for ours, theirs in zip((*voted, *labels), (*expected_votes, *expected_labels), strict=True):
        assert torch.equal(ours, theirs)


def test_filling_and_voting_agree_on_unseen_points():
    view = make_view()
    votes = make_votes(200, 5)
    vote(votes, torch.arange(0, 200, 2), torch.arange(100)[None] % 5, torch.ones(100))
    nearest = nearest_fill(view["points"], votes.coverage > 0)
    result = finish_votes(votes, nearest)
    assert torch.equal(result.label[0], (nearest // 2) % 5)
    assert result.score.eq(1).all()
