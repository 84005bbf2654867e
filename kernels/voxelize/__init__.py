"""Voxel hashing: points to occupied cells."""

from xmask3d_rt.kernels.voxelize.op import Voxels, voxelize

__all__ = ["Voxels", "voxelize"]
