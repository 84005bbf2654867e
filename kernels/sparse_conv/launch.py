"""Launchers of the sparse convolution kernels."""

import torch
import triton
from torch import Tensor

from xmask3d_rt.kernels.dispatch import interprets_triton
from xmask3d_rt.kernels.sparse_conv import kernel
from xmask3d_rt.kernels.sparse_conv.reference import MapTensors, make_output
from xmask3d_rt.kernels.sparse_conv.tiles import (
    choose_thin_tile,
    choose_tile,
    choose_wgrad_tile,
)

_ENTRIES_PER_SPLIT = 4096  # of a weight gradient: enough programs, partial sums still small
_MAX_SPLITS = 16


def launch_sparse_conv(
    feats: Tensor,
    skip: Tensor | None,
    weight: Tensor,
    maps: MapTensors | None,
    swapped_maps: MapTensors | None,
    bias: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """See `sparse_conv_reference`."""
    out = make_output(feats, weight, maps)
    m_out, n = out.shape
    if m_out == 0 or n == 0:
        return out
    feats = feats.contiguous()
    common = {
        "weight_ptr": weight,
        "bias_ptr": out if bias is None else bias.contiguous(),
        "residual_ptr": out if residual is None else residual.contiguous(),
        "m_out": m_out,
        "out_channels": n,
        "kernel_volume": weight.shape[0],
        "stride_wk": weight.stride(0),
        "stride_wc": weight.stride(1),
        "stride_wn": weight.stride(2),
        "out_ptr": out,
        "HAS_BIAS": bias is not None,
        "HAS_RESIDUAL": residual is not None,
        "RELU": relu,
        **_arithmetic(feats),
    }
    if maps is not None and maps.columns is None:  # few input channels: see map_tensors
        tile = choose_thin_tile(feats.dtype)
        grid = (triton.cdiv(m_out, tile.block_m) * triton.cdiv(n, tile.block_n),)
        kernel.sparse_conv_thin_kernel[grid](
            feats_ptr=feats,
            neighbors_ptr=maps.neighbors.contiguous(),
            CHANNELS=feats.shape[1],
            BLOCK_M=tile.block_m,
            BLOCK_N=tile.block_n,
            BLOCK_R=tile.block_c,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            **common,
        )
        return out
    skip = None if skip is None else skip.contiguous()
    channels = (feats.shape[1], 0 if skip is None else skip.shape[1])
    tile = choose_tile(m_out, channels, n, feats.dtype, feats.device)
    grid = (triton.cdiv(m_out, tile.block_m) * triton.cdiv(n, tile.block_n),)
    kernel.sparse_conv_kernel[grid](
        feats_ptr=feats,
        skip_ptr=feats if skip is None else skip,
        columns_ptr=out if maps is None else maps.columns,
        row_order_ptr=out if maps is None else maps.row_order,
        row_masks_ptr=out if maps is None else maps.row_masks,
        feats_channels=channels[0],
        skip_channels=channels[1],
        HAS_MAP=maps is not None,
        SORTED=maps is not None and maps.row_order is not None and len(maps.row_order) > 0,
        HAS_SKIP=skip is not None,
        EVEN_C=all(c % tile.block_c == 0 for c in channels),
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        BLOCK_C=tile.block_c,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        **common,
    )
    return out


def launch_sparse_conv_wgrad(
    feats: Tensor, grad: Tensor, maps: MapTensors | None, offset_count: int
) -> Tensor:
    """See `sparse_conv_wgrad_reference`; partial sums are added in a fixed order."""
    c, n = feats.shape[1], grad.shape[1]
    if maps is None:
        return (feats.t() @ grad)[None]
    if maps.pairs is None:
        raise ValueError("sparse_conv_wgrad: maps has no pairs; pass in_maps, out_maps and offsets")
    in_maps, out_maps, offsets = maps.pairs
    entries = in_maps.shape[0] // offset_count
    splits = min(_MAX_SPLITS, max(1, entries // _ENTRIES_PER_SPLIT))
    shape = (splits, offset_count, c, n)
    partial = torch.empty(shape, dtype=torch.float32, device=feats.device)
    tile = choose_wgrad_tile(feats.dtype)
    grid = (splits * offset_count, triton.cdiv(c, tile.block_c), triton.cdiv(n, tile.block_n))
    if partial.numel():
        kernel.sparse_conv_wgrad_kernel[grid](
            feats_ptr=feats.contiguous(),
            grad_ptr=grad.contiguous(),
            in_maps_ptr=in_maps,
            out_maps_ptr=out_maps,
            offsets_ptr=offsets,
            in_channels=c,
            out_channels=n,
            kernel_volume=offset_count,
            splits=splits,
            partial_ptr=partial,
            BLOCK_L=tile.block_m,
            BLOCK_C=tile.block_c,
            BLOCK_N=tile.block_n,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            **_arithmetic(feats),
        )
    return partial.sum(dim=0).to(feats.dtype)


def _arithmetic(feats: Tensor) -> dict[str, object]:
    """Products in full float32 unless torch was told to allow tf32.

    The interpreter multiplies bfloat16 wrongly, so there operands are widened first.
    """
    tf32 = feats.is_cuda and torch.backends.cuda.matmul.allow_tf32
    return {"PRECISION": "tf32" if tf32 else "ieee", "UPCAST": interprets_triton()}
