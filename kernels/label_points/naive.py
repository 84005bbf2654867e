"""Point labels as the released code makes them: all features formed, one mask at a time.

The oracle of the tests and the baseline of the benchmarks; not used at runtime.
"""

import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree


def label_points_naive(
    voxel_feats: torch.Tensor,  # [M, E] 3D features
    point_to_voxel: torch.Tensor,  # [n]
    point_query: torch.Tensor,  # [n]
    mask_embed: torch.Tensor,  # [Q, E]
    mask_embed_clip: torch.Tensor,  # [Q, E]
    text_embed: torch.Tensor,  # [T, E]
    text_class: torch.Tensor,  # [T]
    is_base: torch.Tensor,  # [C] bool
    base_prob: torch.Tensor,  # [n]
    fuser_weight: torch.Tensor,  # [E, 2E]
    fuser_bias: torch.Tensor,  # [E]
    logit_scale: float,
    base_ratio: float,
    novel_ratio: float,
    points: torch.Tensor,  # [n, 3]
    binary_threshold: float = 0.5,
) -> tuple[torch.Tensor, ...]:
    """Fused, 2D and 3D labels and the score of the fused label, as `label_points` returns them.

    Source: XMask3D.forward (evaluation) and run/infer.py.
    """
    classes = is_base.shape[0]

    def class_logits(features: torch.Tensor) -> torch.Tensor:
        cosine = F.normalize(features, dim=-1) @ F.normalize(text_embed, dim=-1).T
        names = [cosine[:, text_class == c].amax(1) for c in range(classes)]
        return logit_scale * torch.stack(names, dim=1)

    feature_3d = voxel_feats[point_to_voxel]  # [n, E]
    feature_2d = torch.zeros_like(feature_3d)
    covered = point_query >= 0
    for query in range(mask_embed.shape[0]):
        feature_2d[point_query == query] = mask_embed[query]
    fused = feature_3d.clone()
    both = torch.cat([feature_2d, feature_3d], dim=1)[covered]
    fused[covered] = F.linear(both, fuser_weight, fuser_bias)
    scores = class_logits(fused).log_softmax(1)  # [n, C]
    by_clip = class_logits(mask_embed_clip).log_softmax(1)  # [Q, C]
    ratio = torch.where(is_base, base_ratio, novel_ratio)  # [C]
    for query in range(mask_embed.shape[0]):
        own = point_query == query
        scores[own] = ratio * scores[own] + (1 - ratio) * by_clip[query]
    allowed = is_base == (base_prob > binary_threshold)[:, None]  # [n, C]
    if bool(is_base.all()) or not bool(is_base.any()):
        allowed = torch.ones_like(allowed)

    def pick(logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill(~allowed, -torch.inf).argmax(1)

    label_3d = pick(class_logits(feature_3d))
    label_2d = label_3d
    if covered.any():
        source = covered.nonzero().flatten()
        hole = (~covered).nonzero().flatten()
        tree = cKDTree(points[source].cpu().numpy())
        match = tree.query(points[hole].cpu().numpy())[1]
        feature_2d[hole] = feature_2d[source[torch.from_numpy(match).to(source)]]
        label_2d = pick(class_logits(feature_2d))
    gated = scores.masked_fill(~allowed, -torch.inf)
    return gated.argmax(1), label_2d, label_3d, gated.softmax(1).amax(1)
