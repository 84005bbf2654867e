"""A point cloud drawn into a pinhole camera."""

from xmask3d_rt.kernels.render_view.op import render_view
from xmask3d_rt.kernels.render_view.reference import RenderedView
from xmask3d_rt.kernels.render_view.spacing import estimate_spacing

__all__ = ["RenderedView", "estimate_spacing", "render_view"]
