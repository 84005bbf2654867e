"""Point clouds and posed RGB-D views: read, checked, written, brought to the model's sizes."""

from xmask3d_rt.scene.cloud import PointCloud, as_point_cloud
from xmask3d_rt.scene.view import View

__all__ = ["PointCloud", "View", "as_point_cloud"]
