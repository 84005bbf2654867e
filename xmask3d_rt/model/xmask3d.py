"""XMask3D: the whole model as one module, for training, parity and the released work order.

`XMask3D.forward` follows the method step by step: sparse nets, diffusion features, masks,
MaskCLIP, class logits. The trained part carries the released state-dict names; Stable Diffusion
(`diffusion`) and CLIP (`clip`) are frozen beside it.

Source: released XMask3D (models/xmask3d.py), arXiv 2411.13243.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from xmask3d_rt.components import FEATURES
from xmask3d_rt.config import ModelConfig
from xmask3d_rt.kernels import build_unet_maps, mask_pool
from xmask3d_rt.model.clip import Clip
from xmask3d_rt.model.diffusion import Diffusion, ImageFeatures
from xmask3d_rt.model.fusion import (
    CategoryHead,
    FusionHead,
    PointFeatures,
    fuse_points,
    own_points,
)
from xmask3d_rt.model.mask_decoder import MaskDecoder
from xmask3d_rt.model.pixel_decoder import PixelDecoder
from xmask3d_rt.model.projections import ConditionProjection, FeatureProjections
from xmask3d_rt.model.sparse_unet import BinaryHead, PointEncoder
from xmask3d_rt.text.tokenizer import sd_empty_prompt_ids, tokenize


@dataclass(frozen=True)
class ViewBatch:
    """Views with their visible points and the classes to tell apart, B views in all.

    `images` [B, 3, S, S] in [0, 1]; `coords` [M, 4] int32 (view, x, y, z) with `colors` [M, 3]
    in [-1, 1]; for each of the n visible points its voxel `point_to_voxel`, its view
    `point_view`, and its pixel `row`, `col` on the mask grid; `text_embed` [T, E] one row per
    name and `text_class` [T] the class it names.
    """

    images: Tensor
    coords: Tensor
    colors: Tensor
    point_to_voxel: Tensor
    point_view: Tensor
    row: Tensor
    col: Tensor
    text_embed: Tensor
    text_class: Tensor

    def to(self, device: torch.device | str) -> "ViewBatch":
        """The same batch on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class SparseOutput:
    """Both sparse nets over the voxels.

    `bottleneck` [M16, C] at `bottleneck_coords` [M16, 4]; `enc_out` [M, C]; `pred_3d` [M, E] in
    the text space; `binary_logit` [M]; `imp_condition` [B, E].
    """

    bottleneck: Tensor
    bottleneck_coords: Tensor
    enc_out: Tensor
    pred_3d: Tensor
    binary_logit: Tensor
    imp_condition: Tensor


@dataclass(frozen=True)
class DiffusionOutput:
    """Conditions, latents and the eight features in the order of `FEATURES`."""

    cond_inputs: Tensor
    cond_emb: Tensor
    latent: Tensor
    noisy_latent: Tensor
    features: tuple[Tensor, ...]


@dataclass(frozen=True)
class MaskOutput:
    """One prediction head: `pred_masks` [B, Q, H, W], `queries` [B, Q, D] and embeddings."""

    pred_masks: Tensor
    queries: Tensor
    mask_pooled_features: Tensor  # [B, Q, D]
    mask_embed: Tensor  # [B, Q, E]
    pred_logits: Tensor  # [B, Q, C + 1]


@dataclass(frozen=True)
class ModelOutput:
    """Everything one forward pass computes.

    `pyramid` is s2 to s5, `levels` the pixel decoder's three maps from coarse to fine, `masks`
    the last prediction head and `aux_masks` those before it (training only).
    """

    sparse: SparseOutput
    diffusion: DiffusionOutput
    pyramid: tuple[Tensor, ...]
    levels: tuple[Tensor, ...]
    mask_features: Tensor
    masks: MaskOutput
    aux_masks: tuple[MaskOutput, ...]
    mask_embed_clip: Tensor  # [B, Q, E]; [B, 0, E] where it was not asked for
    text_embed: Tensor
    logit_scale: Tensor

    def named(self) -> dict[str, Tensor]:
        """All tensors by the names used in parity checks, without the auxiliary heads."""
        parts = (self.sparse, self.diffusion, self.masks)
        named = {f.name: getattr(part, f.name) for part in parts for f in fields(part)}
        features = named.pop("features")
        named |= dict(zip(FEATURES, features, strict=True))
        named |= {f"s{i}": x for i, x in enumerate(self.pyramid, start=2)}
        named |= {f"ms{i}": x for i, x in enumerate(self.levels)}
        for name in ("mask_features", "mask_embed_clip", "text_embed", "logit_scale"):
            named[name] = getattr(self, name)
        return named


