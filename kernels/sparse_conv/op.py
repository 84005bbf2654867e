"""sparse_conv: convolution over the entries of a kernel map, with a fused epilogue."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.kernels.dispatch import define_backward, define_op, runs_triton
from xmask3d_rt.kernels.kernel_map import KernelMap
from xmask3d_rt.kernels.sparse_conv.reference import (
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
) -> tuple[list[Tensor], list[Tensor]]:
    """A kernel map as the operator takes it: what this device and use need, and nothing else.

    Args:
        kernel_map: None for a 1x1 convolution.
        thin: few input channels from one source: a GPU needs the neighbours alone.
        training: whether gradients will be asked for.

    Returns:
        Two lists, the map and its swapped map (empty unless training), each empty for
        kernel_map None, else [neighbors, in_maps, out_maps, offsets, row_order, row_masks,
        columns], where an empty tensor stands for what is not needed.
    """
    if kernel_map is None:
        return [], []
    none = kernel_map.neighbors.new_empty(0)
    on_triton = runs_triton(none)

    def needs_pairs(side: KernelMap) -> bool:
        return training if on_triton else side.transposed

    pairs = kernel_map.pairs if needs_pairs(kernel_map) else (none, none, none)
    plan = kernel_map.plan if on_triton and not thin else (none, none, none)
    maps = [kernel_map.neighbors, *pairs, *plan]
    if not training:
        return maps, []
    swapped = kernel_map.swapped
    in_maps, out_maps, offsets = kernel_map.pairs if needs_pairs(swapped) else (none, none, none)
    plan = swapped.plan if on_triton else (none, none, none)
    return maps, [swapped.neighbors, out_maps, in_maps, offsets, *plan]


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


def _sparse_conv_triton(
    feats: Tensor,
    skip: Tensor | None,
    weight: Tensor,
    maps: list[Tensor],
    swapped_maps: list[Tensor],
    bias: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    from xmask3d_rt.kernels.sparse_conv.launch import launch_sparse_conv

    return launch_sparse_conv(feats, skip, weight, maps, swapped_maps, bias, residual, relu)


def _sparse_conv_fake(
    feats: Tensor,
    skip: Tensor | None,
    weight: Tensor,
    maps: list[Tensor],
    swapped_maps: list[Tensor],
    bias: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    rows = maps[0].shape[0] if maps else feats.shape[0]
    return feats.new_empty((rows, weight.shape[2]))


def _wgrad_triton(feats: Tensor, grad: Tensor, maps: list[Tensor], offset_count: int) -> Tensor:
    from xmask3d_rt.kernels.sparse_conv.launch import launch_wgrad

    return launch_wgrad(feats, grad, maps, offset_count)


def _wgrad_fake(feats: Tensor, grad: Tensor, maps: list[Tensor], offset_count: int) -> Tensor:
    return feats.new_empty((offset_count, feats.shape[1], grad.shape[1]))


def _save_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    feats, skip, weight, maps, swapped_maps, bias, residual, relu = inputs
    ctx.save_for_backward(feats, skip, weight, output if relu else None, *maps, *swapped_maps)
    ctx.map_count = len(maps)
    ctx.has_bias, ctx.has_residual = bias is not None, residual is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    feats, skip, weight, output, *tensors = ctx.saved_tensors
    maps, swapped_maps = tensors[: ctx.map_count], tensors[ctx.map_count :]
    if output is not None:
        grad = grad * (output > 0)
    grad = grad.contiguous()
    split = feats.shape[1]
    needs_feats, needs_skip, needs_weight = ctx.needs_input_grad[:3]
    transposed = weight.transpose(1, 2)  # [K, C_out, C_in]

    def grad_of_source(part: Tensor) -> Tensor:
        return _sparse_conv(grad, None, part.contiguous(), swapped_maps, [], None, None, False)

    grad_feats = grad_of_source(transposed[:, :, :split]) if needs_feats else None
    grad_skip = grad_of_source(transposed[:, :, split:]) if needs_skip else None
    grad_weight = None
    if needs_weight:
        sources = [feats] if skip is None else [feats, skip]
        parts = [_sparse_conv_wgrad(s, grad, maps, weight.shape[0]) for s in sources]
        grad_weight = parts[0] if skip is None else torch.cat(parts, dim=1)
    grad_bias = grad.sum(dim=0) if ctx.has_bias else None
    grad_residual = grad if ctx.has_residual else None
    no_maps, no_swapped_maps = [None] * len(maps), [None] * len(swapped_maps)
    return (
        grad_feats,
        grad_skip,
        grad_weight,
        no_maps,
        no_swapped_maps,
        grad_bias,
        grad_residual,
        None,
    )


_sparse_conv = define_op(
    "sparse_conv(Tensor feats, Tensor? skip, Tensor weight, Tensor[] maps, "
    "Tensor[] swapped_maps, Tensor? bias, Tensor? residual, bool relu) -> Tensor",
    reference=sparse_conv_reference,
    triton=_sparse_conv_triton,
    fake=_sparse_conv_fake,
)
_sparse_conv_wgrad = define_op(
    "sparse_conv_wgrad(Tensor feats, Tensor grad, Tensor[] maps, int offset_count) -> Tensor",
    reference=sparse_conv_wgrad_reference,
    triton=_wgrad_triton,
    fake=_wgrad_fake,
)
define_backward("sparse_conv", _backward, _save_context)
