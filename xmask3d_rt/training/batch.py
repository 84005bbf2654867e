"""What a data set gives the trainer: samples of one view each, joined to batches.

A data set is anything with `__len__` and `load(index, rng)`; all its randomness (which view,
augmentation) comes from `rng`, which the trainer seeds by run, epoch and position. So a sample does
not depend on the number of workers or ranks, and an interrupted epoch goes on where it stopped.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from xmask3d_rt.model.xmask3d import ViewBatch

MAX_OFFSET = 100  # voxels per axis by which a batch is shifted, exclusive


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One view of one scene, its n visible points and their labels, C base classes.

    `image` [S, S, 3] uint8 RGB at the model's size; `coords` [M, 3] int32 voxels with `colors`
    [M, 3] float32 in [-1, 1]; per point its voxel `point_to_voxel` [n] int64 and its pixel `row`,
    `col` [n] int64 on the mask grid; `labels_3d` [n] int64 in 0..C, C = ignored; `binary_label`
    [n] int64, 1 base, 0 novel, anything else neither; `label_2d` [S, S] integer in 0..C, C =
    everything that is no base class; `caption` of the image, "" where there is none.
    """

    name: str
    image: np.ndarray
    coords: np.ndarray
    colors: np.ndarray
    point_to_voxel: np.ndarray
    row: np.ndarray
    col: np.ndarray
    labels_3d: np.ndarray
    binary_label: np.ndarray
    label_2d: np.ndarray
    caption: str = ""


class TrainingDataset(Protocol):
    """Samples by index; `len` is the number of samples of one epoch."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> TrainingSample:
        """The sample at `index`, every random choice drawn from `rng`."""


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """B samples joined: points and voxels one sample after the other, images stacked.

    `images` [B, 3, S, S] float32 in [0, 1]; `coords` [M, 4] int32 (sample, x, y, z); `colors`
    [M, 3]; per point `point_to_voxel`, `point_view` (its sample), `row`, `col`, `labels_3d`,
    `binary_label`, all [n] int64; `label_2d` [B, S, S] int64; `captions`, `names` and `image_keys`
    (a hash of each image's pixels) one per sample.
    """

    images: Tensor
    coords: Tensor
    colors: Tensor
    point_to_voxel: Tensor
    point_view: Tensor
    row: Tensor
    col: Tensor
    labels_3d: Tensor
    binary_label: Tensor
    label_2d: Tensor
    captions: tuple[str, ...]
    names: tuple[str, ...]
    image_keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "TrainingBatch":
        """The same batch on another device; copies from pinned memory do not wait."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in self.tensors().items()
        }
        return replace(self, **moved)

    def pin_memory(self) -> "TrainingBatch":
        """The same batch in page-locked memory; the data loader calls it."""
        pinned: dict[str, Any] = {
            name: value.pin_memory() for name, value in self.tensors().items()
        }
        return replace(self, **pinned)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def view_batch(self, text_embed: Tensor, text_class: Tensor) -> ViewBatch:
        """The part the model takes, with the classes to tell apart.

        Args:
            text_embed: [T, E], one row per name.
            text_class: [T] class of each name.
        """
        return ViewBatch(
            images=self.images,
            coords=self.coords,
            colors=self.colors,
            point_to_voxel=self.point_to_voxel,
            point_view=self.point_view,
            row=self.row,
            col=self.col,
            text_embed=text_embed,
            text_class=text_class,
        )


def collate_samples(
    samples: Sequence[TrainingSample], offset: Sequence[int] = (0, 0, 0)
) -> TrainingBatch:
    """Join samples.

    Args:
        samples: at least one.
        offset: voxels added to the coordinates of all samples, per axis; training draws each
            from 0..99, because strided convolutions see where voxels lie on their grid.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("collate_samples: no samples; a batch needs at least one")
    voxels = np.cumsum([0, *(len(sample.coords) for sample in samples)])
    shift = np.asarray(offset, np.int32)
    coords = [
        np.concatenate([np.full((len(s.coords), 1), i, np.int32), s.coords + shift], axis=1)
        for i, s in enumerate(samples)
    ]
    images = np.stack([sample.image for sample in samples])  # [B, S, S, 3]

    def join(name: str) -> Tensor:
        parts = [np.asarray(getattr(sample, name), np.int64) for sample in samples]
        return torch.from_numpy(np.concatenate(parts))

    point_to_voxel = [
        s.point_to_voxel + start for s, start in zip(samples, voxels[:-1], strict=True)
    ]
    counts = torch.tensor([len(sample.row) for sample in samples])
    return TrainingBatch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous(),
        coords=torch.from_numpy(np.concatenate(coords).astype(np.int32)),
        colors=torch.from_numpy(np.concatenate([s.colors for s in samples]).astype(np.float32)),
        point_to_voxel=torch.from_numpy(np.concatenate(point_to_voxel).astype(np.int64)),
        point_view=torch.repeat_interleave(torch.arange(len(samples)), counts),
        row=join("row"),
        col=join("col"),
        labels_3d=join("labels_3d"),
        binary_label=join("binary_label"),
        label_2d=torch.from_numpy(np.stack([s.label_2d for s in samples]).astype(np.int64)),
        captions=tuple(sample.caption for sample in samples),
        names=tuple(sample.name for sample in samples),
        image_keys=tuple(_hash_image(sample.image) for sample in samples),
    )


def _hash_image(image: np.ndarray) -> str:
    return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
