"""GPU and CPU operators between the engines; one folder per operator."""

from xmask3d_rt.kernels.assign_masks import MaskAssignment, assign_masks, mask_class_logits
from xmask3d_rt.kernels.kernel_map import (
    CoordIndex,
    KernelMap,
    UNetMaps,
    build_kernel_map,
    build_unet_maps,
    build_unet_maps_from_levels,
    downsample_coords,
    index_coords,
)
from xmask3d_rt.kernels.label_points import (
    LabelTables,
    PointLabels,
    build_label_tables,
    label_points,
)
from xmask3d_rt.kernels.mask_pool import mask_pool
from xmask3d_rt.kernels.nearest_fill import nearest_fill, nearest_known
from xmask3d_rt.kernels.project_view import ProjectedView, project_view
from xmask3d_rt.kernels.render_view import RenderedView, estimate_spacing, render_view
from xmask3d_rt.kernels.sparse_conv import Epilogue, sparse_conv
from xmask3d_rt.kernels.view_voxels import (
    PendingViewVoxels,
    ViewVoxels,
    finish_view_voxels,
    plan_view_voxels,
)
from xmask3d_rt.kernels.vote import (
    PairVotes,
    SceneVotes,
    VotedLabels,
    finish_votes,
    make_votes,
    vote,
)
from xmask3d_rt.kernels.voxelize import Voxels, voxelize

__all__ = [
    "CoordIndex",
    "Epilogue",
    "KernelMap",
    "LabelTables",
    "MaskAssignment",
    "PairVotes",
    "PendingViewVoxels",
    "PointLabels",
    "ProjectedView",
    "RenderedView",
    "SceneVotes",
    "UNetMaps",
    "ViewVoxels",
    "VotedLabels",
    "Voxels",
    "assign_masks",
    "build_kernel_map",
    "build_label_tables",
    "build_unet_maps",
    "build_unet_maps_from_levels",
    "downsample_coords",
    "estimate_spacing",
    "finish_view_voxels",
    "finish_votes",
    "index_coords",
    "label_points",
    "make_votes",
    "mask_class_logits",
    "mask_pool",
    "nearest_fill",
    "nearest_known",
    "plan_view_voxels",
    "project_view",
    "render_view",
    "sparse_conv",
    "vote",
    "voxelize",
]
