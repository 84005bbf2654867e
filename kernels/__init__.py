"""GPU and CPU operators between the engines; one folder per operator."""

from xmask3d_rt.kernels.assign_masks import MaskAssignment, assign_masks, mask_class_logits
from xmask3d_rt.kernels.label_points import (
    LabelTables,
    PointLabels,
    build_label_tables,
    label_points,
)
from xmask3d_rt.kernels.mask_pool import mask_pool
from xmask3d_rt.kernels.nearest_fill import nearest_fill
from xmask3d_rt.kernels.project_view import ProjectedView, project_view
from xmask3d_rt.kernels.vote import SceneVotes, VotedLabels, finish_votes, make_votes, vote

__all__ = [
    "LabelTables",
    "MaskAssignment",
    "PointLabels",
    "ProjectedView",
    "SceneVotes",
    "VotedLabels",
    "assign_masks",
    "build_label_tables",
    "finish_votes",
    "label_points",
    "make_votes",
    "mask_class_logits",
    "mask_pool",
    "nearest_fill",
    "project_view",
    "vote",
]
