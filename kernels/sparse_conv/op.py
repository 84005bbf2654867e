"""sparse_conv: convolution over the entries of a kernel map, with a fused epilogue."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.kernels.dispatch import Operator, runs_triton
from xmask3d_rt.kernels.kernel_map import KernelMap
from xmask3d_rt.kernels.sparse_conv.reference import (
    MapTensors,
    make_output,
    sparse_conv_reference,
    sparse_conv_wgrad_reference,
)

THIN_CHANNELS = 8  # up to here a tile of gathered rows beats one product per offset on a GPU


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What happens to a convolution's output before it is written: + bias, + residual, ReLU."""

    bias: Tensor | None = None  # [C_out]
    residual: Tensor | None = None  # [M_out, C_out]
    relu: bool = False


def sparse_conv(
    feats: Tensor | tuple[Tensor, Tensor],
    weight: Tensor,
    kernel_map: KernelMap | None,
    epilogue: Epilogue | None = None,
) -> Tensor:
    """Sparse convolution out[o] = Σ_k in[neighbors[o, k]] @ W[k], with its epilogue.

    Differentiable in feats, weight, bias and residual. float16 and bfloat16 are accumulated in
    float32 and rounded once.

    Args:
        feats: [M_in, C_in], or a pair ([M_in, C1], [M_in, C2]) that stands for its concatenation
            along the channels, which is never written.
        weight: [K, C_in, C_out]; [C_in, C_out] is accepted for kernel_map None.
        kernel_map: entries, from `build_kernel_map`; None is a 1x1 convolution.
        epilogue: what to add, and whether to clamp at zero; None is the bare convolution.

    Returns:
        [M_out, C_out] of the dtype of feats; M = 0 is legal.

    Raises:
        ValueError: shapes that disagree.
        TypeError: feats and weight of different dtypes.
    """
    first, skip = feats if isinstance(feats, tuple) else (feats, None)
    weight = weight[None] if weight.dim() == 2 else weight
    epilogue = Epilogue() if epilogue is None else epilogue
    _check_arguments(first, skip, weight, kernel_map, epilogue)
    inputs = (first, skip, weight, epilogue.bias, epilogue.residual)
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    thin = skip is None and weight.shape[1] <= THIN_CHANNELS
    maps, swapped_maps = map_tensors(kernel_map, thin, training)
    return _sparse_conv(
        first, skip, weight, maps, swapped_maps, epilogue.bias, epilogue.residual, epilogue.relu
    )


def map_tensors(
    kernel_map: KernelMap | None, thin: bool, training: bool
) -> tuple[MapTensors | None, MapTensors | None]:
    """A kernel map as the operator takes it: what this device and use need, and nothing else.

    Args:
        kernel_map: None for a 1x1 convolution.
        thin: few input channels from one source: a GPU needs the neighbours alone.
        training: whether gradients will be asked for.

    Returns:
        The map and its swapped map (None unless training), each None for kernel_map None.
    """
    if kernel_map is None:
        return None, None
    on_triton = runs_triton(kernel_map.neighbors)

    def take(side: KernelMap, planned: bool) -> MapTensors:
        found = MapTensors(side.neighbors)
        if training if on_triton else side.transposed:
            # The entries of the swapped map are these, exchanged: listing them waits for a GPU.
            rows, columns, offsets = kernel_map.pairs
            in_maps, out_maps = (rows, columns) if side is kernel_map else (columns, rows)
            found = found._replace(in_maps=in_maps, out_maps=out_maps, offsets=offsets)
        return found._replace(**side.plan._asdict()) if planned else found

    maps = take(kernel_map, on_triton and not thin)
    return maps, take(kernel_map.swapped, on_triton) if training else None


