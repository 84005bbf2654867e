"""build_kernel_map: which input voxel meets which weight, for one convolution or a whole UNet."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.kernels.coords import MARGIN, check_coords
from xmask3d_rt.kernels.dispatch import Operator
from xmask3d_rt.kernels.kernel_map.reference import (
    downsample_coords_reference,
    find_neighbors_reference,
    index_coords_reference,
    index_sorted_coords_reference,
)
from xmask3d_rt.kernels.kernel_map.types import CoordIndex, KernelMap, UNetMaps


def index_coords(coords: Tensor) -> CoordIndex:
    """Look-up structure of a set of distinct voxels, to be shared by several maps.

    Args:
        coords: [M, 4] integer (batch, x, y, z), each voxel once; M = 0 is legal.

    Raises:
        ValueError: wrong shape, a voxel twice, or a coordinate outside the packed range.
        TypeError: floating-point coordinates.
    """
    check_coords("build_kernel_map", coords)
    coords = coords.to(torch.int32)
    return CoordIndex(coords, *_index_coords(coords))


def downsample_coords(coords: Tensor, tensor_stride: int) -> CoordIndex:
    """Distinct ⌊coords / stride⌋ · stride in ascending order, ready for look-up.

    Args:
        coords: [M, 4] integer (batch, x, y, z); M = 0 is legal.
        tensor_stride: spacing of the result, >= 1.

    Raises:
        ValueError: wrong shape, or a coordinate outside the packed range.
        TypeError: floating-point coordinates.
    """
    check_coords("downsample_coords", coords)
    return CoordIndex(*_downsample_coords(coords.to(torch.int32), tensor_stride))


def build_kernel_map(
    coords: Tensor,
    kernel_size: int,
    stride: int = 1,
    tensor_stride: int = 1,
    transposed: bool = False,
    out_coords: Tensor | None = None,
    index: CoordIndex | None = None,
) -> KernelMap:
    """Kernel map of one sparse convolution.

    Offset k = i0 + K·i1 + K²·i2 with the first axis fastest, i - ⌊K/2⌋ for odd K and i for even
    K, times the tensor stride. Outputs are the inputs at stride 1, else the distinct
    ⌊c / s⌋·s in ascending order, s = stride · tensor_stride. A transposed map is the swapped
    map of the forward one, from `out_coords` (finer) to `coords`.

    Args:
        coords: [M_in, 4] integer (batch, x, y, z), each voxel once; M_in = 0 is legal.
        kernel_size: edge of the cubic kernel, >= 1.
        stride: stride of the convolution, >= 1.
        tensor_stride: spacing of `coords`.
        transposed: build the map of the transposed convolution; needs `out_coords`.
        out_coords: [M_out, 4] output voxels, where they exist already.
        index: `index_coords` of the voxels that are looked up (`coords`, or `out_coords` for a
            transposed map), to share it between maps.

    Raises:
        ValueError: wrong shapes or sizes, a voxel twice, coordinates outside the packed range,
            or a transposed map without out_coords.
        TypeError: floating-point coordinates.
    """
    check_coords("build_kernel_map", coords)
    _check_sizes(kernel_size, stride, tensor_stride)
    if transposed:
        if out_coords is None:
            raise ValueError(
                "build_kernel_map: a transposed map needs out_coords, the existing voxels of the "
                "finer level"
            )
        if tensor_stride % stride:
            raise ValueError(
                f"build_kernel_map: stride {stride} does not divide tensor_stride {tensor_stride}"
            )
        forward = build_kernel_map(
            out_coords, kernel_size, stride, tensor_stride // stride, out_coords=coords, index=index
        )
        return forward.swapped
    index = index_coords(coords) if index is None else index
    submanifold = stride == 1 and out_coords is None
    if submanifold:
        out_coords = index.coords
    elif out_coords is None:
        out_coords = downsample_coords(index.coords, stride * tensor_stride).coords
    else:
        check_coords("build_kernel_map", out_coords)
        out_coords = out_coords.to(torch.int32)
    neighbors = _find_neighbors(out_coords, index.keys, index.rows, kernel_size, tensor_stride)
    return KernelMap(
        neighbors=neighbors,
        out_coords=out_coords,
        in_coords=index.coords,
        kernel_size=kernel_size,
        stride=stride,
        tensor_stride=tensor_stride,
        submanifold=submanifold and kernel_size % 2 == 1,
    )


def build_unet_maps(coords: Tensor, levels: int = 4) -> UNetMaps:
    """All kernel maps of a MinkUNet on one set of voxels, shared by every net that runs on it.

    Each level is indexed once; its 3³ map at level 0 is cut from the 5³ map of the stem.

    Args:
        coords: [M, 4] integer (batch, x, y, z), each voxel once; M = 0 is legal.
        levels: number of stride-2 stages.

    Raises:
        ValueError: wrong shape, a voxel twice, or coordinates outside the packed range.
        TypeError: floating-point coordinates.
    """
    level_indexes = [index_coords(coords)]
    for level in range(levels):
        level_indexes.append(downsample_coords(level_indexes[-1].coords, 2 << level))
    return _map_levels(level_indexes)


def build_unet_maps_from_levels(level_coords: Sequence[Tensor]) -> UNetMaps:
    """All kernel maps of a MinkUNet from the voxels of all levels; never waits for the GPU.

    The same maps as `build_unet_maps(level_coords[0])`. What the voxels hold is not looked at:
    those that break the rules below give wrong maps.

    Args:
        level_coords: levels + 1 of [M_l, 4] integer (batch, x, y, z), each voxel once, in
            ascending order and in the packed range; level l holds the distinct
            ⌊coords / 2^l⌋ · 2^l of level 0. `finish_view_voxels` makes them.

    Raises:
        ValueError: wrong shape, or no level.
        TypeError: floating-point coordinates.
    """
    if not level_coords:
        raise ValueError("build_unet_maps_from_levels: level_coords is empty; pass the voxels")
    level_indexes = []
    for coords in level_coords:
        check_coords("build_unet_maps_from_levels", coords)
        coords = coords.to(torch.int32)
        level_indexes.append(CoordIndex(coords, *_index_sorted_coords(coords)))
    return _map_levels(level_indexes)


def _map_levels(level_indexes: Sequence[CoordIndex]) -> UNetMaps:
    """The maps of a UNet between voxels that are indexed already, finest first."""
    stem = build_kernel_map(level_indexes[0].coords, 5, index=level_indexes[0])
    conv = [_cut_center(stem, 3)]
    down: list[KernelMap] = []
    for level, (fine, coarse) in enumerate(pairwise(level_indexes)):
        stride = 1 << level
        down.append(
            build_kernel_map(fine.coords, 2, 2, stride, out_coords=coarse.coords, index=fine)
        )
        conv.append(build_kernel_map(coarse.coords, 3, 1, 2 * stride, index=coarse))
    up = tuple(kernel_map.swapped for kernel_map in down)
    coords = tuple(index.coords for index in level_indexes)
    return UNetMaps(coords, stem, tuple(conv), tuple(down), up)


def _cut_center(kernel_map: KernelMap, kernel_size: int) -> KernelMap:
    """The map of a smaller odd kernel, whose offsets are the inner ones of a larger odd kernel."""
    size, margin = kernel_map.kernel_size, (kernel_map.kernel_size - kernel_size) // 2
    m_out = kernel_map.neighbors.shape[0]
    inner = slice(margin, size - margin)
    cube = kernel_map.neighbors.reshape(m_out, size, size, size)[:, inner, inner, inner]
    return KernelMap(
        neighbors=cube.reshape(m_out, kernel_size**3),
        out_coords=kernel_map.out_coords,
        in_coords=kernel_map.in_coords,
        kernel_size=kernel_size,
        tensor_stride=kernel_map.tensor_stride,
        submanifold=True,
    )


def _check_sizes(kernel_size: int, stride: int, tensor_stride: int) -> None:
    for name, value in (
        ("kernel_size", kernel_size),
        ("stride", stride),
        ("tensor_stride", tensor_stride),
    ):
        if value < 1:
            raise ValueError(f"build_kernel_map: {name} must be >= 1, got {value}")
    reach = (kernel_size - 1) * tensor_stride
    if max(reach, stride * tensor_stride) > MARGIN:
        raise ValueError(
            f"build_kernel_map: kernel_size {kernel_size} and stride {stride} at tensor_stride "
            f"{tensor_stride} reach beyond {MARGIN} voxels; use a smaller kernel or stride"
        )


def _fake_index(coords: Tensor) -> tuple[Tensor, Tensor]:
    size = torch.library.get_ctx().new_dynamic_size()
    return (
        coords.new_empty((size,), dtype=torch.int64),
        coords.new_empty((size,), dtype=torch.int32),
    )


def _fake_neighbors(coords: Tensor, kernel_size: int, **_: Any) -> Tensor:
    return coords.new_empty((coords.shape[0], kernel_size**3), dtype=torch.int32)


def _fake_downsampled(coords: Tensor, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
    context = torch.library.get_ctx()
    m_out, capacity = context.new_dynamic_size(), context.new_dynamic_size()
    return (
        coords.new_empty((m_out, 4), dtype=torch.int32),
        coords.new_empty((capacity,), dtype=torch.int64),
        coords.new_empty((capacity,), dtype=torch.int32),
    )


_index_coords = Operator("index_coords", index_coords_reference, _fake_index)
_index_sorted_coords = Operator("index_sorted_coords", index_sorted_coords_reference, _fake_index)
_find_neighbors = Operator("find_neighbors", find_neighbors_reference, _fake_neighbors)
_downsample_coords = Operator("downsample_coords", downsample_coords_reference, _fake_downsampled)
