"""The small layers that run between the engines: a few matrices, kept under their released names.

They lie together in `heads.safetensors`. Every product here is over voxels or mask queries and
costs far less than the engines around it, so plain torch on the device of the inputs serves.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.engines.tensor_files import read_tensors
from xmask3d_rt.errors import EngineError

_MASK_EMBED = "sem_seg_head.predictor.post_mask_embed"
HEAD_TENSORS = (
    "pc_decoder.point2text_adapter.weight",
    "pc_decoder.point2text_adapter.bias",
    "pc_decoder.decoder.weight",
    "pc_decoder.decoder.bias",
    "pc_binary_head.batch_norm.weight",
    "pc_binary_head.batch_norm.bias",
    "pc_binary_head.batch_norm.running_mean",
    "pc_binary_head.batch_norm.running_var",
    "pc_binary_head.fc.weight",
    "pc_binary_head.fc.bias",
    f"{_MASK_EMBED}.logit_scale",
    *(f"{_MASK_EMBED}.pool_proj.{i}.{kind}" for i in range(2) for kind in ("weight", "bias")),
    *(f"{_MASK_EMBED}.mask_embed.0.{kind}" for kind in ("weight", "bias")),
    *(
        f"{_MASK_EMBED}.mask_embed.1.layers.{i}.{kind}"
        for i in range(3)
        for kind in ("weight", "bias")
    ),
    "criterion.fuser.linear.weight",
    "criterion.fuser.linear.bias",
    "category_head.null_embed",
)
BATCH_NORM_EPS = 1e-5
MAX_LOGIT_SCALE = 100.0


class Heads:
    """Adapters of the sparse nets, the mask-embedding MLP, and the fuser's weights.

    Args:
        tensors: `HEAD_TENSORS` by name, as in the released checkpoint.
        device: where they are kept.

    Raises:
        EngineError: a tensor of `HEAD_TENSORS` is missing.
    """

    def __init__(self, tensors: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        missing = [name for name in HEAD_TENSORS if name not in tensors]
        if missing:
            raise EngineError(
                f"heads: {len(missing)} tensors missing, first {missing[0]!r}; give all of "
                "HEAD_TENSORS"
            )
        self._w = {name: tensors[name].float().to(device) for name in HEAD_TENSORS}
        self.logit_scale = float(
            self._w[f"{_MASK_EMBED}.logit_scale"].exp().clamp(max=MAX_LOGIT_SCALE)
        )

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "Heads":
        """Read `heads.safetensors`.

        Raises:
            EngineError: the file is missing, unreadable or incomplete.
        """
        return cls(read_tensors(path, HEAD_TENSORS), device)

    @property
    def fuser_weight(self) -> Tensor:
        """Fuser matrix [E, 2E]; the first E columns act on the mask embedding."""
        return self._w["criterion.fuser.linear.weight"]

    @property
    def fuser_bias(self) -> Tensor:
        """Fuser bias [E]."""
        return self._w["criterion.fuser.linear.bias"]

    @property
    def null_embed(self) -> Tensor:
        """Learned embedding of "no object" [1, E]."""
        return self._w["category_head.null_embed"]

    @property
    def voxel_projection(self) -> tuple[Tensor, Tensor]:
        """Weight [E, 256] and bias [E] from the point encoder's output to the text space."""
        return self._w["pc_decoder.decoder.weight"], self._w["pc_decoder.decoder.bias"]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"])

    def _layer_norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._w[f"{name}.weight"], self._w[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias)

    def condition(self, bottleneck: Tensor) -> Tensor:
        """3D condition of the diffusion UNet: channel-wise maximum over one view's voxels.

        Args:
            bottleneck: stride-16 features of the point encoder [M16, 256].

        Returns:
            `imp_condition` [1, E].
        """
        adapted = self._linear(bottleneck, "pc_decoder.point2text_adapter")  # [M16, E]
        return adapted.amax(0, keepdim=True)

    def voxel_features(self, encoded: Tensor) -> Tensor:
        """3D features in the text space [M, E] from the point encoder's output [M, 256]."""
        return self._linear(encoded, "pc_decoder.decoder")

    def base_logit(self, encoded: Tensor) -> Tensor:
        """Logit of P(base) per voxel [M] from the binary head's encoder output [M, 256]."""
        prefix = "pc_binary_head.batch_norm"
        normed = F.batch_norm(
            encoded,
            self._w[f"{prefix}.running_mean"],
            self._w[f"{prefix}.running_var"],
            self._w[f"{prefix}.weight"],
            self._w[f"{prefix}.bias"],
            eps=BATCH_NORM_EPS,
        )
        return self._linear(normed.relu_(), "pc_binary_head.fc").squeeze(1)

    def mask_embed(self, pooled: Tensor, queries: Tensor) -> Tensor:
        """Mask embeddings [Q, E] from pooled mask features and decoder queries, both [Q, D]."""
        prefix = _MASK_EMBED
        x = self._linear(self._layer_norm(pooled, f"{prefix}.pool_proj.0"), f"{prefix}.pool_proj.1")
        x = self._layer_norm(x + queries, f"{prefix}.mask_embed.0")
        x = self._linear(x, f"{prefix}.mask_embed.1.layers.0").relu_()
        x = self._linear(x, f"{prefix}.mask_embed.1.layers.1").relu_()
        return self._linear(x, f"{prefix}.mask_embed.1.layers.2")
