"""The network of spconv's published benchmark: seven pairs of 3³ convolutions, max-pooled between.

Source: traveller59/spconv, docs/BENCHMARK.md; fp16 forward 19.85 ms on an A100 and 13.93 ms on an
RTX 4090 (spconv 2.2). Needs its cloud as `../shared/pointclouds/spconv-benchmark-pc.npz`.
"""

import importlib.util
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.arrays import read_arrays
from xmask3d_rt.kernels import KernelMap, build_kernel_map, index_coords, sparse_conv, voxelize

CLOUD = Path(__file__).parents[3] / "shared" / "pointclouds" / "spconv-benchmark-pc.npz"
RANGE = ((-80.0, -80.0, -2.0), (80.0, 80.0, 6.0))  # metres
VOXEL_SIZE = 0.1
COPIES = 8  # each shifted by a metre in y
WIDTHS = (64, 96, 128, 160, 192, 224, 256)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def benchmark_cases() -> list[KernelCase]:
    """The whole network, its maps built beforehand, as published."""
    if not CLOUD.is_file():
        return []
    return [
        KernelCase(
            "spconv_network",
            "about 900 k voxels",
            dtype,
            partial(_build, DTYPES[dtype]),
            moved_bytes=lambda: len(make_voxels()) * (3 + 64) * 4,
            flops=count_flops,
            large=True,
        )
        for dtype in DTYPES
    ]


@cache
def make_voxels() -> Tensor:
    """Voxels of the eight copies, [M, 4]."""
    low, high = (torch.tensor(bound) for bound in RANGE)
    points = torch.from_numpy(read_arrays(CLOUD)["pc"])
    points = points[((points >= low) & (points < high)).all(dim=1)]
    shifts = torch.arange(COPIES).float()[:, None, None] * torch.tensor([0.0, 1.0, 0.0])
    copies = (points + shifts).reshape(-1, 3)
    return voxelize(copies - low, VOXEL_SIZE).coords


def make_maps(coords: Tensor) -> tuple[list[KernelMap], list[KernelMap]]:
    """The 3³ map of each of the seven levels, and the 2³ map that pools to the next."""
    convs, pools = [], []
    for level in range(len(WIDTHS)):
        index = index_coords(coords)
        convs.append(build_kernel_map(coords, 3, 1, 1 << level, index=index))
        if level < len(WIDTHS) - 1:
            pools.append(build_kernel_map(coords, 2, 2, 1 << level, index=index))
            coords = pools[-1].out_coords
    return convs, pools


@cache
def count_flops() -> int:
    """Floating-point operations of the convolutions."""
    convs, _ = make_maps(make_voxels())
    channels = [3, *WIDTHS]
    return sum(
        2 * int((kernel_map.neighbors >= 0).sum()) * (channels[level] + width) * width
        for level, (kernel_map, width) in enumerate(zip(convs, WIDTHS, strict=True))
    )


def _build(dtype: torch.dtype, device: torch.device) -> Forms:
    torch.manual_seed(0)
    coords = make_voxels().to(device)
    convs, pools = make_maps(coords)
    feats = torch.randn(len(coords), 3, device=device).to(dtype)
    weights = [
        torch.randn(27, c, width, device=device).mul_((27 * c) ** -0.5).to(dtype)
        for before, width in zip([3, *WIDTHS], WIDTHS, strict=False)
        for c in (before, width)
    ]
    forms: Forms = {
        "ours": lambda: run_network(feats, weights, convs, pools),
        "ours, with maps": lambda: run_network(feats, weights, *make_maps(coords)),
    }
    if device.type == "cuda" and importlib.util.find_spec("spconv"):
        network, voxels = build_spconv(coords, feats)
        forms["spconv"] = lambda: run_spconv(network, voxels)
    return forms


def build_spconv(coords: Tensor, feats: Tensor) -> tuple[nn.Module, Any]:
    """The same network in spconv, where it is installed, and its input."""
    import spconv.pytorch as spconv

    channels, layers = [3, *WIDTHS], []
    for level, width in enumerate(WIDTHS):
        for before in (channels[level], width):
            layers.append(spconv.SubMConv3d(before, width, 3, bias=False, indice_key=f"c{level}"))
        if level < len(WIDTHS) - 1:
            layers.append(spconv.SparseMaxPool3d(2, 2, indice_key=f"p{level}"))
    network = spconv.SparseSequential(*layers).eval().to(coords.device, feats.dtype)
    cells = coords[:, [0, 3, 2, 1]].contiguous()  # (batch, z, y, x)
    # spconv drops what is left over of an odd extent: whole cells of the coarsest level.
    step = 1 << (len(WIDTHS) - 1)
    shape = ((cells[:, 1:].amax(dim=0) // step + 1) * step).tolist()
    return network, spconv.SparseConvTensor(feats, cells, shape, batch_size=1)


@torch.no_grad()
def run_spconv(network: nn.Module, voxels: Any) -> Any:
    """One pass; spconv builds its maps in it."""
    return network(voxels)


@torch.no_grad()
def run_network(
    feats: Tensor, weights: list[Tensor], convs: list[KernelMap], pools: list[KernelMap]
) -> Tensor:
    """Features of the coarsest level."""
    for level, kernel_map in enumerate(convs):
        feats = sparse_conv(feats, weights[2 * level], kernel_map)
        feats = sparse_conv(feats, weights[2 * level + 1], kernel_map)
        if level < len(pools):
            feats = max_pool(feats, pools[level])
    return feats


def max_pool(feats: Tensor, kernel_map: KernelMap) -> Tensor:
    """Channel-wise maximum over the voxels of every coarse cell."""
    rows = kernel_map.swapped.neighbors.amax(dim=1).long()  # the one cell of every voxel
    out = feats.new_full((kernel_map.neighbors.shape[0], feats.shape[1]), -torch.inf)
    return out.scatter_reduce_(0, rows[:, None].expand_as(feats), feats, "amax")
