"""Everything after the networks, for one view of a case-A scene: 40,000 points, 19 classes."""

import torch

from benchmarks.kernel_cases import label_points as labelling
from benchmarks.kernel_cases.views import (
    MASK_SHAPE,
    make_base,
    make_camera,
    make_mask_logits,
    make_seen_points,
)
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import (
    assign_masks,
    build_label_tables,
    label_points,
    make_votes,
    mask_class_logits,
    project_view,
    vote,
    voxelize,
)

SCENE, CLASSES = 40_000, 19  # of which 31,900 are visible, in 14,400 voxels


def benchmark_cases() -> list[KernelCase]:
    """Projection, class logits of the masks, assignment, labelling and voting."""
    return [
        KernelCase(
            "post_processing",
            f"N={SCENE} F=256 E=768 Q=50 C={CLASSES}",
            "fp32",
            _build,
            moved_bytes=labelling.VOXELS * labelling.FEAT * 4,
        )
    ]


def _build(device: torch.device) -> Forms:
    torch.manual_seed(0)
    embed, feat, queries = labelling.EMBED, labelling.FEAT, labelling.QUERIES
    points = make_seen_points(SCENE, device)
    camera = make_camera(device)
    mask_logits = make_mask_logits(queries, 128, device)
    text = torch.randn(CLASSES, embed, device=device)
    text_class = torch.arange(CLASSES, device=device)
    is_base = make_base(CLASSES, device)
    null = torch.randn(1, embed, device=device)
    mask_embed = torch.randn(2, queries, embed, device=device)
    tables = build_label_tables(
        text,
        text_class,
        is_base,
        torch.randn(embed, 2 * embed, device=device) / embed**0.5,
        torch.randn(embed, device=device) * 0.1,
        14.2857,
        0.65,
        0.35,
        voxel_weight=torch.randn(embed, feat, device=device) / feat**0.5,
        voxel_bias=torch.randn(embed, device=device) * 0.1,
    )
    visible = project_view(points, *camera).visible_indices()
    voxels = voxelize(points[visible], 0.02)
    feats = torch.randn(len(voxels.coords), feat, device=device)
    prob = torch.rand(len(visible), device=device)
    votes = make_votes(SCENE, CLASSES, device, num_heads=3)

    def label_view() -> None:
        view = project_view(points, *camera)
        seen = view.visible_indices()
        logits = mask_class_logits(mask_embed[0], text, text_class, CLASSES, null, 14.2857)
        masks = assign_masks(
            mask_logits, MASK_SHAPE, view.row[seen], view.col[seen], prob, logits, is_base
        )
        labels = label_points(
            feats,
            voxels.point_to_voxel,
            masks.point_query,
            mask_embed[0],
            mask_embed[1],
            prob,
            points[seen],
            tables,
        )
        vote(votes, seen, torch.stack(labels[:3]), labels.score)

    return {"ours": label_view}
