"""`ViewPipeline` on engines, folded sparse nets and kernels: what a `Segmenter` runs."""

from collections.abc import Iterator, Mapping

import torch

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.kernels import build_unet_maps_from_levels
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet
from xmask3d_rt.pipeline.features import FeaturePass
from xmask3d_rt.pipeline.masks import ViewMasks
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.pipeline.view import (
    GroupVoxels,
    TextTarget,
    ViewGroup,
    ViewPipeline,
    VoxelFeatures,
)

GPU_GROUP = 4  # views selected at once there: the sparse nets of a single one do not fill it


class EnginePipeline(ViewPipeline):
    """The engines, sparse nets and kernels of one model.

    Args:
        config: the model the engines were built for.
        engines: those of a `FeaturePass`, by name.
        nets: `components.SPARSE_NETS` by name.
        heads: the small layers between the engines.
        device: where points, features and labels live.
        graphs: on a GPU, replay CUDA graphs of the engines that can be captured.
    """

    def __init__(
        self,
        config: ModelConfig,
        engines: Mapping[str, Engine],
        nets: Mapping[str, FoldedSparseUNet],
        heads: Heads,
        device: torch.device,
        graphs: bool = True,
    ) -> None:
        super().__init__(config, heads, device)
        self.engines = engines
        self._nets = nets
        self._features = FeaturePass(engines, heads, device, graphs)
        if device.type == "cuda":
            self.group_views = max(GPU_GROUP, self._features.max_batch)

    def encode_voxels(self, group: GroupVoxels, recorder: Recorder) -> VoxelFeatures:
        """Run both sparse nets on the voxels of a group."""
        voxels = group.voxels
        maps = build_unet_maps_from_levels(voxels.level_coords)
        bottleneck, encoded = self._nets["point_encoder"](group.colors, maps)
        _, binary = self._nets["binary_head"](group.colors, maps)
        base_logit = self.heads.base_logit(binary)
        conditions = [self.heads.condition(bottleneck[part.coarse]) for part in group.parts]
        features = VoxelFeatures(
            encoded=encoded,
            base_prob=base_logit.sigmoid(),
            imp_condition=torch.cat(conditions),
            point_to_voxel=voxels.point_to_voxel,
        )
        if recorder.keeps_values:
            recorder.record(pred_3d=self.heads.voxel_features(encoded))
        recorder.record(coords=voxels.level_coords[0], enc_out=encoded)
        recorder.record(bottleneck=bottleneck, bottleneck_coords=voxels.level_coords[-1])
        recorder.record(binary_logit=base_logit, imp_condition=features.imp_condition)
        return features

    def compute_masks(
        self,
        group: ViewGroup,
        voxels: GroupVoxels,
        target: TextTarget,
        recorder: Recorder,
    ) -> Iterator[tuple[VoxelFeatures, ViewMasks]]:
        """Features and masks view by view; see `ViewPipeline.compute_masks`.

        On a GPU the VAE of a batch runs beside the sparse nets or the batch before it.
        """
        most, parts = self._features.max_batch, voxels.parts
        starts = range(0, len(parts), most)
        images = [
            torch.cat([group.cameras[part.view].image for part in parts[start : start + most]])
            for start in starts
        ]
        pending = self._features.start(images[0], recorder)
        with recorder.measure("sparse nets"):
            features = self.encode_voxels(voxels, recorder)
        for batch, start in enumerate(starts):
            current = pending
            if batch + 1 < len(images):
                pending = self._features.start(images[batch + 1], recorder)
            condition = features.imp_condition[start : start + most]
            masks = self._features.finish(current, condition, recorder)
            for i, part in enumerate(parts[start : start + most]):
                yield features.cut(part, start + i), masks.cut(i)
