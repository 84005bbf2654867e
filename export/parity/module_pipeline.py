"""The PyTorch module behind the runtime's `Segmenter`: the other side of every comparison.

Selection, voxels, voting and filling are the runtime's own; everything between the voxels and
the masks is `XMask3D.forward`.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.base import Array
from xmask3d_rt.model.xmask3d import ViewBatch, XMask3D
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.pipeline.masks import ViewMasks
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.pipeline.view import (
    GroupVoxels,
    TextTarget,
    ViewGroup,
    ViewPipeline,
    VoxelFeatures,
)
from xmask3d_rt.segmenter import Segmenter
from xmask3d_rt.text.embedder import TextEmbedder


class ModulePipeline(ViewPipeline):
    """`ViewPipeline` on the module in place of engines and folded nets, one view at a time.

    Args:
        model: with its weights, in evaluation mode, on the device to run on.
    """

    def __init__(self, model: XMask3D) -> None:
        device = model.diffusion.noise.device
        super().__init__(model.config, Heads(model.state_dict(), device), device)
        self._model = model

    def encode_voxels(self, group: GroupVoxels, recorder: Recorder) -> VoxelFeatures:
        """The module's sparse nets on the voxels of a group."""
        voxels = group.voxels
        sparse = self._model.encode_voxels(
            voxels.level_coords[0], group.colors, views=len(group.parts)
        )
        return VoxelFeatures(
            encoded=sparse.enc_out,
            base_prob=sparse.binary_logit.sigmoid(),
            imp_condition=sparse.imp_condition,
            point_to_voxel=voxels.point_to_voxel,
        )

    def compute_masks(
        self,
        group: ViewGroup,
        voxels: GroupVoxels,
        target: TextTarget,
        recorder: Recorder,
    ) -> Iterator[tuple[VoxelFeatures, ViewMasks]]:
        """`XMask3D.forward` view by view; see `ViewPipeline.compute_masks`."""
        found = voxels.voxels
        for part in voxels.parts:
            indices = found.indices[part.points]
            point_to_voxel = found.point_to_voxel[part.points] - part.voxels.start
            coords = found.level_coords[0][part.voxels].clone()
            coords[:, 0] = 0
            batch = ViewBatch(
                images=group.cameras[part.view].image,
                coords=coords,
                colors=voxels.colors[part.voxels],
                point_to_voxel=point_to_voxel,
                point_view=torch.zeros_like(point_to_voxel),
                row=group.projected[part.view].row[indices].long(),
                col=group.projected[part.view].col[indices].long(),
                text_embed=target.text_embed,
                text_class=target.text_class,
            )
            with recorder.measure("module"):
                named = self._model(batch).named()
            recorder.record(**named, coords=coords)
            features = VoxelFeatures(
                encoded=named["enc_out"],
                base_prob=named["binary_logit"].sigmoid(),
                imp_condition=named["imp_condition"],
                point_to_voxel=point_to_voxel,
            )
            embeddings = named["mask_embed"], named["mask_embed_clip"]
            yield features, ViewMasks(named["pred_masks"], *embeddings, finite={})


class _TextModule:
    """The module's text encoder with an engine's `infer`."""

    def __init__(self, model: XMask3D) -> None:
        self._model = model

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Tensor]:
        """token_ids [T, 77] → text_embed [T, E]."""
        ids = torch.as_tensor(feeds["token_ids"]).to(self._model.diffusion.noise.device)
        return {"text_embed": self._model.clip.encode_text(ids)}


def make_module_segmenter(model: XMask3D) -> Segmenter:
    """A `Segmenter` that runs the PyTorch module on the device its weights are on."""
    pipeline = ModulePipeline(model)
    return Segmenter.from_pipeline(pipeline, TextEmbedder(_TextModule(model), pipeline.device))


def load_synthetic_module(config: ModelConfig, released_order: bool = False) -> XMask3D:
    """The module with synthetic weights, ready for inference.

    Args:
        config: of the model.
        released_order: see `XMask3D`.
    """
    from xmask3d_rt.model.synthetic import fill_synthetic

    model = XMask3D(config, released_order)
    fill_synthetic(model)
    model.diffusion.embed_empty_prompt()
    return model.eval()
