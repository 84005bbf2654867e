"""sparse_conv: single layers of a MinkUNet34C, and the whole folded net."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.kernel_cases.rooms import count_pairs, count_unet_pairs, make_voxels
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.config import SparseUNetConfig, get_preset
from xmask3d_rt.kernels import (
    Epilogue,
    KernelMap,
    build_kernel_map,
    build_unet_maps,
    sparse_conv,
)
from xmask3d_rt.model.sparse_unet import MinkUNet
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LAYERS = ((5, 3, 32), (3, 32, 32), (3, 96, 96), (3, 128, 96), (3, 256, 256))


def benchmark_cases() -> list[KernelCase]:
    """Features read and written once, weights and map read once; half precision on a GPU."""
    return [
        _layer_case(m, *layer, dtype)
        for m in (16_161, 120_000, 1_000_000)
        for layer in LAYERS
        for dtype in DTYPES
    ] + [_net_case(m, dtype) for m in (16_161, 120_000, 1_000_000) for dtype in DTYPES]


def _layer_case(m: int, size: int, channels: int, out_channels: int, dtype: str) -> KernelCase:
    shape = (m, size, channels, out_channels)
    feats = m * (channels + 2 * out_channels) * DTYPES[dtype].itemsize
    weight = size**3 * channels * out_channels * DTYPES[dtype].itemsize
    return KernelCase(
        "sparse_conv",
        f"M={m} K={size} {channels}->{out_channels}",
        dtype,
        partial(_build_layer, *shape, DTYPES[dtype]),
        moved_bytes=feats + weight + 4 * m * size**3,
        flops=lambda: 2 * count_pairs(m, size) * channels * out_channels,
        large=m > 200_000 or dtype != "fp32",
    )


def _build_layer(
    m: int, size: int, channels: int, out_channels: int, dtype: torch.dtype, device: torch.device
) -> Forms:
    torch.manual_seed(0)
    kernel_map = build_kernel_map(make_voxels(m).to(device), size)
    feats = torch.randn(m, channels, device=device).to(dtype)
    weight = torch.randn(size**3, channels, out_channels, device=device).to(dtype)
    bias = torch.randn(out_channels, device=device)
    residual = torch.randn(m, out_channels, device=device).to(dtype)
    epilogue = Epilogue(bias, residual, relu=True)
    return {
        "ours": lambda: sparse_conv(feats, weight, kernel_map, epilogue),
        "gather, one product": lambda: _convolve_gathered(feats, weight, kernel_map, epilogue),
        "gather, product, add": lambda: _convolve_pairs(feats, weight, kernel_map, epilogue),
    }


@torch.no_grad()
def _convolve_gathered(
    feats: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue
) -> Tensor:
    """The gathered input [M, K·C] written out, 4,096 rows at a time."""
    padded = torch.cat([feats, feats.new_zeros(1, feats.shape[1])])
    flat = weight.flatten(0, 1)
    blocks = kernel_map.neighbors.long().split(4096)
    out = torch.cat([padded[rows].flatten(1) @ flat for rows in blocks])
    return torch.relu(out + epilogue.bias + epilogue.residual).to(feats.dtype)


@torch.no_grad()
def _convolve_pairs(
    feats: Tensor, weight: Tensor, kernel_map: KernelMap, epilogue: Epilogue
) -> Tensor:
    """Rows of every offset gathered, multiplied, added; the centre like any other offset."""
    out = feats.new_zeros(kernel_map.neighbors.shape[0], weight.shape[2])
    bounds = kernel_map.offsets.tolist()
    in_maps, out_maps = kernel_map.in_maps.long(), kernel_map.out_maps.long()
    for k, (start, end) in enumerate(pairwise(bounds)):
        out.index_add_(0, out_maps[start:end], feats[in_maps[start:end]] @ weight[k])
    return torch.relu(out + epilogue.bias + epilogue.residual).to(feats.dtype)


def _net_case(m: int, dtype: str) -> KernelCase:
    config = get_preset("b15n4").point_encoder
    itemsize = DTYPES[dtype].itemsize
    return KernelCase(
        "sparse_unet",
        f"MinkUNet34C M={m}",
        dtype,
        partial(_build_net, config, m, DTYPES[dtype]),
        moved_bytes=m * (config.in_channels + config.out_channels) * itemsize,
        flops=lambda: count_flops(config, count_unet_pairs(m)),
        large=m > 20_000 or dtype != "fp32",
    )


def _build_net(config: SparseUNetConfig, m: int, dtype: torch.dtype, device: torch.device) -> Forms:
    torch.manual_seed(0)
    module = MinkUNet(config).eval().to(device, dtype)
    folded = FoldedSparseUNet(fold_sparse_unet(module.state_dict()), device, dtype)
    coords = make_voxels(m).to(device)
    maps = build_unet_maps(coords)
    feats = torch.rand(m, 3, device=device).to(dtype) * 2 - 1
    return {
        "ours": lambda: folded(feats, maps),
        "ours, with maps": lambda: folded(feats, build_unet_maps(coords)),
        "module": lambda: _run_module(module, feats, maps),
    }


@torch.no_grad()
def _run_module(module: MinkUNet, feats: Tensor, maps) -> tuple[Tensor, Tensor]:
    return module(feats, maps)


def count_flops(config: SparseUNetConfig, pairs: dict[str, list[int]]) -> int:
    """Floating-point operations of one pass, from the entries of its maps."""
    planes, voxels = config.planes, pairs["voxels"]
    total = pairs["stem"][0] * config.in_channels * config.stem
    width, skips = config.stem, []
    for level in range(4):
        skips.append(width)
        total += pairs["down"][level] * width * width
        total += _count_blocks(
            pairs["conv"][level + 1], voxels[level + 1], width, planes[level], config.layers[level]
        )
        width = planes[level]
    for stage in range(4, 8):
        level, channels = 7 - stage, planes[stage]
        total += pairs["up"][level] * width * channels
        total += _count_blocks(
            pairs["conv"][level], voxels[level], channels + skips.pop(), channels,
            config.layers[stage],
        )  # fmt: skip
        width = channels
    return 2 * (total + voxels[0] * width * config.out_channels)


def _count_blocks(pairs: int, voxels: int, in_channels: int, channels: int, depth: int) -> int:
    total = pairs * in_channels * channels + (2 * depth - 1) * pairs * channels * channels
    return total + (voxels * in_channels * channels if in_channels != channels else 0)
