"""The components that run outside engines, as safetensors: small heads and both sparse nets."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xmask3d_rt.components import SPARSE_NETS
from xmask3d_rt.config import ModelConfig, Precision, SparseUNetConfig
from xmask3d_rt.engines.build_command import TENSOR_BACKEND
from xmask3d_rt.engines.component import Component, Parity
from xmask3d_rt.engines.files import describe_file
from xmask3d_rt.errors import CheckpointError, ExportMismatch
from xmask3d_rt.export.build.choices import AUTO, Choice
from xmask3d_rt.export.build.component import ComponentBuild
from xmask3d_rt.export.build.modules import load_weights, skip_initialization
from xmask3d_rt.export.build.weights import Weights
from xmask3d_rt.export.graph.validation import SEED, relative_error
from xmask3d_rt.files import atomic_write
from xmask3d_rt.kernels import build_unet_maps
from xmask3d_rt.model.sparse_unet import MinkUNet
from xmask3d_rt.nets.heads import HEAD_TENSORS
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

_MASK_EMBED = "sem_seg_head.predictor.post_mask_embed"


# Modules whose code decides a file, for the incremental build.
_CODE = "xmask3d_rt.export.build.tensors"
_SPARSE_CODE = (_CODE, "xmask3d_rt.nets.sparse_unet", "xmask3d_rt.model.sparse_unet")
TENSOR_CODE = {
    "point_encoder": _SPARSE_CODE,
    "binary_head": _SPARSE_CODE,
    "heads": (_CODE, "xmask3d_rt.nets.heads"),
}
# Name of each sparse net in the whole model.
_SPARSE_PREFIX = {"point_encoder": "pc_decoder.encoder.", "binary_head": "pc_binary_head.encoder."}
_SPARSE_TOLERANCE = {Precision.FP32: 5e-6, Precision.FP16: 5e-3}
_CHECK_VOXELS = 900


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


def choose_arithmetic(name: str, precision: str, device: torch.device) -> Choice:
    """How a component outside the engines is kept: fp16 for sparse nets on a GPU, else fp32.

    A GPU multiplies fp16 many times faster, and its sums stay float32. The processor's products
    are float32, and bf16 would cost labels of the 3D head.
    """
    half = device.type == "cuda" and precision in (AUTO, Precision.FP16) and name in SPARSE_NETS
    arithmetic = Precision.FP16 if half else Precision.FP32
    return Choice(TENSOR_BACKEND, arithmetic, "runs outside the engines")


def build_tensors(build: ComponentBuild, path: Path) -> Component:
    """Write one component as tensors to `path` and check it.

    Raises:
        CheckpointError: a weight is missing or has another shape.
        ExportMismatch: what was written does not read back the same.
    """
    (choice,) = build.choices
    build.report("weights")
    if build.name in SPARSE_NETS:
        parity = _write_sparse_net(build, choice.precision, path)
    else:
        parity = _write_heads(build, path)
    build.report("hash")
    return build.describe(choice, (describe_file(path),), parity)


def _write_heads(build: ComponentBuild, path: Path) -> Parity:
    shapes = head_shapes(build.config)
    tensors = {name: read_tensor(build.weights, name, shapes[name]) for name in HEAD_TENSORS}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary)
    written = load_file(path)
    different = [name for name, tensor in tensors.items() if not torch.equal(written[name], tensor)]
    if different:
        raise ExportMismatch(f"heads: {different[0]} does not read back as written")
    return Parity("weights, exactly", tolerances={"tensors": 0.0}, errors={"tensors": 0.0})


def _write_sparse_net(build: ComponentBuild, precision: Precision, path: Path) -> Parity:
    """Fold BatchNorm into the convolutions and compare with the module on a random cloud."""
    shape: SparseUNetConfig = getattr(build.config, build.name)
    with skip_initialization():
        module = MinkUNet(shape)
    prefix = _SPARSE_PREFIX[build.name]
    load_weights(module, build.weights, lambda key: prefix + key)
    build.report("fold")
    with _single_thread():
        folded = fold_sparse_unet(module.state_dict())
    with atomic_write(path) as temporary:
        save_file(folded, temporary)
    build.report("check")
    coords = make_voxels(_CHECK_VOXELS)
    generator = torch.Generator().manual_seed(SEED)
    feats = 2 * torch.rand(len(coords), shape.in_channels, generator=generator) - 1
    with torch.no_grad(), _single_thread():
        maps = build_unet_maps(coords)
        expected = module.eval()(feats, maps)
        found = FoldedSparseUNet.load(path, precision=precision)(feats, maps)
    names = ("bottleneck", "output")
    errors = {n: relative_error(f, e) for n, f, e in zip(names, found, expected, strict=True)}
    allowed = _SPARSE_TOLERANCE[precision]
    for output, error in errors.items():
        if not error <= allowed:  # so that NaN, of a weight that is none, is refused as well
            raise ExportMismatch(
                f"{build.name}: {output} of the folded net differs from the torch module by "
                f"{error:.2e} (relative L2), allowed is {allowed:.0e}"
            )
    return Parity("torch module, fp32", dict.fromkeys(names, allowed), errors)


@contextmanager
def _single_thread() -> Iterator[None]:
    """One torch thread: hundreds of products this small take 0.1 s so, and half a minute when
    four threads wait for each other on a machine with other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def make_voxels(count: int) -> Tensor:
    """About `count` distinct voxels [M, 4] (batch 0, x, y, z) on a wavy surface."""
    side = math.isqrt(count)
    x, y = (axis.flatten() for axis in torch.meshgrid(*2 * [torch.arange(side)], indexing="ij"))
    z = (6 * (torch.sin(x / 5) + torch.cos(y / 7)) + 12).long()
    return torch.stack([torch.zeros_like(x), x, y, z], dim=1).int()


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
