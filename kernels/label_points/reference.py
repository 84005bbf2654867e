"""Point labels of the three heads in plain torch; also the CPU runtime path."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from xmask3d_rt.kernels.label_points.tables import LabelTables
from xmask3d_rt.kernels.nearest_fill.reference import nearest_fill_reference

BLOCK_ELEMENTS = 1 << 22  # scores of a block of classes, [N, c * S]; twice as fast as 1 << 25
MIN_BLOCK = 16  # classes, however many points: thinner products cost more than memory
NORM_BLOCK = 96  # rows of the triangular norm factor at a time
TINY = 1e-12  # smallest norm that is divided by, as in torch.nn.functional.normalize
BLOCKED = -1e30  # added to the score of a class the gate excludes


class PointLabels(NamedTuple):
    """Labels of the visible points by the three heads."""

    fused: torch.Tensor  # [n] int64
    two_d: torch.Tensor  # [n] int64
    three_d: torch.Tensor  # [n] int64
    score: torch.Tensor  # [n] float32 in [0, 1], of the fused label


def make_outputs(point_to_voxel: torch.Tensor, **_: Any) -> PointLabels:
    """Results of the right shapes, not yet filled."""
    size = (point_to_voxel.shape[0],)
    return PointLabels(
        fused=point_to_voxel.new_empty(size, dtype=torch.int64),
        two_d=point_to_voxel.new_empty(size, dtype=torch.int64),
        three_d=point_to_voxel.new_empty(size, dtype=torch.int64),
        score=point_to_voxel.new_empty(size, dtype=torch.float32),
    )


def label_points_reference(
    voxel_feats: torch.Tensor,  # [M, F]
    point_to_voxel: torch.Tensor,  # [n]
    point_query: torch.Tensor,  # [n], -1 = uncovered
    mask_embed: torch.Tensor,  # [Q, E]
    mask_embed_clip: torch.Tensor,  # [Q, E]
    base_prob: torch.Tensor,  # [n]
    points: torch.Tensor,  # [n, 3]
    tables: LabelTables,
) -> PointLabels:
    """See `xmask3d_rt.kernels.label_points`.

    The normalisers of both softmaxes are the same for all classes a point may take, and so is
    the exponent r: the arg-max and the probability among those classes need neither.
    """
    if not mask_embed.shape[0]:
        mask_embed = mask_embed_clip = mask_embed.new_zeros(1, mask_embed.shape[1])
    x = voxel_feats.float()
    voxel = point_to_voxel.long()
    covered = point_query >= 0
    query = point_query.long().clamp(min=0)
    side = point_side(base_prob, tables)  # [n]
    half = F.linear(mask_embed.float(), tables.mask_weight, tables.mask_bias)  # [Q, E]
    logit_scale, base_ratio, novel_ratio, _ = tables.constants
    ratio = torch.where(covered, torch.where(side, base_ratio, novel_ratio), 1.0)  # [n]
    fused_norm = measure_fused(x, half, voxel, query, covered, tables)  # [n]
    raw_norm = measure_raw(x, voxel, ~covered, tables)  # [n]
    factor = ratio * logit_scale / torch.where(covered, fused_norm, raw_norm)  # [n]
    clip = F.normalize(mask_embed_clip.float(), dim=-1)  # [Q, E]
    fused, three_d, score = _stream_classes(
        x, voxel, query, covered, side, factor, (1 - ratio) * logit_scale, half, clip, tables
    )
    two_d = label_masks(mask_embed, tables)  # [Q, 2]
    nearest = nearest_fill_reference(points, covered)
    two_d = torch.where(nearest >= 0, two_d[query[nearest], side.long()], three_d)
    return PointLabels(fused, two_d, three_d, score)


def point_side(base_prob: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Which classes each point may take: those c with is_base[c] == side.

    Where all classes are base, or none is, every point takes that side and nothing is gated.

    Returns:
        [n] bool.
    """
    is_base = tables.is_base
    mixed = is_base.any() & (~is_base).any()
    return torch.where(mixed, base_prob > tables.constants[3], is_base[0])


def measure_raw(
    x: torch.Tensor,  # [M, F]
    voxel: torch.Tensor,  # [n]
    wanted: torch.Tensor,  # [n] bool
    tables: LabelTables,
) -> torch.Tensor:
    """Length of each wanted point's 3D feature, [n]; of no meaning elsewhere."""
    norm = x.new_ones(x.shape[0])  # [M]
    rows = _voxels_of(voxel, wanted, norm.shape[0])
    kept = x if rows.numel() == x.shape[0] else x[rows]
    if tables.raw_norm_weight.shape[0]:
        square = _square_affine(kept, tables.raw_norm_weight, tables.raw_norm_bias)
    else:
        square = kept.square().sum(1)
    norm[rows] = square.sqrt_().clamp_(min=TINY)
    return norm[voxel]


