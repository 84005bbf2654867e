"""Point labels of the three heads in plain torch; also the CPU runtime path."""

import torch
import torch.nn.functional as F
from xmask3d_rt.kernels.label_points.tables import LabelTables
from xmask3d_rt.kernels.nearest_fill.reference import nearest_fill_reference

BLOCK_ELEMENTS = 1 << 25  # scores held at once, [N, classes of a block]: 128 MiB of float32
TINY = 1e-12  # smallest norm that is divided by, as in torch.nn.functional.normalize


def label_points_reference(
    voxel_feats: torch.Tensor,  # [M, F]
    point_to_voxel: torch.Tensor,  # [n]
    point_query: torch.Tensor,  # [n], -1 = uncovered
    mask_embed: torch.Tensor,  # [Q, E]
    mask_embed_clip: torch.Tensor,  # [Q, E]
    base_prob: torch.Tensor,  # [n]
    points: torch.Tensor,  # [n, 3]
    tables: LabelTables,
) -> tuple[torch.Tensor, ...]:
    """The four outputs of `label_points`.

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
    ratio = torch.where(side, base_ratio, novel_ratio) * logit_scale  # [n]
    fused_factor = ratio / fused_norm(x, half, voxel, query, tables)
    raw_factor = logit_scale / raw_norm(x, tables)[voxel]
    factor = torch.where(covered, fused_factor, raw_factor)  # [n]
    clip_factor = torch.where(covered, logit_scale - ratio, 0.0)  # [n]
    fused, three_d, score = _stream_classes(
        x, voxel, query, covered, side, factor, clip_factor, half, mask_embed_clip, tables
    )
    two_d = label_masks(mask_embed, tables)  # [Q, 2]
    nearest = nearest_fill_reference(points, covered)
    two_d = torch.where(nearest >= 0, two_d[query[nearest], side.long()], three_d)
    return fused, two_d, three_d, score


def point_side(base_prob: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Which classes each point may take: those c with is_base[c] == side.

    Where all classes are base, or none is, every point takes that side and nothing is gated.

    Returns:
        [n] bool.
    """
    is_base = tables.is_base
    mixed = is_base.any() & (~is_base).any()
    return torch.where(mixed, base_prob > tables.constants[3], is_base[0])


def raw_norm(x: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Length of each voxel's 3D feature, [M]."""
    if not tables.raw_norm_weight.shape[0]:
        return x.norm(dim=1).clamp(min=TINY)
    return F.linear(x, tables.raw_norm_weight, tables.raw_norm_bias).norm(dim=1).clamp(min=TINY)


def fused_norm(
    x: torch.Tensor,  # [M, F]
    half: torch.Tensor,  # [Q, E]
    voxel: torch.Tensor,  # [n]
    query: torch.Tensor,  # [n]
    tables: LabelTables,
) -> torch.Tensor:
    """Length of each point's fused feature from per-voxel and per-mask parts, [n]."""
    own = F.linear(x, tables.fused_norm_weight, tables.fused_norm_bias).square().sum(1)  # [M]
    cross = F.linear(x, half @ tables.point_weight, half @ tables.point_bias)  # [M, Q]
    square = own[voxel] + 2 * cross[voxel, query] + half.square().sum(1)[query]  # [n]
    return square.clamp(min=TINY * TINY).sqrt()


def label_masks(mask_embed: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Label of each mask by its own embedding, among novel classes and among base classes.

    Returns:
        [Q, 2] int64; a side without classes holds 0 and is never asked for.
    """
    cosine = best_name(F.normalize(mask_embed.float(), dim=-1) @ tables.text.T, tables)  # [Q, C]
    sides = [cosine.masked_fill(tables.is_base != base, -torch.inf) for base in (False, True)]
    return torch.stack([side.argmax(1) for side in sides], dim=1)


def best_name(by_name: torch.Tensor, tables: LabelTables) -> torch.Tensor:
    """Largest value over the names of each class, [.., C * S] -> [.., C]."""
    names = tables.text.shape[0] // tables.is_base.shape[0]
    return by_name if names == 1 else by_name.unflatten(-1, (-1, names)).amax(-1)


def _stream_classes(
    x, voxel, query, covered, side, factor, clip_factor, half, mask_embed_clip, tables
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Running arg-max and soft-max over blocks of classes; memory is one block of scores."""
    classes = tables.is_base.shape[0]
    names = tables.text.shape[0] // classes
    block = max(1, BLOCK_ELEMENTS // max(1, voxel.shape[0] * names))
    clip = F.normalize(mask_embed_clip.float(), dim=-1)
    best = factor.new_full((2, voxel.shape[0]), -torch.inf)  # fused, 3D
    label = query.new_zeros((2, voxel.shape[0]))
    total = torch.zeros_like(factor)
    for start in range(0, classes, block):
        rows = slice(start * names, (start + block) * names)
        allowed = tables.is_base[start : start + block] == side[:, None]  # [n, c]
        raw = F.linear(x, tables.raw_text[rows], tables.raw_bias[rows])[voxel]  # [n, c * S]
        fused = F.linear(x, tables.fused_text[rows], tables.fused_bias[rows])[voxel]
        fused += (half @ tables.text[rows].T)[query]
        picked = best_name(torch.where(covered[:, None], fused, raw), tables)  # [n, c]
        by_clip = best_name(clip @ tables.text[rows].T, tables)[query]  # [n, c]
        logits = picked * factor[:, None] + by_clip * clip_factor[:, None]
        logits.masked_fill_(~allowed, -torch.inf)
        raw = best_name(raw, tables).masked_fill(~allowed, -torch.inf)
        top, index = torch.stack([logits, raw]).max(2)  # [2, n]
        label = torch.where(top > best, index + start, label)
        highest = torch.maximum(top, best)
        # a block without an allowed class leaves highest at -inf and adds nothing
        shift = torch.where(highest[0] > -torch.inf, highest[0], 0.0)
        total = total * (best[0] - shift).exp() + (logits - shift[:, None]).exp().sum(1)
        best = highest
    return label[0].clone(), label[1].clone(), 1 / total
