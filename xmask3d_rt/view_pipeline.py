"""One view from pixels and points to a label per visible point, top to bottom.

The order of `ViewPipeline.label_view` is the order of the method: project and select, voxelize,
sparse nets, diffusion features, masks, fusion, labels (arXiv 2411.13243, sections 3.2 to 3.4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.engines.heads import Heads
from xmask3d_rt.engines.sparse_unet import FoldedSparseUNet
from xmask3d_rt.errors import EngineError
from xmask3d_rt.feature_pass import ENGINES as ENGINES
from xmask3d_rt.feature_pass import FEATURES
from xmask3d_rt.kernels import (
    LabelTables,
    PointLabels,
    ProjectedView,
    assign_masks,
    build_label_tables,
    build_unet_maps,
    label_points,
    mask_class_logits,
    mask_pool,
    project_view,
    voxelize,
)
from xmask3d_rt.preprocess import PreparedView
from xmask3d_rt.stage_times import StageTimes as StageTimes
from xmask3d_rt.stage_times import Trace as Trace
from xmask3d_rt.stage_times import record_trace as _record

SPARSE_NETS = ("point_encoder", "binary_head")


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
        image = torch.from_numpy(view.image).to(device)  # [S, S, 3]
        return cls(
            image=(image.permute(2, 0, 1)[None].float() / 255).contiguous(),
            depth=None if view.depth is None else torch.from_numpy(view.depth).to(device),
            K=torch.from_numpy(view.intrinsics).to(device),
            world_to_camera=torch.from_numpy(view.world_to_camera).to(device),
        )


@dataclass(frozen=True)
class VoxelFeatures:
    """Sparse-net outputs over the voxels of one set of points.

    `encoded` [M, 256] output of the point encoder, `base_prob` [M], `imp_condition` [1, E],
    `point_to_voxel` [n].
    """

    encoded: Tensor
    base_prob: Tensor
    imp_condition: Tensor
    point_to_voxel: Tensor


class ViewPipeline:
    """The engines, sparse nets and kernels of one model, applied view by view.

    Args:
        config: the model the engines were built for.
        engines: `ENGINES` by name.
        nets: `SPARSE_NETS` by name.
        heads: the small layers between the engines.
        device: where points, features and labels live.
    """

    def __init__(
        self,
        config: ModelConfig,
        engines: dict[str, Engine],
        nets: dict[str, FoldedSparseUNet],
        heads: Heads,
        device: torch.device,
    ) -> None:
        self.config = config
        self.heads = heads
        self.device = device
        self.engines = engines
        self._nets = nets

    def make_target(self, text_embed: Tensor, text_class: Tensor, is_base: Tensor) -> TextTarget:
        """Fold names [T, E], their classes [T] and the gate [C] into what labelling needs."""
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
        return TextTarget(text_embed, text_class, is_base, tables)

    def select_points(self, points: Tensor, view: CameraView) -> tuple[ProjectedView, Tensor]:
        """Project all points [N, 3] into `view`; the visible ones' indices [n] beside it."""
        grid = self.config.view
        projected = project_view(
            points,
            view.K,
            view.world_to_camera,
            view.depth,
            border=grid.border,
            tolerance=grid.depth_tolerance,
            size=grid.mask_shape,
        )
        return projected, projected.indices[: int(projected.count)]

    def make_voxels(self, points: Tensor, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Voxels of points [n, 3] with colours [n, 3] (uint8).

        The first point of a voxel gives its colour. Coordinates start at the points' minimum,
        as in training: the strided levels depend on their parity.

        Returns:
            coords [M, 4] int32, colours [M, 3] in [-1, 1], voxel of each point [n].
        """
        voxels = voxelize(points, self.config.voxel_size)
        coords = voxels.coords.clone()
        coords[:, 1:] -= coords[:, 1:].amin(0)
        colors = rgb[voxels.first_point].to(torch.float32) / 127.5 - 1
        return coords, colors, voxels.point_to_voxel

    def encode_voxels(self, points: Tensor, rgb: Tensor, trace: Trace | None) -> VoxelFeatures:
        """Voxelize points [n, 3] with colours [n, 3] (uint8) and run both sparse nets."""
        coords, colors, point_to_voxel = self.make_voxels(points, rgb)
        maps = build_unet_maps(coords)
        bottleneck, encoded = self._nets["point_encoder"](colors, maps)
        _, binary = self._nets["binary_head"](colors, maps)
        base_logit = self.heads.base_logit(binary)
        features = VoxelFeatures(
            encoded=encoded,
            base_prob=base_logit.sigmoid(),
            imp_condition=self.heads.condition(bottleneck),
            point_to_voxel=point_to_voxel,
        )
        if trace is not None:
            _record(trace, pred_3d=self.heads.voxel_features(encoded))
        _record(trace, coords=coords, enc_out=encoded)
        _record(trace, bottleneck=bottleneck, bottleneck_coords=maps.coords[-1])
        _record(trace, binary_logit=base_logit, imp_condition=features.imp_condition)
        return features

    def label_view(
        self,
        points: Tensor,
        rgb: Tensor,
        pixels: tuple[Tensor, Tensor],
        view: CameraView,
        target: TextTarget,
        times: StageTimes,
        trace: Trace | None = None,
    ) -> PointLabels:
        """Labels of the visible points of one view.

        Args:
            points: visible points [n, 3] metres.
            rgb: their colours [n, 3] uint8.
            pixels: their (row, column) on the mask grid, [n] each.
            view: the view they are visible in.
            target: classes to choose from.
            times: stage times to add to.
            trace: receives every intermediate by name, for parity checks.

        Raises:
            EngineError: an engine returned values that are not finite.
        """
        with times.measure("sparse nets"):
            voxels = self.encode_voxels(points, rgb, trace)
        with times.measure("VAE encoder"):
            features = self._infer("vae_encoder", trace, image=view.image)
        latent = features.pop("latent")
        with times.measure("UNet"):
            condition = voxels.imp_condition
            features |= self._infer("unet", trace, latent=latent, imp_condition=condition)
        with times.measure("VAE decoder"):
            features |= self._infer("vae_decoder", trace, latent=latent)
        with times.measure("mask head"):
            masks = self._infer("mask_head", trace, **{name: features[name] for name in FEATURES})
            pooled = mask_pool(masks["mask_features"], masks["pred_masks"])[0]  # [Q, D]
            mask_embed = self.heads.mask_embed(pooled, masks["queries"][0])  # [Q, E]
            _check_finite("mask_head", mask_embed)
            _record(trace, mask_embed=mask_embed)
        with times.measure("MaskCLIP"):
            clip_inputs = {"image": view.image, "pred_masks": masks["pred_masks"]}
            mask_embed_clip = self._infer("mask_clip", trace, **clip_inputs)["mask_embed_clip"][0]
            _check_finite("mask_clip", mask_embed_clip)
        with times.measure("labels"):
            return self.label_masks(
                points, pixels, voxels, masks["pred_masks"][0], mask_embed, mask_embed_clip,
                target, trace,
            )  # fmt: skip

    def label_cloud(
        self, points: Tensor, rgb: Tensor, target: TextTarget, times: StageTimes
    ) -> PointLabels:
        """Labels of all points [N, 3] by the 3D head alone, with no view."""
        with times.measure("sparse nets"):
            voxels = self.encode_voxels(points, rgb, None)
        nothing = voxels.encoded.new_zeros(0, self.config.clip.embed_dim)
        with times.measure("labels"):
            return self._label_from(
                points,
                voxels,
                torch.full_like(voxels.point_to_voxel, -1, dtype=torch.int32),
                nothing,
                nothing,
                target,
            )

    def label_masks(
        self,
        points: Tensor,
        pixels: tuple[Tensor, Tensor],
        voxels: VoxelFeatures,
        pred_masks: Tensor,
        mask_embed: Tensor,
        mask_embed_clip: Tensor,
        target: TextTarget,
        trace: Trace | None,
    ) -> PointLabels:
        """Labels of the visible points from one view's masks: ownership, fusion, gating.

        Args:
            points: visible points [n, 3].
            pixels: their (row, column) on the mask grid.
            voxels: sparse-net outputs of the points.
            pred_masks: mask logits [Q, h, w].
            mask_embed: mask embeddings [Q, E].
            mask_embed_clip: MaskCLIP's embeddings [Q, E].
            target: classes to choose from.
            trace: receives every intermediate by name.
        """
        class_logits = mask_class_logits(
            mask_embed,
            target.text_embed,
            target.text_class,
            target.num_classes,
            self.heads.null_embed,
            self.heads.logit_scale,
        )
        assignment = assign_masks(
            pred_masks,
            self.config.view.mask_shape,
            *pixels,
            base_prob=voxels.base_prob[voxels.point_to_voxel],
            class_logits=class_logits,
            is_base=target.is_base,
            binary_threshold=self.config.binary_threshold,
        )
        _record(trace, pred_logits=class_logits, kept=assignment.kept)
        _record(trace, final=assignment.final, mask_score=assignment.score)
        labels = self._label_from(
            points, voxels, assignment.point_query, mask_embed, mask_embed_clip, target
        )
        _record(trace, label_fused=labels.fused, label_2d=labels.two_d, label_3d=labels.three_d)
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
            base_prob=voxels.base_prob[voxels.point_to_voxel],
            points=points,
            tables=target.tables,
        )

    def _infer(self, component: str, trace: Trace | None, **inputs: Tensor) -> dict[str, Tensor]:
        """Run one engine; its outputs by name, on this pipeline's device."""
        outputs = self.engines[component].infer(inputs)
        outputs = {name: torch.as_tensor(value).to(self.device) for name, value in outputs.items()}
        _record(trace, **outputs)
        return outputs


def _check_finite(component: str, embedding: Tensor) -> None:
    if not bool(torch.isfinite(embedding).all()):
        raise EngineError(
            f"{component}: its embedding is not finite (NaN or inf); rebuild this component in "
            f"a wider precision: --only {component} --precision fp32 --force"
        )