def _check_arguments(
    feats: Tensor,
    skip: Tensor | None,
    weight: Tensor,
    kernel_map: KernelMap | None,
    epilogue: Epilogue,
) -> None:
    for name, source in (("feats", feats), ("second feats", skip)):
        if source is not None and source.dim() != 2:
            raise ValueError(
                f"sparse_conv: {name} must have shape [M_in, C_in], got {list(source.shape)}"
            )
    channels = feats.shape[1] + (0 if skip is None else skip.shape[1])
    offsets = 1 if kernel_map is None else kernel_map.neighbors.shape[1]
    if weight.dim() != 3 or weight.shape[0] != offsets or weight.shape[1] != channels:
        raise ValueError(
            f"sparse_conv: weight must have shape [{offsets}, {channels}, C_out] for this kernel "
            f"map and these features, got {list(weight.shape)}"
        )
    rows = feats.shape[0] if kernel_map is None else kernel_map.in_coords.shape[0]
    for name, source in (("feats", feats), ("second feats", skip)):
        if source is not None and source.shape[0] != rows:
            raise ValueError(
                f"sparse_conv: {name} must have {rows} rows, one per input voxel, "
                f"got {source.shape[0]}"
            )
        if source is not None and source.dtype != weight.dtype:
            raise TypeError(
                f"sparse_conv: {name} and weight must share a dtype, got {source.dtype} and "
                f"{weight.dtype}; cast one of them"
            )
    out_rows = feats.shape[0] if kernel_map is None else kernel_map.neighbors.shape[0]
    expected = {"bias": [weight.shape[2]], "residual": [out_rows, weight.shape[2]]}
    for name, shape in expected.items():
        value = getattr(epilogue, name)
        if value is not None and list(value.shape) != shape:
            raise ValueError(
                f"sparse_conv: {name} must have shape {shape}, got {list(value.shape)}"
            )


def _make_wgrad(feats: Tensor, grad: Tensor, offset_count: int, **_: Any) -> Tensor:
    return feats.new_empty((offset_count, feats.shape[1], grad.shape[1]))


def _save(
    ctx: Any,
    output: Tensor,
    feats: Tensor,
    skip: Tensor | None,
    weight: Tensor,
    maps: MapTensors | None,
    swapped_maps: MapTensors | None,
    bias: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> None:
    ctx.save_for_backward(
        feats, skip, weight, output if relu else None, *(maps or ()), *(swapped_maps or ())
    )
    ctx.has_maps, ctx.has_bias, ctx.has_residual = (
        value is not None for value in (maps, bias, residual)
    )


def _backward(ctx: Any, grad: Tensor) -> dict[str, Tensor | None]:
    feats, skip, weight, output, *tensors = ctx.saved_tensors
    width = len(MapTensors._fields)
    maps = MapTensors(*tensors[:width]) if ctx.has_maps else None
    swapped_maps = MapTensors(*tensors[width:]) if ctx.has_maps else None
    if output is not None:
        grad = grad * (output > 0)
    grad = grad.contiguous()
    split = feats.shape[1]
    needs_feats, needs_skip, needs_weight = ctx.needs_input_grad[:3]
    transposed = weight.transpose(1, 2)  # [K, C_out, C_in]

    def grad_of_source(part: Tensor) -> Tensor:
        return _sparse_conv(grad, None, part.contiguous(), swapped_maps, None, None, None, False)

    found: dict[str, Tensor | None] = {}
    if needs_feats:
        found["feats"] = grad_of_source(transposed[:, :, :split])
    if needs_skip:
        found["skip"] = grad_of_source(transposed[:, :, split:])
    if needs_weight:
        sources = [feats] if skip is None else [feats, skip]
        parts = [_sparse_conv_wgrad(s, grad, maps, weight.shape[0]) for s in sources]
        found["weight"] = parts[0] if skip is None else torch.cat(parts, dim=1)
    if ctx.has_bias:
        found["bias"] = grad.sum(dim=0)
    if ctx.has_residual:
        found["residual"] = grad
    return found


_sparse_conv = Operator("sparse_conv", sparse_conv_reference, make_output)
_sparse_conv_wgrad = Operator("sparse_conv_wgrad", sparse_conv_wgrad_reference, _make_wgrad)
_sparse_conv.define_backward(_backward, _save)
