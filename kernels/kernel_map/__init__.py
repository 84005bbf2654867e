"""Kernel maps of sparse convolutions."""

from xmask3d_rt.kernels.kernel_map.op import (
    build_kernel_map,
    build_unet_maps,
    build_unet_maps_from_levels,
    downsample_coords,
    index_coords,
)
from xmask3d_rt.kernels.kernel_map.types import CoordIndex, KernelMap, UNetMaps

__all__ = [
    "CoordIndex",
    "KernelMap",
    "UNetMaps",
    "build_kernel_map",
    "build_unet_maps",
    "build_unet_maps_from_levels",
    "downsample_coords",
    "index_coords",
]
