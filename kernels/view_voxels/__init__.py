"""Voxels of a group of views, planned without waiting for the device."""

from xmask3d_rt.kernels.view_voxels.op import finish_view_voxels, plan_view_voxels
from xmask3d_rt.kernels.view_voxels.types import PendingViewVoxels, ViewVoxels

__all__ = ["PendingViewVoxels", "ViewVoxels", "finish_view_voxels", "plan_view_voxels"]
