"""Torch form of sparse_conv: the truth for the kernel and the CPU path.

out[o] = Σ_k in[neighbors[o, k]] @ W[k], then + bias, + residual, ReLU.

Per offset: gather rows, multiply, add to the outputs. On a view of 16,161 voxels (27 offsets,
13.6 occupied, 96 → 96 channels, two cores of an EPYC) this ran at 151 GFLOP/s; one product
over all gathered offsets, zeros included, at 43; per-offset products added up by
`embedding_bag` at 64. Up to `THIN_CHANNELS` inputs all offsets are gathered into one product:
it takes as long as the pairs would, without having to build them.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

THIN_CHANNELS = 8  # 5³, 3 → 32 channels: 12.0 ms gathered, 12.6 ms per offset and the pairs
_CHUNK_ELEMENTS = 1 << 20  # of a gathered block; 4 MB in float32, which stays in cache


def sparse_conv_reference(
    feats: Tensor,  # [M_in, C1]
    skip: Tensor | None,  # [M_in, C2]
    weight: Tensor,  # [K, C1 + C2, C_out]
    maps: list[Tensor],
    swapped_maps: list[Tensor],
    bias: Tensor | None,  # [C_out]
    residual: Tensor | None,  # [M_out, C_out]
    relu: bool,
) -> Tensor:
    """See `xmask3d_rt.kernels.sparse_conv`; `maps` as made by `map_tensors` there.

    Half-precision inputs are multiplied and added up in float32 and rounded once.
    """
    dtype = feats.dtype
    feats, weight = _widen(feats), _widen(weight)
    skip = None if skip is None else _widen(skip)
    sources = [(feats, weight[:, : feats.shape[1]])]
    if skip is not None:
        sources.append((skip, weight[:, feats.shape[1] :]))
    if not maps:
        out = feats.new_zeros((feats.shape[0], weight.shape[2]))
        for source, part in sources:
            out += source @ part[0]
    elif maps[1].numel() == 0:
        out = _convolve_gathered(sources, maps[0])
    else:
        out = _convolve_pairs(sources, maps)
    if bias is not None:
        out += bias
    if residual is not None:
        out += residual
    if relu:
        out.clamp_(min=0)
    return out.to(dtype)


def sparse_conv_wgrad_reference(
    feats: Tensor,  # [M_in, C_in]
    grad: Tensor,  # [M_out, C_out]
    maps: list[Tensor],
    offset_count: int,
) -> Tensor:
    """Gradient of the weight: dW[k] = Σ_o in[neighbors[o, k]]ᵀ @ grad[o], [K, C_in, C_out]."""
    dtype = feats.dtype
    feats, grad = _widen(feats), _widen(grad)
    out = feats.new_zeros((offset_count, feats.shape[1], grad.shape[1]))
    if not maps:
        out[0] = feats.t() @ grad
    elif maps[1].numel() == 0:
        flat = out.view(-1, grad.shape[1])
        for start, block in _gather_blocks(feats, maps[0]):
            flat += block.t() @ grad[start : start + block.shape[0]]
    else:
        for k, in_rows, out_rows in _offset_pairs(maps):
            out[k] = feats.index_select(0, in_rows).t() @ grad.index_select(0, out_rows)
    return out.to(dtype)


def _convolve_pairs(sources: list[tuple[Tensor, Tensor]], maps: list[Tensor]) -> Tensor:
    feats, weight = sources[0]
    out = feats.new_zeros((maps[0].shape[0], weight.shape[2]))
    for k, in_rows, out_rows in _offset_pairs(maps):
        # The centre of a submanifold map pairs every row with itself: nothing to gather.
        identity = in_rows.shape[0] == out.shape[0] and bool((in_rows == out_rows).all())
        for source, weight in sources:
            if identity and source.shape[0] == out.shape[0]:
                out += source @ weight[k]
                continue
            product = source.index_select(0, in_rows) @ weight[k]  # [L_k, C_out]
            out.index_add_(0, out_rows, product)
    return out


def _convolve_gathered(sources: list[tuple[Tensor, Tensor]], neighbors: Tensor) -> Tensor:
    feats, weight = sources[0]
    out = feats.new_zeros((neighbors.shape[0], weight.shape[2]))
    for source, weight in sources:
        flat = weight.reshape(-1, weight.shape[2])  # [K * C_in, C_out]
        for start, block in _gather_blocks(source, neighbors):
            out[start : start + block.shape[0]] += block @ flat
    return out


def _gather_blocks(source: Tensor, neighbors: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of the gathered input [M_out, K * C_in], zeros where there is no voxel."""
    m_out, width = neighbors.shape[0], neighbors.shape[1] * source.shape[1]
    padded = torch.cat([source, source.new_zeros((1, source.shape[1]))])
    step = max(1, _CHUNK_ELEMENTS // max(1, width))
    for start in range(0, m_out, step):
        rows = neighbors[start : start + step]
        rows = torch.where(rows < 0, source.shape[0], rows)
        yield start, padded.index_select(0, rows.reshape(-1)).reshape(-1, width)


def _offset_pairs(maps: list[Tensor]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Offset k, input rows and output rows of every offset that has entries."""
    # index_add_ takes three times as long with int32 indices (0.38 against 0.12 ms for 8,157
    # rows of 96 channels), index_select the same.
    in_maps, out_maps = maps[1], maps[2].to(torch.int64)
    for k, (start, end) in enumerate(pairwise(maps[3].tolist())):
        if end > start:
            yield k, in_maps[start:end], out_maps[start:end]


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
