"""Tile sizes of the sparse convolution by shape, dtype and architecture.

Each entry is the largest tile of its kind that compiles without spills and within shared memory
for every kind of layer on its architectures, with Triton 3.6 and 3.7: rows `sparse_conv` of
benchmarks/results/kernel_resources.csv. None has been timed on a GPU yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch

from xmask3d_rt.kernels.dispatch import interprets_triton

_ANY = 1 << 30


@dataclass(frozen=True)
class Tile:
    """Extents of one program's work, and how it is launched."""

    block_m: int  # rows of the output (entries of the map for a weight gradient)
    block_n: int  # output channels
    block_c: int  # input channels per product (for thin inputs: (offset, channel) pairs)
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class TileRule:
    """A tile and the layers it serves: the first rule that fits a layer is taken."""

    tile: Tile
    half: bool
    rows: int = _ANY  # output rows up to
    out_channels: int = _ANY  # up to
    multiple: int = 1  # of the input channels; 1 = any
    architectures: tuple[int, ...] = ()  # empty = every other too

    def fits(self, rows: int, channels: Iterable[int], out_channels: int, sm: int) -> bool:
        """Whether a layer of this shape on this architecture takes the tile."""
        return (
            rows <= self.rows
            and out_channels <= self.out_channels
            and all(c % self.multiple == 0 for c in channels)
            and (not self.architectures or sm in self.architectures)
        )


# Few rows take short tiles, so that the coarse levels of a UNet still fill the machine. Input
# channels are whole blocks but in the rules for any multiple, where every element loads by itself
# and needs registers for it.
FORWARD = (
    TileRule(Tile(32, 64, 64, 4, 5), True, rows=4096, multiple=64),
    TileRule(Tile(32, 64, 32, 4, 5), True, rows=4096, multiple=32),
    TileRule(Tile(64, 32, 32, 4, 4), True, out_channels=32, multiple=32),
    TileRule(Tile(128, 64, 32, 8, 4), True, out_channels=64, multiple=32),
    TileRule(Tile(128, 128, 64, 8, 4), True, multiple=64, architectures=(90,)),
    TileRule(Tile(128, 128, 32, 8, 5), True, multiple=32),
    TileRule(Tile(64, 64, 16, 4, 4), True, multiple=16),
    TileRule(Tile(32, 32, 16, 4, 3), True, multiple=1),
    TileRule(Tile(64, 32, 32, 4, 3), False, rows=4096, multiple=32),
    TileRule(Tile(64, 32, 32, 4, 3), False, out_channels=32, multiple=32),
    TileRule(Tile(64, 64, 32, 8, 2), False, multiple=32),
    TileRule(Tile(32, 64, 16, 4, 2), False, multiple=1),
)
THIN = {True: Tile(64, 32, 32, 4, 2), False: Tile(64, 32, 16, 4, 2)}
WGRAD = {True: Tile(32, 64, 64, 8, 3), False: Tile(16, 32, 32, 4, 2)}
_INTERPRETED = Tile(256, 64, 32, 4, 2)


def choose_tile(
    rows: int, channels: Iterable[int], out_channels: int, dtype: torch.dtype, device: torch.device
) -> Tile:
    """Tile of the forward kernel (and of the input gradient, which is the same kernel).

    Args:
        rows: output rows.
        channels: input channels of every source.
        out_channels: output channels.
        dtype: of the features.
        device: where the kernel will run.
    """
    if interprets_triton():
        return _INTERPRETED
    half, sm, widths = _is_half(dtype), _architecture(device), tuple(channels)
    return next(
        rule.tile
        for rule in FORWARD
        if rule.half == half and rule.fits(rows, widths, out_channels, sm)
    )


def choose_thin_tile(dtype: torch.dtype) -> Tile:
    """Tile of the kernel for few input channels."""
    return _INTERPRETED if interprets_triton() else THIN[_is_half(dtype)]


def choose_wgrad_tile(dtype: torch.dtype) -> Tile:
    """Tile of the weight gradient."""
    return _INTERPRETED if interprets_triton() else WGRAD[_is_half(dtype)]


def _is_half(dtype: torch.dtype) -> bool:
    return dtype.itemsize == 2


@cache
def _architecture(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
