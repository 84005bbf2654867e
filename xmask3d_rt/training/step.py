"""One training step's forward pass: from a batch to its losses, as one module.

`DistributedDataParallel` wraps it, so that the gradients of everything trained are averaged.
"""

from typing import Any

import torch
from torch import Tensor, nn

from xmask3d_rt.config import Precision
from xmask3d_rt.model.diffusion import ImageFeatures
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.text.tokenizer import tokenize
from xmask3d_rt.training.batch import TrainingBatch
from xmask3d_rt.training.config import TrainingConfig
from xmask3d_rt.training.criterion import Criterion, Losses
from xmask3d_rt.training.points import PointSampler


class TrainingStep(nn.Module):
    """The model, the base classes' embeddings and the criterion.

    Args:
        model: with its weights, on its device.
        config: of the run.
    """

    text_embed: Tensor
    text_class: Tensor

    def __init__(self, model: XMask3D, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.criterion = Criterion(config.loss)
        self._half = config.optim.precision == Precision.BF16
        embed = embed_texts(model, model.config.split.base_names)
        self.register_buffer("text_embed", embed, persistent=False)  # [C, E]
        classes = torch.arange(len(embed), device=embed.device)
        self.register_buffer("text_class", classes, persistent=False)
        kept = config.optim.checkpointing
        model.set_checkpointing(unet=kept != "none", head=kept == "all")
        if self._half:  # frozen: nothing small is ever added to these weights
            frozen: tuple[Any, ...] = (model.diffusion.unet, model.diffusion.vae)
            for network in frozen:
                network.to(torch.bfloat16)
        model.train()

    def autocast(self) -> torch.autocast:
        """The arithmetic of the networks; losses are float32."""
        device = self.text_embed.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self._half)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> ImageFeatures:
        """What the VAE makes of images [B, 3, S, S], one at a time: they are large."""
        with self.autocast():
            parts = [self.model.diffusion.encode_images(image) for image in images.split(1)]
        return ImageFeatures(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def forward(
        self,
        batch: TrainingBatch,
        caption_embed: Tensor,
        image_features: ImageFeatures,
        sampler: PointSampler,
        contrast: bool,
    ) -> Losses:
        """The losses of a batch.

        Args:
            batch: on the model's device.
            caption_embed: [B, E].
            image_features: of `encode_images`.
            sampler: where masks are compared.
            contrast: whether the contrastive loss takes part.
        """
        views = batch.view_batch(self.text_embed, self.text_class)
        with self.autocast():
            output = self.model(views, image_features, contrast)
        return self.criterion(self.model, batch, views, output, caption_embed, sampler)


@torch.no_grad()
def embed_texts(model: XMask3D, texts: tuple[str, ...] | list[str]) -> Tensor:
    """CLIP embeddings [T, E] of bare texts, not normalised."""
    device = model.category_head.null_embed.device
    ids = tokenize(texts, model.config.clip.context_length).to(device)
    return model.clip.encode_text(ids)
