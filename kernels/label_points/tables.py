"""What `label_points` needs of the class list and the weights: built once, used by every view.

Let x [F] be the voxel feature as the network leaves it, y = P x + c its 3D feature [E] (P = 1,
c = 0 where no projection is given), t a unit text row, W = [Wm | Wp] and b the fuser. Then

    raw . t          = (P't) . x + c . t
    fused            = (Wm m + b) + (Wp P x + Wp c)          for a point of mask embedding m
    fused . t        = (Wm m + b) . t + ((Wp P)'t) . x + (Wp c) . t
    |fused|^2        = |Wm m + b|^2 + 2 (Wm m + b) . (Wp P x + Wp c) + |Wp P x + Wp c|^2
    |A x + a|        = |R [x; 1]|  with the upper triangular factor R of [A | a] = QR

so neither y nor the fused feature [E] of a point is ever formed, and the two norms cost at most
(F + 1)^2 products per voxel in place of E * F + E * E.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from xmask3d_rt.kernels.checks import (
    check_bool,
    check_device,
    check_float,
    check_integer,
    check_shape,
)


class LabelTables(NamedTuple):
    """Constants of one class list and one set of weights, float32. S names per class."""

    text: torch.Tensor  # [C * S, E] unit rows, class by class
    is_base: torch.Tensor  # [C] bool
    raw_text: torch.Tensor  # [C * S, F]
    raw_bias: torch.Tensor  # [C * S]
    fused_text: torch.Tensor  # [C * S, F]
    fused_bias: torch.Tensor  # [C * S]
    raw_norm_weight: torch.Tensor  # [G, F], or [0, F] where the norm is that of x itself
    raw_norm_bias: torch.Tensor  # [G]
    fused_norm_weight: torch.Tensor  # [G, F]
    fused_norm_bias: torch.Tensor  # [G]
    mask_weight: torch.Tensor  # [E, E] the fuser's half for mask embeddings
    mask_bias: torch.Tensor  # [E]
    point_weight: torch.Tensor  # [E, F] the fuser's half for 3D features, after the projection
    point_bias: torch.Tensor  # [E]
    constants: torch.Tensor  # [4] logit_scale, base_ratio, novel_ratio, binary_threshold
    # for the GPU, cut into what tf32 holds and the rest, [2, ..]
    both_text: torch.Tensor  # [2, C * S * 2, F] raw_text and fused_text, row by row
    both_bias: torch.Tensor  # [C * S * 2]
    raw_norm_split: torch.Tensor  # [2, G, F]
    fused_norm_split: torch.Tensor  # [2, G, F]


def build_label_tables(
    text_embed: torch.Tensor,  # [T, E]
    text_class: torch.Tensor,  # [T]
    is_base: torch.Tensor,  # [C]
    fuser_weight: torch.Tensor,  # [E, 2E]
    fuser_bias: torch.Tensor,  # [E]
    logit_scale: float | torch.Tensor,
    base_ratio: float,
    novel_ratio: float,
    binary_threshold: float = 0.5,
    voxel_weight: torch.Tensor | None = None,  # [E, F]
    voxel_bias: torch.Tensor | None = None,  # [E]
) -> LabelTables:
    """Fold text, fuser and projection into the tables of `label_points`; once per class list.

    Args:
        text_embed: One row per class name, `[T, E]`, any length.
        text_class: Class of each name, `[T]` integers; each of the C classes needs a name. On
            the host: its values are read, which would wait for a GPU.
        is_base: Which classes are base, `[C]` bool. All or none of them: no gating.
        fuser_weight: `[E, 2E]`, mask-embedding half first.
        fuser_bias: `[E]`.
        logit_scale: Temperature, a number or a scalar tensor.
        base_ratio: Exponent r of p^r * q^(1-r) for base classes.
        novel_ratio: The same for novel classes.
        binary_threshold: P(base) above which a point counts as base.
        voxel_weight: Projection of voxel features to 3D features, `[E, F]`; None where
            `label_points` is given the 3D features themselves. Folding it in is faster.
        voxel_bias: `[E]`; None for 0.

    Returns:
        `LabelTables` on the device of `text_embed`.

    Raises:
        ValueError: shapes that disagree, a class without a name, a class index out of range.
        TypeError: a dtype other than the ones above.

    Source: run/infer.py and the Fuser of XMask3D; the folding is ours.
    """
    text_class = text_class.cpu()
    _check(text_embed, text_class, is_base, fuser_weight, fuser_bias, voxel_weight, voxel_bias)
    embed = text_embed.shape[1]
    rows = _class_major(text_class.long(), is_base.shape[0]).to(text_embed.device)
    text = F.normalize(text_embed.double(), dim=-1)[rows]  # [C * S, E]
    mask_weight, point_weight = fuser_weight.double().split(embed, dim=1)
    identity = voxel_weight is None
    weight = torch.eye(embed).to(text) if voxel_weight is None else voxel_weight.double()
    bias = weight.new_zeros(embed) if voxel_bias is None else voxel_bias.double()
    fused_weight, fused_shift = point_weight @ weight, point_weight @ bias
    raw_norm = (weight[:0], bias[:0]) if identity else _norm_factor(weight, bias)
    fused_norm = _norm_factor(fused_weight, fused_shift)
    raw_text, raw_bias = text @ weight, text @ bias
    fused_text, fused_bias = text @ fused_weight, text @ fused_shift
    tables = (
        text,
        is_base,
        raw_text,
        raw_bias,
        fused_text,
        fused_bias,
        *raw_norm,
        *fused_norm,
        mask_weight,
        fuser_bias,
        fused_weight,
        fused_shift,
        torch.tensor([float(logit_scale), base_ratio, novel_ratio, binary_threshold]).to(text),
        split_tf32(torch.stack([raw_text, fused_text], dim=1).flatten(0, 1)),
        torch.stack([raw_bias, fused_bias], dim=1).flatten(),
        split_tf32(raw_norm[0]),
        split_tf32(fused_norm[0]),
    )
    return LabelTables(
        *(t.contiguous() if t.dtype == torch.bool else t.float().contiguous() for t in tables)
    )


def split_tf32(values: torch.Tensor) -> torch.Tensor:
    """Values rounded to the 10 fraction bits of tf32, and the float32 rest, rounded alike.

    Returns:
        [2, ..] float32 whose sum is within 2^-22 of the values.
    """
    values = values.float()
    high = _round_tf32(values)
    return torch.stack([high, _round_tf32(values - high)])


def _round_tf32(values: torch.Tensor) -> torch.Tensor:
    return ((values.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)


def _norm_factor(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, a) with |A x + a| = |weight x + bias| for every x, and A[g, f] = 0 for f < g."""
    stacked = torch.cat([weight, bias[:, None]], dim=1)  # [E, F + 1]
    factor = torch.linalg.qr(stacked, mode="r").R  # [min(E, F + 1), F + 1]
    return factor[:, :-1], factor[:, -1]


