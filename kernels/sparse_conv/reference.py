"""Torch form of sparse_conv: the truth for the kernel and the CPU path.

out[o] = Σ_k in[neighbors[o, k]] @ W[k], then + bias, + residual, ReLU.

Rows of all offsets are gathered, zeros where there is no voxel, and multiplied at once, block by
block: on a view of 42,337 voxels (18.5 of 27 offsets occupied, 96 → 96 channels, four cores of an
EPYC) 35 to 45 ms, where gather, product and `index_add_` per offset took 125 to 145. A transposed
map has one entry in eight or fewer: it comes with its pairs, and offsets are taken one by one.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 22  # of a gathered block, 16 MB in float32; smaller ones wait more often


class MapTensors(NamedTuple):
    """A kernel map as the operator takes it; None stands for what a device and use do not need.

    The pairs are those of `KernelMap.pairs`, the last three of `KernelMap.plan`.
    """

    neighbors: Tensor  # [M_out, K] int32
    in_maps: Tensor | None = None  # [L] int32
    out_maps: Tensor | None = None  # [L] int32
    offsets: Tensor | None = None  # [K + 1] int64
    row_order: Tensor | None = None  # [M_out] int32, or [0]
    row_masks: Tensor | None = None  # [M_out] int64, or [0]
    columns: Tensor | None = None  # [K, M_out] int32

    @property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """in_maps, out_maps, offsets, where they are there."""
        if self.in_maps is None or self.out_maps is None or self.offsets is None:
            return None
        return self.in_maps, self.out_maps, self.offsets


def make_output(feats: Tensor, weight: Tensor, maps: MapTensors | None, **_: Any) -> Tensor:
    """A result of the right shape, not yet filled."""
    rows = feats.shape[0] if maps is None else maps.neighbors.shape[0]
    return feats.new_empty((rows, weight.shape[2]))


def sparse_conv_reference(
    feats: Tensor,  # [M_in, C1]
    skip: Tensor | None,  # [M_in, C2]
    weight: Tensor,  # [K, C1 + C2, C_out]
    maps: MapTensors | None,
    swapped_maps: MapTensors | None,
    bias: Tensor | None,  # [C_out]
    residual: Tensor | None,  # [M_out, C_out]
    relu: bool,
) -> Tensor:
    """See `xmask3d_rt.kernels.sparse_conv`; a 1x1 convolution where `maps` is None.

    `swapped_maps` are for the gradient alone, and None where none will be asked for.
    Half-precision inputs are multiplied and added up in float32 and rounded once.
    """
    dtype = feats.dtype
    feats, weight = _widen(feats), _widen(weight)
    skip = None if skip is None else _widen(skip)
    source = feats if skip is None else torch.cat([feats, skip], dim=1)
    rows_out = source.shape[0] if maps is None else maps.neighbors.shape[0]
    if maps is not None and maps.pairs is not None:
        out = _convolve_pairs(source, weight, maps.pairs, rows_out)
        return _finish(out, bias, residual, relu).to(dtype)
    # [K * C_in, C_out], in memory transposed: as `multiply` takes it without a copy
    flat = weight.reshape(-1, weight.shape[2]).t().contiguous().t()
    blocks = iter([(0, source)]) if maps is None else _gather_blocks(source, maps.neighbors)
    out = source.new_empty((rows_out, weight.shape[2]))
    for start, block in blocks:
        rows = slice(start, start + block.shape[0])
        added = None if residual is None else residual[rows]
        out[rows] = _finish(multiply(block, flat, bias), None, added, relu)
    return out.to(dtype)


def multiply(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows [m, k] @ weight [k, n] + bias [n], in float32 by oneDNN where torch has it.

    MKL keeps to AVX2 on processors that are not Intel's: 105 GFLOP/s on a core of an EPYC with
    AVX-512, where oneDNN's 1x1 convolution reaches 230.
    """
    usable = rows.dtype == torch.float32 and rows.device.type == "cpu" and rows.numel() > 0
    if not (usable and torch.backends.mkldnn.is_available()):
        return rows @ weight if bias is None else torch.addmm(bias, rows, weight)
    m, k = rows.shape
    # strides that torch takes for channels last: any other is copied
    image = rows.contiguous().view(1, m, 1, k).permute(0, 3, 1, 2)  # [1, k, m, 1]
    kernel = weight.t().contiguous().view(-1, 1, 1, k).permute(0, 3, 1, 2)  # [n, k, 1, 1]
    product = torch.mkldnn_convolution(image, kernel, bias, [0, 0], [1, 1], [1, 1], 1)
    return product.permute(0, 2, 3, 1).reshape(m, -1)


def _finish(out: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    """The epilogue, in place."""
    if bias is not None:
        out += bias
    if residual is not None:
        out += residual
    return out.clamp_(min=0) if relu else out


def sparse_conv_wgrad_reference(
    feats: Tensor,  # [M_in, C_in]
    grad: Tensor,  # [M_out, C_out]
    maps: MapTensors | None,
    offset_count: int,
) -> Tensor:
    """Gradient of the weight: dW[k] = Σ_o in[neighbors[o, k]]ᵀ @ grad[o], [K, C_in, C_out]."""
    dtype = feats.dtype
    feats, grad = _widen(feats), _widen(grad)
    out = feats.new_zeros((offset_count, feats.shape[1], grad.shape[1]))
    if maps is None:
        out[0] = feats.t() @ grad
    elif maps.pairs is None:
        flat = out.view(-1, grad.shape[1])
        for start, block in _gather_blocks(feats, maps.neighbors):
            flat += block.t() @ grad[start : start + block.shape[0]]
    else:
        for k, in_rows, out_rows in _offset_pairs(maps.pairs):
            out[k] = feats.index_select(0, in_rows).t() @ grad.index_select(0, out_rows)
    return out.to(dtype)


def _convolve_pairs(
    source: Tensor, weight: Tensor, pairs: tuple[Tensor, Tensor, Tensor], rows_out: int
) -> Tensor:
    out = source.new_zeros((rows_out, weight.shape[2]))
    for k, in_rows, out_rows in _offset_pairs(pairs):
        out.index_add_(0, out_rows, multiply(source.index_select(0, in_rows), weight[k]))
    return out


def _gather_blocks(source: Tensor, neighbors: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of the gathered input [M_out, K * C_in], zeros where there is no voxel.

    A block is valid until the next one is asked for: all share one buffer.
    """
    (m_out, offsets), channels = neighbors.shape, source.shape[1]
    width = offsets * channels
    padded = torch.cat([source.new_zeros((1, channels)), source])  # row -1 becomes row 0
    step = max(1, min(m_out, _CHUNK_ELEMENTS // max(1, width)))
    buffer = source.new_empty((step * offsets, channels))
    for start in range(0, m_out, step):
        rows = (neighbors[start : start + step] + 1).reshape(-1)
        block = buffer[: rows.shape[0]]
        torch.index_select(padded, 0, rows, out=block)
        yield start, block.view(-1, width)


def _offset_pairs(
    pairs: tuple[Tensor, Tensor, Tensor],
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Offset k, input rows and output rows of every offset that has entries."""
    # index_add_ takes three times as long with int32 indices (0.38 against 0.12 ms for 8,157
    # rows of 96 channels), index_select the same.
    in_maps, out_maps, offsets = pairs
    out_maps = out_maps.to(torch.int64)
    for k, (start, end) in enumerate(pairwise(offsets.tolist())):
        if end > start:
            yield k, in_maps[start:end], out_maps[start:end]


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