class Backbone(nn.Module):
    """Trained layers around the diffusion model; released prefix `backbone`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.feature_extractor = ConditionProjection(config)
        self.feature_projections = FeatureProjections(config)


class SegmentationHead(nn.Module):
    """Pixel and mask decoder; released prefix `sem_seg_head`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(config.mask_head)
        self.predictor = MaskDecoder(config.mask_head, config.clip.embed_dim)


class XMask3D(nn.Module):
    """The model.

    After the weights are loaded, `diffusion.embed_empty_prompt()` (or `set_uncond`) must run
    once. In training mode all prediction heads are returned and gradients reach every trained
    parameter; the diffusion model and CLIP stay frozen and in evaluation mode.

    Args:
        config: shapes and arithmetic.
        released_order: compute what the released code computes and throws away as well: the
            blocks behind the last taps, every head's pooled embedding twice, both text encoders
            per view. The results are the same; it is the baseline of the benchmarks.
    """

    def __init__(self, config: ModelConfig, released_order: bool = False) -> None:
        super().__init__()
        self.config = config
        self.released_order = released_order
        width = config.clip.embed_dim
        self.pc_decoder = PointEncoder(config.point_encoder, width)
        self.pc_binary_head = BinaryHead(config.binary_head)
        pos_weight = torch.tensor([config.loss.binary_pos_weight])
        self.binary_loss_func = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
        self.backbone = Backbone(config)
        self.sem_seg_head = SegmentationHead(config)
        self.criterion = FusionHead(width, len(config.split.base_names))
        self.category_head = CategoryHead(width)
        self.diffusion = Diffusion(config.diffusion, pruned=not released_order)
        self.clip = Clip(config.clip).requires_grad_(False)

    def train(self, mode: bool = True) -> "XMask3D":
        """Training mode for the trained part; the diffusion model and CLIP stay as they are."""
        super().train(mode)
        self.clip.train(False)
        return self

    def forward(
        self,
        batch: ViewBatch,
        image_features: ImageFeatures | None = None,
        mask_clip: bool = True,
    ) -> ModelOutput:
        """Run all steps up to the class logits of the masks.

        Args:
            batch: the views.
            image_features: of the batch's images, where they are known already.
            mask_clip: whether to embed the masks with MaskCLIP.

        Raises:
            ValueError: a view of the batch has no voxels, or the embedding of the empty prompt
                is not set.
        """
        sparse = self.encode_voxels(batch.coords, batch.colors, len(batch.images))
        if self.released_order:
            self._run_text_encoders(len(batch.images))
        diffusion = self.extract_features(batch.images, sparse.imp_condition, image_features)
        pyramid = self.backbone.feature_projections(diffusion.features)
        mask_features, levels = self.sem_seg_head.pixel_decoder(pyramid)
        heads = self.predict_masks(mask_features, levels, batch.text_embed, batch.text_class)
        mask_embed_clip = batch.images.new_empty(len(batch.images), 0, self.config.clip.embed_dim)
        if mask_clip:
            with torch.no_grad():
                mask_embed_clip = self.clip.encode_masks(batch.images, heads[-1].pred_masks)
        return ModelOutput(
            sparse=sparse,
            diffusion=diffusion,
            pyramid=tuple(pyramid),
            levels=tuple(levels),
            mask_features=mask_features,
            masks=heads[-1],
            aux_masks=tuple(heads[:-1]) if self.training else (),
            mask_embed_clip=mask_embed_clip,
            text_embed=batch.text_embed,
            logit_scale=self.sem_seg_head.predictor.post_mask_embed.scale(),
        )

    def encode_voxels(self, coords: Tensor, colors: Tensor, views: int) -> SparseOutput:
        """Both sparse nets on the same voxels.

        Args:
            coords: [M, 4] int32 (view, x, y, z).
            colors: [M, 3] in [-1, 1].
            views: number of views B.

        Raises:
            ValueError: a view has no voxels.
        """
        maps = build_unet_maps(coords)
        bottleneck, encoded = self.pc_decoder.encoder(colors, maps)
        bottleneck_coords = maps.coords[-1]
        adapted = self.pc_decoder.point2text_adapter(bottleneck)  # [M16, E]
        return SparseOutput(
            bottleneck=bottleneck,
            bottleneck_coords=bottleneck_coords,
            enc_out=encoded,
            pred_3d=self.pc_decoder.decoder(encoded),
            binary_logit=self.pc_binary_head(colors, maps),
            imp_condition=_max_per_view(adapted, bottleneck_coords[:, 0], views),
        )

    def extract_features(
        self,
        images: Tensor,
        imp_condition: Tensor,
        image_features: ImageFeatures | None = None,
    ) -> DiffusionOutput:
        """The eight diffusion features of images [B, 3, S, S] under the 3D condition [B, E]."""
        diffusion = self.diffusion
        cond_inputs, cond_emb = self.backbone.feature_extractor(
            imp_condition, diffusion.uncond_inputs
        )
        known = diffusion.encode_images(images) if image_features is None else image_features
        noisy_latent = diffusion.add_noise(known.latent)
        unet_features = diffusion.run_unet(noisy_latent, cond_inputs, cond_emb)
        return DiffusionOutput(
            cond_inputs=cond_inputs,
            cond_emb=cond_emb,
            latent=known.latent,
            noisy_latent=noisy_latent,
            features=(known.enc5, known.enc7, *unet_features, known.dec2, known.dec5),
        )

    def predict_masks(
        self, mask_features: Tensor, levels: list[Tensor], text_embed: Tensor, text_class: Tensor
    ) -> list[MaskOutput]:
        """The last prediction head; all of them, first to last, in training mode.

        Args:
            mask_features: [B, D, H, W].
            levels: three maps, coarse to fine.
            text_embed: [T, E], one row per name.
            text_class: [T] class of each name.
        """
        predictor = self.sem_seg_head.predictor
        queries = predictor.decode(levels, mask_features)
        wanted = queries if self.training or self.released_order else queries[-1:]
        outputs = []
        for query in wanted:
            pred_masks = predictor.predict_masks(query, mask_features)
            pooled = mask_pool(mask_features, pred_masks)
            if self.released_order:
                pooled = mask_pool(mask_features, pred_masks)
            embed, before = predictor.post_mask_embed(pooled, query)
            scale = predictor.post_mask_embed.scale()
            logits = self.category_head(embed, text_embed, text_class, scale)
            outputs.append(MaskOutput(pred_masks, query, before, embed, logits))
        return outputs

    def fuse(self, batch: ViewBatch, output: ModelOutput) -> list[PointFeatures]:
        """Features of the visible points of every view, differentiable, as trained on.

        Masks own points without base/novel gating; a view without any mask keeps its 3D features.
        """
        feats = output.sparse.pred_3d[batch.point_to_voxel]  # [n, E]
        views = []
        for view in range(len(batch.images)):
            here = batch.point_view == view
            point_query = own_points(
                output.masks.pred_masks[view],
                output.masks.pred_logits[view],
                self.config.view.mask_shape,
                batch.row[here],
                batch.col[here],
            )
            embed = output.masks.mask_embed[view]
            views.append(fuse_points(self.criterion.fuser, embed, point_query, feats[here]))
        return views

    def set_checkpointing(self, unet: bool = True, head: bool = True) -> None:
        """Compute activations twice rather than keep them until the backward pass.

        Args:
            unet: in the blocks of the diffusion UNet, where most of them are.
            head: in the feature projections and the pixel decoder.
        """
        self.diffusion.checkpointed = unet
        self.backbone.feature_projections.checkpointed = head
        self.sem_seg_head.pixel_decoder.transformer.encoder.checkpointed = head

    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters the optimizer owns: all but the diffusion model's and CLIP's."""
        return [p for p in self.parameters() if p.requires_grad]

    @torch.no_grad()
    def _run_text_encoders(self, views: int) -> None:
        """What the released code spends on captions it does not use at inference."""
        device = self.diffusion.noise.device
        ids = sd_empty_prompt_ids(self.config.diffusion.context_length).to(device)
        self.diffusion.text_encoder(ids.expand(views, -1))
        captions = tokenize([""] * views, self.config.clip.context_length).to(device)
        self.clip.encode_text(captions)


def _max_per_view(rows: Tensor, view: Tensor, views: int) -> Tensor:
    """Channel-wise maximum [B, E] over the rows [M, E] of each view [M].

    Raises:
        ValueError: a view has no rows.
    """
    counts = torch.bincount(view.long(), minlength=views)
    if len(counts) > views or not bool((counts > 0).all()):
        raise ValueError(
            f"forward: every view 0..{views - 1} needs voxels and no other may have any, got "
            f"bottleneck voxels per view {counts.tolist()}; leave out views without visible points"
        )
    index = view.long()[:, None].expand_as(rows)
    start = rows.new_full((views, rows.shape[1]), -torch.inf)
    return start.scatter_reduce(0, index, rows, "amax")