def _class_major(text_class: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Names in class order, each class padded to the same power of two with its first name.

    Returns:
        [C * S] rows of the text.
    """
    counts = torch.bincount(text_class, minlength=num_classes)  # [C]
    nameless = (counts == 0).nonzero().flatten().tolist()
    if nameless:
        raise ValueError(
            f"build_label_tables: class {nameless[0]} has no name in text_class; "
            f"give every class of is_base at least one"
        )
    names = 1 << (int(counts.max()) - 1).bit_length()
    order = text_class.argsort(stable=True)  # [T]
    start = counts.cumsum(0) - counts  # [C]
    slot = torch.arange(names, device=text_class.device)
    slot = torch.where(slot < counts[:, None], slot, 0)  # [C, S]
    return order[(start[:, None] + slot).flatten()]


def _check(text_embed, text_class, is_base, fuser_weight, fuser_bias, voxel_weight, voxel_bias):
    op = "build_label_tables"
    check_shape(op, "text_embed", text_embed, (None, None), "[T, E]")
    names, embed = text_embed.shape
    check_shape(op, "text_class", text_class, (names,), "[T]")
    check_shape(op, "is_base", is_base, (None,), "[C]")
    check_shape(op, "fuser_weight", fuser_weight, (embed, 2 * embed), "[E, 2E]")
    check_shape(op, "fuser_bias", fuser_bias, (embed,), "[E]")
    check_float(op, text_embed=text_embed, fuser_weight=fuser_weight, fuser_bias=fuser_bias)
    check_integer(op, text_class=text_class)
    check_bool(op, is_base=is_base)
    tensors = {
        "text_embed": text_embed,
        "is_base": is_base,
        "fuser_weight": fuser_weight,
        "fuser_bias": fuser_bias,
    }
    if voxel_weight is not None:
        check_shape(op, "voxel_weight", voxel_weight, (embed, None), "[E, F]")
        tensors["voxel_weight"] = voxel_weight
    if voxel_bias is not None:
        check_shape(op, "voxel_bias", voxel_bias, (embed,), "[E]")
        tensors["voxel_bias"] = voxel_bias
    check_device(op, **tensors)
    outside = (text_class < 0) | (text_class >= is_base.shape[0])
    if bool(outside.any()):
        raise ValueError(
            f"build_label_tables: text_class holds {int(text_class[outside][0])}, "
            f"but is_base names {is_base.shape[0]} classes"
        )
