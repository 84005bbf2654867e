"""Voxel hashing: points to occupied cells."""

from xmask3d_rt.kernels.voxelize.op import voxelize
from xmask3d_rt.kernels.voxelize.reference import Voxels

__all__ = ["Voxels", "voxelize"]
