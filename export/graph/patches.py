"""Named edits that make a module easier to export or to run, without changing its result.

A patch is a context manager over the module being traced: the training code stays as it reads
best, and the edit is undone afterwards. `PATCHES` lists what each component needs; the value
check of `validation.py` runs against the unpatched module, so a patch that is wrong stops the
build.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.model.pixel_decoder import DeformableAttention, sample_levels_gather


@contextmanager
def gather_instead_of_grid_sample(module: nn.Module) -> Iterator[None]:
    """Deformable attention by row gathers: some TensorRT releases compile GridSample wrongly."""
    layers = [part for part in module.modules() if isinstance(part, DeformableAttention)]
    originals = [layer.sample for layer in layers]
    try:
        for layer in layers:
            layer.sample = sample_levels_gather
        yield
    finally:
        for layer, sample in zip(layers, originals, strict=True):
            layer.sample = sample


def bilinear_matrix(source: int, target: int) -> np.ndarray:
    """Weights [target, source] of torch's bilinear resize along one axis, not antialiased.

    Source position of target pixel i: float32(source / target) · (i + 0.5) − 0.5, at least 0,
    rounded once (torch's CPU kernel uses a fused multiply-add).
    """
    scale = np.float64(np.float32(source / target))
    position = (scale * (np.arange(target) + 0.5) - 0.5).astype(np.float32).clip(min=0)
    low = np.minimum(position.astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    share = position - low.astype(np.float32)
    weights = np.zeros((target, source), dtype=np.float32)
    rows = np.arange(target)
    np.add.at(weights, (rows, low), np.float32(1) - share)
    np.add.at(weights, (rows, high), share)
    return weights


@contextmanager
def resize_by_matrix(module: nn.Module) -> Iterator[None]:
    """Bilinear resizes as two products with constant matrices.

    Every backend computes the source positions of a Resize in its own way; at ratios such as
    512 : 224 that moves MaskCLIP's embeddings by 1e-5, twenty times their rounding error.
    """
    original = F.interpolate

    def interpolate(x: Tensor, size: Any = None, mode: str = "nearest", **options: Any) -> Tensor:
        if mode != "bilinear" or size is None:
            return original(x, size=size, mode=mode, **options)
        rows = torch.from_numpy(bilinear_matrix(int(x.shape[-2]), int(size[0])))
        columns = torch.from_numpy(bilinear_matrix(int(x.shape[-1]), int(size[1])))
        return rows.to(x.dtype) @ x @ columns.to(x.dtype).T

    F.interpolate = interpolate  # type: ignore[assignment]
    try:
        yield
    finally:
        F.interpolate = original


LARGE_GROUP = 2**15  # elements that a GroupNorm averages over


def group_norm_in_two_sums(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """GroupNorm of [B, C, H, W] with sums over rows first and means of those sums after.

    The first reduction is a sum and the second a mean on purpose: two of a kind are merged
    into one by OpenVINO, whose single pass is what this avoids.
    """
    batch, channels, height, width = x.shape
    rows = x.reshape(batch, layer.num_groups, -1, width)  # [B, G, C/G · H, W]
    mean = (rows.sum(3, keepdim=True) * (1 / width)).mean(2, keepdim=True)
    centred = rows - mean
    squares = (centred * centred).sum(3, keepdim=True) * (1 / width)
    scale = (squares.mean(2, keepdim=True) + layer.eps).rsqrt()
    normed = (centred * scale).reshape(batch, channels, height, width)
    return normed * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)


@contextmanager
def accurate_group_norm(module: nn.Module) -> Iterator[None]:
    """GroupNorms over large groups as explicit two-step sums.

    ONNX Runtime and OpenVINO add a group up in one pass, a million numbers in the first levels
    of the VAE: its features were off by 2.6e-5 and 9e-6 (relative L2), and are by 1.4e-6 and
    3e-6 so, at no cost in time.
    """
    layers = [part for part in module.modules() if isinstance(part, nn.GroupNorm)]

    def replace(layer: nn.GroupNorm) -> None:
        original = layer.forward

        def forward(x: Tensor) -> Tensor:
            if x.dim() != 4 or x[0].numel() // layer.num_groups < LARGE_GROUP:
                return original(x)
            return group_norm_in_two_sums(x, layer)

        layer.forward = forward  # type: ignore[assignment,method-assign]

    try:
        for layer in layers:
            replace(layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


PATCHES = {
    "vae_encoder": (accurate_group_norm,),
    "vae_decoder": (accurate_group_norm,),
    "unet": (accurate_group_norm,),
    "mask_head": (accurate_group_norm, gather_instead_of_grid_sample),
    "mask_clip": (resize_by_matrix,),
}


@contextmanager
def patched(component: str, module: nn.Module) -> Iterator[None]:
    """Apply every patch of a component for the duration of an export."""
    with ExitStack() as stack:
        for patch in PATCHES.get(component, ()):
            stack.enter_context(patch(module))
        yield
