"""Views from pixels and points to a label per visible point.

`label_group` is the order of the method: project and select, voxelize, sparse nets, diffusion
features, masks, fusion, labels (arXiv 2411.13243, sections 3.2 to 3.4). Points are selected for a
group of views at once, so that all sizes reach the host together; nothing else waits for a GPU.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.kernels import (
    LabelTables,
    PendingViewVoxels,
    PointLabels,
    ProjectedView,
    ViewVoxels,
    assign_masks,
    build_label_tables,
    finish_view_voxels,
    label_points,
    mask_class_logits,
    plan_view_voxels,
    project_view,
)
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.pipeline.host_copy import HostCopy, upload
from xmask3d_rt.pipeline.masks import ViewMasks
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.scene.prepare import PreparedView


@dataclass(frozen=True)
class TextTarget:
    """What points are labelled with.

    `text_embed` [T, E] holds one row per name, `text_class` [T] the class each name stands for,
    `is_base` [C] whether a class was trained with labels, `tables` what labelling a point needs
    of all that.
    """

    text_embed: Tensor
    text_class: Tensor
    is_base: Tensor
    tables: LabelTables

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.is_base)


@dataclass(frozen=True)
class CameraView:
    """One view on the model's grids.

    `image` [1, 3, S, S] in [0, 1]; `depth` [H, W] metres on the mask grid (0 = no measurement)
    or None; `K` [3, 3] pixels of the mask grid; `world_to_camera` [4, 4].
    """

    image: Tensor
    depth: Tensor | None
    K: Tensor
    world_to_camera: Tensor

    @classmethod
    def upload(cls, view: PreparedView, device: torch.device) -> "CameraView":
        """The view's arrays as tensors on `device`."""
        image = upload(view.image, device)  # [S, S, 3]
        return cls(
            image=(image.permute(2, 0, 1)[None].float() / 255).contiguous(),
            depth=None if view.depth is None else upload(view.depth, device),
            K=upload(view.intrinsics, device),
            world_to_camera=upload(view.world_to_camera, device),
        )


@dataclass(frozen=True)
class ViewGroup:
    """Views whose points are selected; the numbers of points and voxels are on their way."""

    cameras: tuple[CameraView, ...]
    projected: tuple[ProjectedView, ...]
    pending: PendingViewVoxels
    sizes: HostCopy


@dataclass(frozen=True)
class ViewPart:
    """Where the points and voxels of one view lie among those of its group.

    `view` is its position in the group, `coarse` its voxels at the coarsest level.
    """

    view: int
    points: slice
    voxels: slice
    coarse: slice


@dataclass(frozen=True)
class GroupVoxels:
    """Voxels of a group of views.

    `colors` [M, 3] in [-1, 1]: the first point of a voxel gives its colour. `parts` are the views
    that have points, in order.
    """

    voxels: ViewVoxels
    colors: Tensor
    parts: Sequence[ViewPart]

    @classmethod
    def finish(cls, pending: PendingViewVoxels, sizes: HostCopy, rgb: Tensor) -> "GroupVoxels":
        """Wait for the sizes and make the voxels; `rgb` [N, 3] uint8 of the scene's points."""
        voxels = finish_view_voxels(pending, sizes.wait())
        colors = rgb[voxels.indices[voxels.first_point]].to(torch.float32) / 127.5 - 1
        return cls(voxels, colors, list_parts(voxels))


@dataclass(frozen=True)
class VoxelFeatures:
    """Sparse-net outputs over the voxels of one view, or of several one after the other.

    `encoded` [M, 256] output of the point encoder, `base_prob` [M], `imp_condition` [V, E] one
    row per view, `point_to_voxel` [n].
    """

    encoded: Tensor
    base_prob: Tensor
    imp_condition: Tensor
    point_to_voxel: Tensor

    @cached_property
    def point_base_prob(self) -> Tensor:
        """P(base) of each point [n], that of its voxel."""
        return self.base_prob[self.point_to_voxel]

    def cut(self, part: ViewPart, row: int) -> "VoxelFeatures":
        """Those of one view, the `row`-th of the condition."""
        return VoxelFeatures(
            self.encoded[part.voxels],
            self.base_prob[part.voxels],
            self.imp_condition[row : row + 1],
            self.point_to_voxel[part.points] - part.voxels.start,
        )


