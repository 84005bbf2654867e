"""The components that run outside engines, as safetensors: small heads and both sparse nets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xmask3d_rt.config import ModelConfig, Precision
from xmask3d_rt.engines.files import describe_file
from xmask3d_rt.engines.heads import HEAD_TENSORS
from xmask3d_rt.engines.manifest import Component, Parity
from xmask3d_rt.errors import CheckpointError, ExportMismatch
from xmask3d_rt.export.weights import Weights

Report = Callable[[str], None]
_MASK_EMBED = "sem_seg_head.predictor.post_mask_embed"


@dataclass(frozen=True)
class PlainContract:
    """What decides a file of plain weights: weight files and code."""

    name: str
    namespaces: tuple[str, ...]
    sources: tuple[str, ...]


PLAIN_CONTRACTS = {
    "heads": PlainContract("heads", ("xmask3d",), ("xmask3d_rt.engines.heads",)),
}


def head_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of `heads.safetensors`."""
    embed, width = config.clip.embed_dim, config.mask_head.hidden_dim
    binary = config.binary_head.out_channels
    shapes: dict[str, tuple[int, ...]] = {
        f"{_MASK_EMBED}.logit_scale": (),
        "category_head.null_embed": (1, embed),
    }
    linears = {
        "pc_decoder.point2text_adapter": (embed, config.point_encoder.planes[3]),
        "pc_decoder.decoder": (embed, config.point_encoder.out_channels),
        "pc_binary_head.fc": (1, binary),
        f"{_MASK_EMBED}.pool_proj.1": (width, width),
        f"{_MASK_EMBED}.mask_embed.1.layers.0": (width, width),
        f"{_MASK_EMBED}.mask_embed.1.layers.1": (width, width),
        f"{_MASK_EMBED}.mask_embed.1.layers.2": (embed, width),
        "criterion.fuser.linear": (embed, 2 * embed),
    }
    norms = {
        "pc_binary_head.batch_norm": binary,
        f"{_MASK_EMBED}.pool_proj.0": width,
        f"{_MASK_EMBED}.mask_embed.0": width,
    }
    for name, (rows, columns) in linears.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name, channels in norms.items():
        shapes |= {f"{name}.{kind}": (channels,) for kind in ("weight", "bias")}
    for kind in ("running_mean", "running_var"):
        shapes[f"pc_binary_head.batch_norm.{kind}"] = (binary,)
    return shapes


def build_plain(
    name: str, config: ModelConfig, weights: Weights, path: Path, fingerprint: str, report: Report
) -> Component:
    """Write one component of plain weights to `path` and check it.

    Raises:
        CheckpointError: a weight is missing or has another shape.
        ExportMismatch: what was written does not read back the same.
    """
    report("weights")
    parity = _write_heads(config, weights, path)
    report("hash")
    return Component(
        name=name,
        backend="torch",
        precision=Precision.FP32,
        files=(describe_file(path),),
        signature=None,
        fingerprint=fingerprint,
        parity=parity,
        reason="runs outside the engines",
    )


def _write_heads(config: ModelConfig, weights: Weights, path: Path) -> Parity:
    shapes = head_shapes(config)
    tensors = {name: read_tensor(weights, name, shapes[name]) for name in HEAD_TENSORS}
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors writes for the owner alone
    written = load_file(path)
    different = [name for name, tensor in tensors.items() if not torch.equal(written[name], tensor)]
    if different:
        raise ExportMismatch(f"heads: {different[0]} does not read back as written")
    return Parity("weights, exactly", tolerances={"tensors": 0.0}, errors={"tensors": 0.0})


def read_tensor(weights: Weights, name: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor, contiguous, of a known shape.

    Raises:
        CheckpointError: it is missing or has another shape.
    """
    tensor = weights.read(name, shape)
    if tuple(tensor.shape) != shape:
        raise CheckpointError(
            f"{name} has shape {list(tensor.shape)}, expected {list(shape)}; the weights belong "
            f"to another configuration"
        )
    return tensor.float().contiguous()
