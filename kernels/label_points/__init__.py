"""Labels of the three heads for the visible points of a view."""

from xmask3d_rt.kernels.label_points.op import label_points
from xmask3d_rt.kernels.label_points.reference import PointLabels
from xmask3d_rt.kernels.label_points.tables import LabelTables, build_label_tables

__all__ = ["LabelTables", "PointLabels", "build_label_tables", "label_points"]