@dataclass(frozen=True)
class LabelledPoints:
    """The points that a view labels: `indices` [n] of the scene, ascending, and their labels.

    `finite` says whether the embeddings of the view's masks are, for `check_finite`.
    """

    indices: Tensor
    labels: PointLabels
    finite: Mapping[str, Tensor]


@dataclass(frozen=True)
class LabelledView:
    """One view's result.

    Attributes:
        projected: where every point of the scene falls.
        count: how many of them the view sees.
        seen: these points, labelled; None where they were too few.
    """

    projected: ProjectedView
    count: int
    seen: LabelledPoints | None = None


class ViewPipeline(ABC):
    """Selection and labelling, the same whatever computes features and masks.

    Args:
        config: of the model.
        heads: the small layers between the networks.
        device: where points, features and labels live.
    """

    group_views = 1  # selected at once, where points are few enough

    def __init__(self, config: ModelConfig, heads: Heads, device: torch.device) -> None:
        self.config = config
        self.heads = heads
        self.device = device
        self.engines: Mapping[str, Engine] = {}

    @abstractmethod
    def encode_voxels(self, group: GroupVoxels, recorder: Recorder) -> VoxelFeatures:
        """Run the sparse nets on the voxels of a group."""

    @abstractmethod
    def compute_masks(
        self,
        group: ViewGroup,
        voxels: GroupVoxels,
        target: TextTarget,
        recorder: Recorder,
    ) -> Iterator[tuple[VoxelFeatures, ViewMasks]]:
        """Features and masks (B = 1) of the views that have points, in order, at least one."""

    def make_target(self, text_embed: Tensor, text_class: Tensor, is_base: Tensor) -> TextTarget:
        """Fold names [T, E], their classes [T] and the gate [C] into what labelling needs.

        Classes and gate are given on the host.
        """
        is_base = is_base.to(self.device)
        tables = build_label_tables(
            text_embed,
            text_class,
            is_base,
            self.heads.fuser_weight,
            self.heads.fuser_bias,
            self.heads.logit_scale,
            self.config.base_ratio,
            self.config.novel_ratio,
            self.config.binary_threshold,
            *self.heads.voxel_projection,
        )
        return TextTarget(text_embed, text_class.to(self.device), is_base, tables)

    def select(self, points: Tensor, cameras: Sequence[CameraView], least: int) -> ViewGroup:
        """Project all points [N, 3] into every view and plan the voxels of the visible ones.

        Args:
            points: of the scene, metres.
            cameras: one or more views.
            least: a view that sees fewer points gets none.
        """
        grid = self.config.view
        projected = tuple(
            project_view(
                points,
                view.K,
                view.world_to_camera,
                view.depth,
                border=grid.border,
                tolerance=grid.depth_tolerance,
                size=grid.mask_shape,
            )
            for view in cameras
        )
        pending = plan_view_voxels(
            points,
            torch.stack([view.visible for view in projected]),
            self.config.voxel_size,
            keep_least=least,
        )
        return ViewGroup(tuple(cameras), projected, pending, HostCopy(pending.sizes))

    def label_group(
        self,
        points: Tensor,
        rgb: Tensor,
        group: ViewGroup,
        target: TextTarget,
        recorder: Recorder,
    ) -> list[LabelledView]:
        """Label the points that the views of a group see.

        Args:
            points: of the scene [N, 3] metres.
            rgb: their colours [N, 3] uint8.
            group: from `select` with the same points.
            target: classes to choose from.
            recorder: of stages, and, for one view, of every intermediate by name.

        Returns:
            a result per view, in order.

        Raises:
            EngineError: an engine failed, or (on a CPU) returned values that are not finite.
        """
        with recorder.measure("project"):
            chosen = GroupVoxels.finish(group.pending, group.sizes, rgb)
        found = [
            LabelledView(projected, count)
            for projected, count in zip(group.projected, chosen.voxels.visible_counts, strict=True)
        ]
        if not chosen.parts:
            return found
        computed = self.compute_masks(group, chosen, target, recorder)
        for part, (features, masks) in zip(chosen.parts, computed, strict=True):
            projected, count = group.projected[part.view], found[part.view].count
            indices = chosen.voxels.indices[part.points]
            with recorder.measure("labels"):
                labels = self._label_masks(
                    points[indices], projected, indices, features, masks, target, recorder
                )
            seen = LabelledPoints(indices, labels, masks.finite)
            found[part.view] = LabelledView(projected, count, seen)
        return found

    def label_cloud(
        self, points: Tensor, rgb: Tensor, target: TextTarget, recorder: Recorder
    ) -> PointLabels:
        """Labels of all points [N, 3] by the 3D head alone, with no view."""
        with recorder.measure("sparse nets"):
            everything = torch.ones(1, len(points), dtype=torch.bool, device=self.device)
            pending = plan_view_voxels(points, everything, self.config.voxel_size)
            voxels = GroupVoxels.finish(pending, HostCopy(pending.sizes), rgb)
            features = self.encode_voxels(voxels, recorder)
        nothing = features.encoded.new_zeros(0, self.config.clip.embed_dim)
        with recorder.measure("labels"):
            uncovered = torch.full_like(features.point_to_voxel, -1, dtype=torch.int32)
            return self._label_from(points, features, uncovered, nothing, nothing, target)

    def _label_masks(
        self,
        points: Tensor,
        projected: ProjectedView,
        indices: Tensor,
        voxels: VoxelFeatures,
        masks: ViewMasks,
        target: TextTarget,
        recorder: Recorder,
    ) -> PointLabels:
        """Labels of one view's points [n, 3], `indices` [n] of the scene, from its masks."""
        mask_embed, mask_embed_clip = masks.mask_embed[0], masks.mask_embed_clip[0]
        class_logits = mask_class_logits(
            mask_embed,
            target.text_embed,
            target.text_class,
            target.num_classes,
            self.heads.null_embed,
            self.heads.logit_scale,
        )
        assignment = assign_masks(
            masks.pred_masks[0],
            self.config.view.mask_shape,
            projected.row[indices],
            projected.col[indices],
            base_prob=voxels.point_base_prob,
            class_logits=class_logits,
            is_base=target.is_base,
            binary_threshold=self.config.binary_threshold,
        )
        recorder.record(pred_logits=class_logits, kept=assignment.kept)
        recorder.record(final=assignment.final, mask_score=assignment.score)
        labels = self._label_from(
            points, voxels, assignment.point_query, mask_embed, mask_embed_clip, target
        )
        recorder.record(label_fused=labels.fused, label_2d=labels.two_d)
        recorder.record(label_3d=labels.three_d)
        return labels

    def _label_from(
        self,
        points: Tensor,
        voxels: VoxelFeatures,
        point_query: Tensor,
        mask_embed: Tensor,
        mask_embed_clip: Tensor,
        target: TextTarget,
    ) -> PointLabels:
        return label_points(
            voxel_feats=voxels.encoded,
            point_to_voxel=voxels.point_to_voxel,
            point_query=point_query,
            mask_embed=mask_embed,
            mask_embed_clip=mask_embed_clip,
            base_prob=voxels.point_base_prob,
            points=points,
            tables=target.tables,
        )


def list_parts(voxels: ViewVoxels) -> list[ViewPart]:
    """The views of a group that have points."""
    parts = []
    point = voxel = coarse = 0
    for view, (points, levels) in enumerate(
        zip(voxels.point_counts, voxels.voxel_counts, strict=True)
    ):
        ends = point + points, voxel + levels[0], coarse + levels[-1]
        if points:
            part = (slice(point, ends[0]), slice(voxel, ends[1]), slice(coarse, ends[2]))
            parts.append(ViewPart(view, *part))
        point, voxel, coarse = ends
    return parts
