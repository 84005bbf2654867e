"""build_unet_maps: all maps of a MinkUNet."""

from functools import partial

import torch

from benchmarks.kernel_cases.rooms import count_unet_pairs, make_voxels
from benchmarks.registry import Forms, KernelCase
from xmask3d_rt.kernels import build_unet_maps, downsample_coords
from xmask3d_rt.kernels.coords import kernel_offsets, offset_key, pack_coords


def benchmark_cases() -> list[KernelCase]:
    """Read the voxels, write the dense map of every convolution shape."""
    return [
        KernelCase(
            "build_unet_maps",
            f"M={m}",
            "int32",
            partial(_build, m),
            moved_bytes=partial(_count_bytes, m),
            large=m > 200_000,
        )
        for m in (16_161, 120_000, 1_000_000)
    ]


def _count_bytes(m: int) -> int:
    voxels = count_unet_pairs(m)["voxels"]
    maps = voxels[0] * 125 + sum(n * 27 for n in voxels) + sum(n * 8 * 2 for n in voxels[1:])
    return 16 * m + 4 * maps


def _build(m: int, device: torch.device) -> Forms:
    coords = make_voxels(m).to(device)
    return {
        "ours": lambda: build_unet_maps(coords),
        "one search per offset": lambda: _search_every_offset(coords),
    }


def _search_every_offset(coords: torch.Tensor) -> list[torch.Tensor]:
    """Sorted keys, and a binary search for every voxel and offset of every map."""
    maps, level = [_search(coords, coords, 5, 1)], coords
    for stride in (1, 2, 4, 8, 16):
        maps.append(_search(level, level, 3, stride))
        if stride < 16:
            coarse = downsample_coords(level, 2 * stride).coords
            maps.append(_search(coarse, level, 2, stride))
            level = coarse
    return maps


def _search(
    out_coords: torch.Tensor, in_coords: torch.Tensor, kernel_size: int, stride: int
) -> torch.Tensor:
    keys, rows = torch.sort(pack_coords(in_coords))
    deltas = [offset_key(*offset) for offset in kernel_offsets(kernel_size, stride)]
    query = pack_coords(out_coords)[:, None] + torch.tensor(deltas, device=keys.device)
    position = torch.searchsorted(keys, query).clamp_(max=len(keys) - 1)
    return torch.where(keys[position] == query, rows[position], -1)
