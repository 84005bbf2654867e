"""Launchers of the label_points kernels."""

import torch
import torch.nn.functional as F
import triton

from xmask3d_rt.kernels.dispatch import block_size
from xmask3d_rt.kernels.label_points import kernel
from xmask3d_rt.kernels.label_points.reference import (
    PointLabels,
    best_name,
    label_masks,
    make_outputs,
)
from xmask3d_rt.kernels.label_points.tables import LabelTables
from xmask3d_rt.kernels.nearest_fill.op import nearest_known

BLOCK_M = 64
BLOCK_N = 32
BLOCK_F = 32
BLOCK_G = 32
NUM_WARPS = 8
NUM_STAGES = 2
MAX_REGISTERS = 255  # else the assembler spills a few bytes to fit two blocks at 128
TILE_NAMES = 32  # names of one step over the classes; twice as many spill
BLOCK = 1024


def launch_label_points(
    voxel_feats: torch.Tensor,
    point_to_voxel: torch.Tensor,
    point_query: torch.Tensor,
    mask_embed: torch.Tensor,
    mask_embed_clip: torch.Tensor,
    base_prob: torch.Tensor,
    points: torch.Tensor,
    tables: LabelTables,
) -> PointLabels:
    """See `label_points_reference`."""
    outputs = make_outputs(point_to_voxel)
    if not point_to_voxel.shape[0]:
        return outputs
    if not mask_embed.shape[0]:
        mask_embed = mask_embed_clip = mask_embed.new_zeros(1, mask_embed.shape[1])
    point_query = point_query.contiguous()
    side = _label_heads(
        voxel_feats,
        point_to_voxel.contiguous(),
        point_query,
        mask_embed,
        mask_embed_clip,
        base_prob.contiguous(),
        tables,
        outputs,
    )
    _label_two_d(points, point_query, side, mask_embed, tables, outputs)
    return outputs


def _label_heads(
    voxel_feats: torch.Tensor,  # [M, F]
    point_to_voxel: torch.Tensor,  # [n]
    point_query: torch.Tensor,  # [n]
    mask_embed: torch.Tensor,  # [Q, E], Q > 0
    mask_embed_clip: torch.Tensor,  # [Q, E]
    base_prob: torch.Tensor,  # [n]
    tables: LabelTables,
    outputs: PointLabels,
) -> torch.Tensor:
    """Write the fused and 3D labels and the score; everything of size [Q, ..] is plain torch.

    Returns:
        side [n] uint8, 1 where the point may take base classes.
    """
    feat = voxel_feats.shape[1]
    classes = tables.is_base.shape[0]
    names = tables.text.shape[0] // classes
    half = F.linear(mask_embed.float(), tables.mask_weight, tables.mask_bias)  # [Q, E]
    clip = F.normalize(mask_embed_clip.float(), dim=-1)
    is_base = tables.is_base
    mixed = is_base.any() & (~is_base).any()
    n = point_to_voxel.shape[0]
    side = torch.empty(n, dtype=torch.uint8, device=voxel_feats.device)
    block_n = block_size(BLOCK_N, interpreted=512)
    kernel.label_points_kernel[(triton.cdiv(n, block_n),)](
        voxel_feats_ptr=voxel_feats,
        stride_m=voxel_feats.stride(0),
        stride_f=voxel_feats.stride(1),
        point_to_voxel_ptr=point_to_voxel,
        point_query_ptr=point_query,
        base_prob_ptr=base_prob,
        raw_square_ptr=_measure_voxels(voxel_feats, tables.raw_norm_split, tables.raw_norm_bias),
        fused_square_ptr=_measure_voxels(
            voxel_feats, tables.fused_norm_split, tables.fused_norm_bias
        ),
        cross_weight_ptr=half @ tables.point_weight,
        cross_bias_ptr=half @ tables.point_bias,
        half_square_ptr=half.square().sum(1),
        text_ptr=tables.both_text,
        text_bias_ptr=tables.both_bias,
        half_text_ptr=half @ tables.text.T,
        clip_cosine_ptr=best_name(clip @ tables.text.T, tables).contiguous(),
        is_base_ptr=is_base.view(torch.uint8),
        mixed_ptr=mixed.view(1).view(torch.uint8),
        constants_ptr=tables.constants,
        n=n,
        feat=feat,
        classes=classes,
        fused_ptr=outputs.fused,
        three_d_ptr=outputs.three_d,
        score_ptr=outputs.score,
        side_ptr=side,
        NAMES=names,
        BLOCK_N=block_n,
        BLOCK_C=max(1, TILE_NAMES // names),
        BLOCK_F=BLOCK_F,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
        maxnreg=MAX_REGISTERS,
    )
    return side


def _measure_voxels(
    voxel_feats: torch.Tensor,  # [M, F]
    weight: torch.Tensor,  # [2, G, F]
    bias: torch.Tensor,  # [G]
) -> torch.Tensor:
    """Squared length of weight @ x + bias of each voxel, of x where G = 0; [M] float32."""
    voxels, feat = voxel_feats.shape
    square = torch.empty(voxels, dtype=torch.float32, device=voxel_feats.device)
    block_m = block_size(BLOCK_M, interpreted=512)
    kernel.measure_voxels_kernel[(triton.cdiv(voxels, block_m),)](
        voxel_feats_ptr=voxel_feats,
        stride_m=voxel_feats.stride(0),
        stride_f=voxel_feats.stride(1),
        weight_ptr=weight,
        bias_ptr=bias,
        voxels=voxels,
        feat=feat,
        rows=weight.shape[1],
        square_ptr=square,
        BLOCK_M=block_m,
        BLOCK_G=BLOCK_G,
        BLOCK_F=BLOCK_F,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
    )
    return square


def _label_two_d(
    points: torch.Tensor,  # [n, 3]
    point_query: torch.Tensor,  # [n]
    side: torch.Tensor,  # [n] uint8
    mask_embed: torch.Tensor,  # [Q, E]
    tables: LabelTables,
    outputs: PointLabels,
) -> None:
    """Write the 2D labels."""
    n = points.shape[0]
    kernel.label_two_d_kernel[(triton.cdiv(n, BLOCK),)](
        nearest_ptr=nearest_known(points, point_query >= 0),
        point_query_ptr=point_query,
        side_ptr=side,
        mask_label_ptr=label_masks(mask_embed, tables).contiguous(),
        three_d_ptr=outputs.three_d,
        n=n,
        two_d_ptr=outputs.two_d,
        BLOCK=BLOCK,
    )
