"""Nearest known point of every point."""

from xmask3d_rt.kernels.nearest_fill.op import nearest_fill, nearest_known

__all__ = ["nearest_fill", "nearest_known"]
