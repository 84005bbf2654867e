"""What an inference launches on a GPU, from the projection to the votes, never waits for it."""

import pytest
import torch
from torch import Tensor

from tests.kernels.no_wait import WaitError, no_wait
from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import (
    ProjectedView,
    ViewVoxels,
    assign_masks,
    build_label_tables,
    build_unet_maps,
    build_unet_maps_from_levels,
    finish_view_voxels,
    finish_votes,
    label_points,
    make_votes,
    mask_class_logits,
    mask_pool,
    nearest_fill,
    plan_view_voxels,
    project_view,
    vote,
    voxelize,
)
from xmask3d_rt.kernels.nearest_fill.op import nearest_known
from xmask3d_rt.model.sparse_unet import MinkUNet
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

N, GRID = 200, (24, 32)
EMBED, FEAT, QUERIES, CLASSES = 16, 8, 5, 4


def project() -> tuple[Tensor, list[ProjectedView]]:
    """A cloud in front of two cameras."""
    torch.manual_seed(0)
    points = torch.randn(N, 3) * 0.3 + torch.tensor([0.0, 0.0, 2.0])
    K = torch.tensor([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]])
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 0.7
    depth = torch.full(GRID, 2.0)
    with no_wait():
        views = [project_view(points, K, poses[0], depth, 2, 0.25, GRID)]
        views.append(project_view(points, K, poses[1], None, 2, 0.25, GRID))
    return points, views


def group(points: Tensor, views: list[ProjectedView], voxel_size: float = 0.1) -> ViewVoxels:
    with no_wait():
        visible = torch.stack([view.visible for view in views])
        pending = plan_view_voxels(points, visible, voxel_size, keep_least=3, padded=True)
    sizes = pending.sizes.tolist()
    with no_wait():
        return finish_view_voxels(pending, sizes)


def test_views_are_projected_and_voxelized():
    points, views = project()
    voxels = group(points, views)
    start = 0
    for view, count in zip(views, voxels.point_counts, strict=True):
        mine = slice(start, start + count)
        alone = voxelize(points[view.visible_indices()], 0.1)
        assert count == int(view.count) > 50
        assert torch.equal(voxels.indices[mine], view.visible_indices())
        assert torch.equal(voxels.first_point[voxels.point_to_voxel[mine]] - start,
                           alone.first_point[alone.point_to_voxel])  # fmt: skip
        start += count


def test_maps_and_net():
    points, views = project()
    voxels = group(points, views, 0.4)
    folded = fold_sparse_unet(MinkUNet(get_preset("tiny").binary_head).eval().state_dict())
    net = FoldedSparseUNet(folded)
    feats = torch.rand(len(voxels.first_point), 3)
    with no_wait():
        maps = build_unet_maps_from_levels(voxels.level_coords)
        ours = net(feats, maps)
    checked = build_unet_maps(voxels.level_coords[0])
    for kind in ("conv", "down", "up"):
        for a, b in zip(getattr(maps, kind), getattr(checked, kind), strict=True):
            assert torch.equal(a.neighbors, b.neighbors)
    assert torch.equal(maps.stem.neighbors, checked.stem.neighbors)
    for a, b in zip(ours, net(feats, checked), strict=True):
        assert torch.equal(a, b)


def test_masks_labels_and_votes():
    points, views = project()
    voxels = group(points, views)
    is_base = torch.tensor([True, False, True, False])
    text, classes = torch.randn(CLASSES, EMBED), torch.arange(CLASSES)
    fuser = torch.randn(EMBED, 2 * EMBED)
    tables = build_label_tables(
        text, classes, is_base, fuser, torch.zeros(EMBED), 10.0, 0.65, 0.35,
        voxel_weight=torch.randn(EMBED, FEAT),
    )  # fmt: skip
    null, features = torch.randn(1, EMBED), torch.randn(1, EMBED, 6, 8)
    masks, clip = torch.randn(QUERIES, 6, 8), torch.randn(QUERIES, EMBED)
    encoded, base_prob = torch.randn(len(voxels.first_point), FEAT), torch.rand(len(voxels.indices))
    count = voxels.point_counts[0]
    votes = make_votes(N, CLASSES)
    with no_wait():
        indices, rows = voxels.indices[:count], voxels.point_to_voxel[:count]
        embed = mask_pool(features, masks[None])[0]
        logits = mask_class_logits(embed, text, classes, CLASSES, null, 10.0)
        assignment = assign_masks(
            masks, GRID, views[0].row[indices], views[0].col[indices], base_prob[:count], logits,
            is_base,
        )  # fmt: skip
        labels = label_points(
            encoded, rows, assignment.point_query, embed, clip, base_prob[:count],
            points[indices], tables,
        )  # fmt: skip
        vote(votes, indices, labels.fused[None], labels.score)
        finished = finish_votes(votes, nearest_known(points, votes.coverage > 0))
    assert int(votes.coverage.sum()) == count
    assert torch.equal(finished.label[0, voxels.indices[:count]], labels.fused)


@pytest.mark.parametrize(
    "wait",
    [
        lambda points, views: views[0].visible_indices(),
        lambda points, views: voxelize(points, 0.1),
        lambda points, views: nearest_fill(points, views[0].visible),
        lambda points, views: build_unet_maps(torch.zeros(1, 4, dtype=torch.int32)),
    ],
)
def test_a_wait_is_seen(wait):
    points, views = project()
    with pytest.raises(WaitError), no_wait():
        wait(points, views)
