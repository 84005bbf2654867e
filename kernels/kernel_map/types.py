"""What sparse convolutions run on: voxel index, kernel map, the maps of a UNet."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from xmask3d_rt.kernels.dispatch import runs_triton

MAX_MASK_BITS = 62  # offsets of a map whose occupancy is kept as one int64 per row


@dataclass(frozen=True, eq=False)
class CoordIndex:
    """Look-up structure of one set of voxels, built once and used by every map on it.

    On the CPU `keys` are the sorted packed coordinates and `rows` where each came from; on a
    GPU the two are the columns of an open-addressing hash table.
    """

    coords: Tensor  # [M, 4] int32
    keys: Tensor  # [M] or [capacity] int64
    rows: Tensor  # [M] or [capacity] int32


class TilePlan(NamedTuple):
    """A kernel map as the implicit-GEMM kernel reads it; see `KernelMap.plan`.

    Rows are sorted by the bit mask of their valid offsets, ties in row order. Above
    `MAX_MASK_BITS` offsets rows keep their order, and the first two are empty.
    """

    row_order: Tensor  # [M_out] int32
    row_masks: Tensor  # [M_out] int64, in row order
    columns: Tensor  # [K, M_out] int32: neighbors, transposed, in row order


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Which input voxel meets which weight at every output voxel.

    For every entry, in[neighbors[o, k]] = out[o] + offset[k], offsets in voxels (times the
    tensor stride of the input); for a transposed map in[i] + offset[k] = out[o].
    `submanifold` says that outputs are the inputs and the kernel is odd: the map is then its
    own mirror image, neighbors[o, k] = i exactly where neighbors[i, K - 1 - k] = o.
    """

    neighbors: Tensor  # [M_out, K] int32, -1 = no such voxel
    out_coords: Tensor  # [M_out, 4] int32
    in_coords: Tensor  # [M_in, 4] int32
    kernel_size: int
    stride: int = 1
    tensor_stride: int = 1
    transposed: bool = False
    submanifold: bool = False

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Entries as pairs sorted by offset: in_maps [L] int32, out_maps [L] int32, offsets [K+1].

        Entries of offset k are in_maps[offsets[k]:offsets[k + 1]]. Reading the number of pairs
        waits for the GPU once.
        """
        by_offset = self.neighbors.t()  # [K, M_out]
        valid = by_offset >= 0
        in_maps = by_offset[valid]
        out_maps = torch.nonzero(valid)[:, 1].to(torch.int32)
        offsets = torch.zeros(valid.shape[0] + 1, dtype=torch.int64, device=valid.device)
        offsets[1:] = torch.cumsum(valid.sum(dim=1), 0)
        return in_maps, out_maps, offsets

    @property
    def in_maps(self) -> Tensor:
        """Input row of every entry, sorted by offset: [L] int32."""
        return self.pairs[0]

    @property
    def out_maps(self) -> Tensor:
        """Output row of every entry, sorted by offset: [L] int32."""
        return self.pairs[1]

    @property
    def offsets(self) -> Tensor:
        """First entry of every offset, and their total: [K + 1] int64."""
        return self.pairs[2]

    @cached_property
    def swapped(self) -> "KernelMap":
        """The same entries with input and output exchanged (transposed convolution, dgrad)."""
        if self.submanifold:
            neighbors = self.neighbors.flip(1)
        else:
            neighbors = _swap_neighbors(self.neighbors, self.in_coords.shape[0])
        return KernelMap(
            neighbors=neighbors,
            out_coords=self.in_coords,
            in_coords=self.out_coords,
            kernel_size=self.kernel_size,
            stride=self.stride,
            tensor_stride=self.tensor_stride * (1 if self.transposed else self.stride),
            transposed=not self.transposed,
            submanifold=self.submanifold,
        )

    @cached_property
    def plan(self) -> "TilePlan":
        """Rows sorted so that those of one tile use the same offsets, for the GPU kernel.

        On a room 13.6 of 27 offsets are occupied on average, and in a transposed 2³ map exactly
        one of 8: a tile of sorted rows skips most of the others.
        """
        count = self.neighbors.shape[1]
        if count > MAX_MASK_BITS:
            none = self.neighbors.new_empty(0)
            return TilePlan(none, none.to(torch.int64), self.neighbors.t().contiguous())
        if runs_triton(self.neighbors):
            from xmask3d_rt.kernels.kernel_map.launch import plan_tiles

            return TilePlan(*plan_tiles(self.neighbors))
        bits = torch.ones(count, dtype=torch.int64, device=self.neighbors.device)
        bits = bits << torch.arange(count, device=bits.device)
        masks = ((self.neighbors >= 0) * bits).sum(dim=1)  # [M_out]
        masks, order = torch.sort(masks, stable=True)
        columns = self.neighbors.index_select(0, order).t().contiguous()
        return TilePlan(order.to(torch.int32), masks, columns)


@dataclass(frozen=True, eq=False)
class UNetMaps:
    """All maps of a MinkUNet: level l has tensor stride 2^l, level 0 the voxels themselves.

    stem is the 5³ map of level 0, conv[l] the 3³ map of level l, down[l] the 2³ stride-2 map
    from level l to l + 1, up[l] its transpose from level l + 1 to l.
    """

    coords: tuple[Tensor, ...]  # levels + 1 of [M_l, 4]
    stem: KernelMap
    conv: tuple[KernelMap, ...]  # levels + 1
    down: tuple[KernelMap, ...]  # levels
    up: tuple[KernelMap, ...]  # levels


def _swap_neighbors(neighbors: Tensor, m_in: int) -> Tensor:
    """[M_in, K] rows of the outputs that read input i through offset k, or -1."""
    m_out, count = neighbors.shape
    out_rows = torch.arange(m_out, dtype=torch.int32, device=neighbors.device)
    columns = torch.arange(count, device=neighbors.device)
    slots = neighbors.to(torch.int64) * count + columns  # [M_out, K]
    # Missing neighbours all write one slot past the end, so nothing waits for their number.
    slots = torch.where(neighbors >= 0, slots, m_in * count)
    swapped = torch.full((m_in * count + 1,), -1, dtype=torch.int32, device=neighbors.device)
    swapped[slots] = out_rows[:, None].expand(m_out, count)
    return swapped[:-1].reshape(m_in, count)
