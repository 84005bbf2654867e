"""Pixel and visibility of every point in one posed view."""

from xmask3d_rt.kernels.project_view.op import project_view
from xmask3d_rt.kernels.project_view.reference import ProjectedView

__all__ = ["ProjectedView", "project_view"]