def measure_fused(
    x: torch.Tensor,  # [M, F]
    half: torch.Tensor,  # [Q, E]
    voxel: torch.Tensor,  # [n]
    query: torch.Tensor,  # [n]
    wanted: torch.Tensor,  # [n] bool
    tables: LabelTables,
) -> torch.Tensor:
    """Length of each wanted point's fused feature from its voxel's and its mask's part, [n]."""
    own = x.new_ones(x.shape[0])  # [M]
    rows = _voxels_of(voxel, wanted, own.shape[0])
    kept = x if rows.numel() == x.shape[0] else x[rows]
    own[rows] = _square_affine(kept, tables.fused_norm_weight, tables.fused_norm_bias)
    cross = F.linear(x, half @ tables.point_weight, half @ tables.point_bias)  # [M, Q]
    cross = cross.take(voxel * half.shape[0] + query)  # [n]
    square = own[voxel] + 2 * cross + half.square().sum(1)[query]
    return square.clamp_(min=TINY * TINY).sqrt_()


def _square_affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """|weight x + bias|^2 of each row for an upper triangular weight, whose zeros are skipped."""
    total = x.new_zeros(x.shape[0])
    for start in range(0, weight.shape[0], NORM_BLOCK):
        block = slice(start, start + NORM_BLOCK)
        part = F.linear(x[:, start:], weight[block, start:], bias[block])
        total += torch.linalg.vecdot(part, part)
    return total


def _voxels_of(voxel: torch.Tensor, wanted: torch.Tensor, voxels: int) -> torch.Tensor:
    """Ascending voxels that hold a wanted point."""
    held = torch.zeros(voxels, dtype=torch.bool, device=voxel.device)
    held[voxel[wanted]] = True
    return held.nonzero().flatten()


def label_masks(mask_embed: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Label of each mask by its own embedding, among novel classes and among base classes.

    Returns:
        [Q, 2] int64; a side without classes holds 0 and is never asked for.
    """
    cosine = best_name(F.normalize(mask_embed.float(), dim=-1) @ tables.text.T, tables)  # [Q, C]
    return (cosine[:, None] + class_gate(tables)).argmax(2)


def class_gate(tables: LabelTables) -> torch.Tensor:
    """What to add to the score of each class for a novel and for a base point, [2, C]."""
    sides = torch.arange(2, device=tables.is_base.device)[:, None]
    return (tables.is_base != sides) * BLOCKED


def best_name(by_name: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Largest value over the names of each class, [.., C * S] -> [.., C]."""
    names = tables.text.shape[0] // tables.is_base.shape[0]
    return by_name if names == 1 else by_name.unflatten(-1, (-1, names)).amax(-1)


def _stream_classes(
    x, voxel, query, covered, side, factor, clip_factor, half, clip, tables
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Running arg-max and soft-max over blocks of classes; memory is one block of scores."""
    names = tables.text.shape[0] // tables.is_base.shape[0]
    block = max(MIN_BLOCK, BLOCK_ELEMENTS // max(1, voxel.shape[0] * names))
    best = factor.new_full((2, voxel.shape[0]), 2 * BLOCKED)  # fused, 3D
    label = query.new_zeros((2, voxel.shape[0]))
    total = torch.zeros_like(factor)
    gate = class_gate(tables)
    for start in range(0, gate.shape[1], block):
        rows = slice(start * names, (start + block) * names)
        closed = gate[:, start : start + block].index_select(0, side.long())  # [n, c]
        weight = torch.cat([tables.raw_text[rows], tables.fused_text[rows]])
        bias = torch.cat([tables.raw_bias[rows], tables.fused_bias[rows]])
        raw, fused = F.linear(x, weight, bias).index_select(0, voxel).chunk(2, dim=1)
        fused = fused + (half @ tables.text[rows].T).index_select(0, query)  # [n, c * S]
        raw, fused = best_name(raw, tables), best_name(fused, tables)  # [n, c]
        by_clip = best_name(clip @ tables.text[rows].T, tables).index_select(0, query)
        logits = torch.where(covered[:, None], fused, raw).mul_(factor[:, None])
        logits.addcmul_(by_clip, clip_factor[:, None]).add_(closed)
        for head, scores in enumerate((logits, raw + closed)):
            top, index = scores.max(1)  # [n]
            label[head] = torch.where(top > best[head], index + start, label[head])
            highest = torch.maximum(top, best[head])
            if head == 0:
                mass = 1 / logits.softmax(1).amax(1)  # sum of exp(logits - top)
                total = total * (best[0] - highest).exp() + mass * (top - highest).exp()
            best[head] = highest
    return label[0].clone(), label[1].clone(), 1 / total
