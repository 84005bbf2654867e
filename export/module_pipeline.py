"""The PyTorch module behind the runtime's `Segmenter`: the other side of every comparison.

Selection, voxels, voting and filling are the runtime's own; everything between the voxels and
the masks is `XMask3D.forward`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.base import Array
from xmask3d_rt.engines.heads import Heads
from xmask3d_rt.kernels import PointLabels
from xmask3d_rt.model.xmask3d import ViewBatch, XMask3D
from xmask3d_rt.segmenter import Segmenter
from xmask3d_rt.text_embedder import TextEmbedder
from xmask3d_rt.view_pipeline import (
    CameraView,
    StageTimes,
    TextTarget,
    Trace,
    ViewPipeline,
    VoxelFeatures,
)


class ModulePipeline(ViewPipeline):
    """`ViewPipeline` with the module in place of engines and folded nets.

    Args:
        model: with its weights, in evaluation mode, on the device to run on.
    """

    def __init__(self, model: XMask3D) -> None:
        device = model.diffusion.noise.device
        heads = Heads(model.state_dict(), device)
        super().__init__(model.config, {}, {}, heads, device)
        self._model = model

    def encode_voxels(self, points: Tensor, rgb: Tensor, trace: Trace | None) -> VoxelFeatures:
        """The module's sparse nets on the voxels of points [n, 3] with colours [n, 3]."""
        coords, colors, point_to_voxel = self.make_voxels(points, rgb)
        sparse = self._model.encode_voxels(coords, colors, views=1)
        return VoxelFeatures(
            encoded=sparse.enc_out,
            base_prob=sparse.binary_logit.sigmoid(),
            imp_condition=sparse.imp_condition,
            point_to_voxel=point_to_voxel,
        )

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
        """Labels of the visible points of one view; see `ViewPipeline.label_view`."""
        coords, colors, point_to_voxel = self.make_voxels(points, rgb)
        batch = ViewBatch(
            images=view.image,
            coords=coords,
            colors=colors,
            point_to_voxel=point_to_voxel,
            point_view=torch.zeros_like(point_to_voxel),
            row=pixels[0].long(),
            col=pixels[1].long(),
            text_embed=target.text_embed,
            text_class=target.text_class,
        )
        with times.measure("module"):
            output = self._model(batch)
        named = output.named()
        if trace is not None:
            trace |= named | {"coords": coords}
        voxels = VoxelFeatures(
            encoded=named["enc_out"],
            base_prob=named["binary_logit"].sigmoid(),
            imp_condition=named["imp_condition"],
            point_to_voxel=point_to_voxel,
        )
        with times.measure("labels"):
            return self.label_masks(
                points,
                pixels,
                voxels,
                named["pred_masks"][0],
                named["mask_embed"][0],
                named["mask_embed_clip"][0],
                target,
                trace,
            )


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
