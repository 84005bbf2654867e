"""Mask-to-point assignment as the released model does it: one query at a time.

The oracle of the tests and the baseline of the benchmarks; not used at runtime.
"""

import torch
import torch.nn.functional as F


def assign_masks_naive(
    mask_logits: torch.Tensor,  # [Q, h, w]
    mask_shape: tuple[int, int],
    row: torch.Tensor,  # [n]
    col: torch.Tensor,  # [n]
    base_prob: torch.Tensor,  # [n]
    class_logits: torch.Tensor,  # [Q, C + 1]
    is_base: torch.Tensor,  # [C] bool
    binary_threshold: float = 0.5,
) -> tuple[torch.Tensor, ...]:
    """The six outputs of `assign_masks`.

    Source: XMask3D.forward, evaluation branch (models/xmask3d.py).
    """
    queries, classes = mask_logits.shape[0], is_base.shape[0]
    probability = F.interpolate(
        mask_logits[None].float(), size=mask_shape, mode="bilinear", align_corners=False
    )[0].sigmoid()  # [Q, H, W]
    gated = bool(is_base.any()) and not bool(is_base.all())
    device = mask_logits.device
    base_score, score = torch.zeros(2, queries, device=device)
    label = torch.full((queries,), -1, device=device)
    kept, final = torch.zeros(2, queries, dtype=torch.bool, device=device)
    for query in range(queries):
        inside = probability[query, row.long(), col.long()] > 0.5  # [n]
        if not inside.any().item():
            continue
        kept[query] = True
        base_score[query] = base_prob[inside].float().mean()
        logits = class_logits[query].float().clone()
        if gated and base_score[query].item() > binary_threshold:
            logits[:classes][~is_base] = -1e10
        elif gated:
            logits[:classes][is_base] = -1e10
            logits[classes] = -1e10
        score[query], label[query] = logits.softmax(0).max(0)
    point_query = torch.full(row.shape, -1, dtype=torch.int32, device=device)
    survivors = kept.nonzero().flatten().tolist()
    if survivors:
        owner = (score[survivors, None, None] * probability[survivors]).argmax(0)  # [H, W]
        for place, query in enumerate(survivors):
            owned = (owner == place) & (probability[query] >= 0.5)
            final[query] = owned.sum().item() > 0
            point_query[owned[row.long(), col.long()]] = query
    return point_query, kept, base_score, score, label, final
