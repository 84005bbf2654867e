"""GPU and CPU operators between the engines; one folder per operator."""

from xmask3d_rt.kernels.kernel_map import (
    CoordIndex,
    KernelMap,
    UNetMaps,
    build_kernel_map,
    build_unet_maps,
    index_coords,
)
from xmask3d_rt.kernels.sparse_conv import Epilogue, sparse_conv
from xmask3d_rt.kernels.voxelize import Voxels, voxelize

__all__ = [
    "CoordIndex",
    "Epilogue",
    "KernelMap",
    "UNetMaps",
    "Voxels",
    "build_kernel_map",
    "build_unet_maps",
    "index_coords",
    "sparse_conv",
    "voxelize",
]
