"""Pixel and visibility of every point in one posed view."""

from xmask3d_rt.kernels.project_view.op import ProjectedView, project_view

__all__ = ["ProjectedView", "project_view"]
