"""The sparse UNets at run time: folded weights, one fused kernel per convolution.

BatchNorm is folded into the convolution before it (`fold_sparse_unet`, at export): every
convolution becomes `{name}.weight` [K³, Cin, Cout] and `{name}.bias` [Cout]; bias, residual and
ReLU run in the convolution's epilogue, and skip connections are never concatenated in memory.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.base import PRECISION_DTYPES
from xmask3d_rt.engines.tensor_files import read_tensors
from xmask3d_rt.errors import EngineError
from xmask3d_rt.kernels import Epilogue, KernelMap, UNetMaps, sparse_conv

LEVELS = 4
BATCH_NORM_EPS = 1e-5
NEEDED = (  # whatever the number of blocks
    *("conv0p1s1.weight", "final.weight"),
    *(f"conv{i + 1}p{1 << i}s2.weight" for i in range(LEVELS)),
    *(f"convtr{LEVELS + i}p{16 >> i}s2.weight" for i in range(LEVELS)),
)
# Convolution → the BatchNorm behind it; blocks by pattern, the stem and strided ones by number.
_NORM_OF = (
    (re.compile(r"^conv(\d)p\d+s\d$"), r"bn\1"),
    (re.compile(r"^convtr(\d)p\d+s2$"), r"bntr\1"),
    (re.compile(r"^(block\d\.\d+)\.conv(\d)$"), r"\1.norm\2"),
    (re.compile(r"^(block\d\.\d+)\.downsample\.0$"), r"\1.downsample.1"),
)


def fold_sparse_unet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold every BatchNorm of a MinkUNet into the convolution before it, in float64.

    W' = W·γ/√(σ² + ε), b' = β − μ·γ/√(σ² + ε).

    Args:
        state: state dict of a MinkUNet (`conv0p1s1.kernel`, `bn0.bn.weight`, …).

    Returns:
        `{name}.weight` [K³, Cin, Cout] and `{name}.bias` [Cout] per convolution, float32; the
        last convolution, `final`, has no BatchNorm and so no bias.

    Raises:
        KeyError: a BatchNorm's tensor is missing.
    """
    folded = {}
    for key, kernel in state.items():
        if not key.endswith(".kernel"):
            continue
        name = key.removesuffix(".kernel")
        kernel = kernel.double()
        kernel = kernel[None] if kernel.dim() == 2 else kernel
        norm = _norm_of(name)
        if norm is not None:
            bn = {part: state[f"{norm}.bn.{part}"].double() for part in _NORM_PARTS}
            scale = bn["weight"] / (bn["running_var"] + BATCH_NORM_EPS).sqrt()
            kernel = kernel * scale
            folded[f"{name}.bias"] = (bn["bias"] - bn["running_mean"] * scale).float()
        folded[f"{name}.weight"] = kernel.float().contiguous()
    return folded


def _place(name: str, tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A weight or bias as its convolution wants it."""
    if name.endswith(".bias"):  # joins the float32 sums before they are rounded
        return tensor.to(device, torch.float32)
    tensor = tensor.to(device, dtype)
    if device.type == "cpu":  # the product there reads a column of [K * Cin, Cout] at a time
        tensor = tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    return tensor


_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _norm_of(name: str) -> str | None:
    for pattern, norm in _NORM_OF:
        if pattern.match(name):
            return pattern.sub(norm, name)
    return None


class FoldedSparseUNet:
    """A MinkUNet with folded weights, for inference.

    Args:
        tensors: from `fold_sparse_unet`.
        device: where it runs.
        dtype: of weights and activations; products are accumulated in float32.

    Raises:
        EngineError: a convolution is missing.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        missing = [name for name in NEEDED if name not in tensors]
        if missing:
            raise EngineError(
                f"sparse net: tensor {missing[0]!r} is missing; give those of fold_sparse_unet"
            )
        self._w = {
            name: _place(name, t, torch.device(device), dtype) for name, t in tensors.items()
        }
        self.dtype = dtype
        self._depths = [self._count_blocks(i + 1) for i in range(2 * LEVELS)]

    @classmethod
    def load(
        cls,
        path: Path,
        device: torch.device | str = "cpu",
        precision: Precision = Precision.FP32,
    ) -> "FoldedSparseUNet":
        """Read a net from its safetensors file.

        Raises:
            EngineError: the file is missing, unreadable or incomplete.
        """
        return cls(read_tensors(path, NEEDED), device, PRECISION_DTYPES[precision])

    def __call__(self, feats: Tensor, maps: UNetMaps) -> tuple[Tensor, Tensor]:
        """Features of the coarsest level and of the voxels themselves.

        Args:
            feats: [M, 3] voxel colours in [-1, 1].
            maps: kernel maps of the voxels, from `build_unet_maps`.

        Returns:
            bottleneck [M_16, C] at tensor stride 16 and output [M, C_out], both float32.
        """
        x = self._conv("conv0p1s1", feats.to(self.dtype), maps.stem)
        skips = [x]
        for level in range(LEVELS):
            x = self._conv(f"conv{level + 1}p{1 << level}s2", x, maps.down[level])
            x = self._blocks(level + 1, x, maps.conv[level + 1])
            skips.append(x)
        bottleneck = skips.pop()
        for i in range(LEVELS, 2 * LEVELS):
            level = 2 * LEVELS - 1 - i
            up = self._conv(f"convtr{i}p{2 << level}s2", x, maps.up[level])
            x = self._blocks(i + 1, (up, skips.pop()), maps.conv[level])
        out = sparse_conv(x, self._w["final.weight"], None)
        return bottleneck.float(), out.float()

    def _count_blocks(self, layer: int) -> int:
        depth = 0
        while f"block{layer}.{depth}.conv1.weight" in self._w:
            depth += 1
        return depth

    def _blocks(
        self, layer: int, x: Tensor | tuple[Tensor, Tensor], kernel_map: KernelMap
    ) -> Tensor:
        for i in range(self._depths[layer - 1]):
            name = f"block{layer}.{i}"
            if f"{name}.downsample.0.weight" in self._w:
                residual = self._conv(f"{name}.downsample.0", x, None, relu=False)
            else:
                residual = torch.cat(x, dim=1) if isinstance(x, tuple) else x
            x = self._conv(f"{name}.conv1", x, kernel_map)
            x = self._conv(f"{name}.conv2", x, kernel_map, residual=residual)
        return torch.cat(x, dim=1) if isinstance(x, tuple) else x

    def _conv(
        self,
        name: str,
        x: Tensor | tuple[Tensor, Tensor],
        kernel_map: KernelMap | None,
        residual: Tensor | None = None,
        relu: bool = True,
    ) -> Tensor:
        epilogue = Epilogue(bias=self._w[f"{name}.bias"], residual=residual, relu=relu)
        return sparse_conv(x, self._w[f"{name}.weight"], kernel_map, epilogue)
