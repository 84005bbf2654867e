"""CLIP: class names to text embeddings, and MaskCLIP: masks to image embeddings.

MaskCLIP puts one mask token per query beside CLIP's class and patch tokens. Mask tokens start
as copies of the class token; each attends to the class token and to the patches its mask
touches, and nothing attends to them, so they need no keys or values.

Parameters carry open_clip's names (`visual.…`, `transformer.…`).

Source: CLIP, Radford et al. 2021; MaskCLIP, Ding et al., arXiv 2208.08984.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.config import ClipConfig
from xmask3d_rt.model.text_encoder import TextTransformer, Transformer

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_LOGIT_SCALE = 100.0
# Added to the logit of a blocked pair. Its softmax is exactly 0, as with -inf, but half
# precision and fused attention kernels never meet an infinity.
BLOCKED = -1e4


class VisionTransformer(nn.Module):
    """CLIP's vision tower with mask tokens."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.image_size = config.image_size
        self.patch_size = config.patch_size
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.patches**2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, config.vision_layers, config.vision_heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(3, 1, 1), persistent=False)
        for parameter in (self.class_embedding, self.positional_embedding, self.proj):
            nn.init.normal_(parameter, std=width**-0.5)

    def forward(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        """Embed the image region under each mask.

        Args:
            image: [B, 3, H, W] in [0, 1]; resized to the tower's input without antialiasing.
            mask_logits: [B, Q, h, w].

        Returns:
            [B, Q, embed_dim], not normalised.
        """
        queries = mask_logits.shape[1]
        tokens = self._embed_image(image)  # [B, 1 + P, C], class token first
        x = torch.cat((tokens[:, :1].expand(-1, queries, -1), tokens), dim=1)  # [B, Q + 1 + P, C]
        mask = self._attention_mask(mask_logits)
        *blocks, last = self.transformer.resblocks
        for block in blocks:
            x = block(x, mask, first_key=queries)
        # the image tokens of the last block are read by nobody
        x = last(x, mask[:, :, :queries], first_key=queries, rows=queries)
        return self.ln_post(x) @ self.proj

    def _embed_image(self, image: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        patches = self.conv1((image - self.mean) / self.std).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(image.shape[0], 1, -1)
        return self.ln_pre(torch.cat((first, patches), dim=1) + self.positional_embedding)

    def _attention_mask(self, mask_logits: Tensor) -> Tensor:
        """Attention logits to add: 0 or BLOCKED, [B, 1, Q + 1 + P, 1 + P].

        Only mask tokens (rows) and patches (columns) are ever blocked from one another.
        """
        allowed = self.allowed_patches(mask_logits)  # [B, Q, P]
        blocked = BLOCKED * (~allowed).to(mask_logits.dtype)
        return F.pad(blocked, (1, 0, 0, 1 + allowed.shape[2])).unsqueeze(1)

    def allowed_patches(self, mask_logits: Tensor) -> Tensor:
        """Patches a mask touches: its probability reaches 0.5 in at least one pixel.

        Args:
            mask_logits: [B, Q, h, w].

        Returns:
            [B, Q, P] bool, patches in row-major order.
        """
        size = (self.image_size, self.image_size)
        logits = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
        highest = F.max_pool2d(logits, self.patch_size, self.patch_size)
        return torch.sigmoid(highest).flatten(2) >= 0.5


class Clip(TextTransformer):
    """Both towers. The text tower is the base class, so that its keys stay flat."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(
            width=config.text_width,
            layers=config.text_layers,
            heads=config.text_heads,
            context_length=config.context_length,
            vocab_size=config.vocab_size,
        )
        self.visual = VisionTransformer(config)
        self.text_projection = nn.Parameter(torch.empty(config.text_width, config.embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.text_projection, std=config.text_width**-0.5)

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Text embeddings: the projected hidden state of each row's end token.

        Args:
            token_ids: [T, L] int64 of `xmask3d_rt.text.tokenizer.tokenize`; the end token has the
                largest id.

        Returns:
            [T, embed_dim], not normalised.
        """
        hidden = self(token_ids)  # [T, L, C]
        end = token_ids.to(torch.int32).argmax(dim=-1)  # ONNX Runtime's ArgMax lacks int64
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, end] @ self.text_projection

    def encode_masks(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        """MaskCLIP embeddings [B, Q, embed_dim]; see `VisionTransformer.forward`."""
        return self.visual(image, mask_logits)

    def temperature(self) -> Tensor:
        """exp(logit_scale), at most 100: the factor on cosine similarities."""
        return self.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
