"""Views of generated rooms as the stand-ins train on them: small, uncompressed, one file a room.

images     [V, S, S, 3] uint8, as the runtime resizes them
kinds      [V, L, L] int16, index into the rooms' classes, -1 none
captions   in the header, a JSON list
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from xmask3d_rt.data.collection import read_label_image
from xmask3d_rt.data.labelled import LabelledScene, SceneCollection
from xmask3d_rt.files import atomic_write
from xmask3d_rt.scene.prepare import resize_depth_nearest, resize_image

LABEL_SIZE = 128
NO_KIND = -1


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """Views drawn at random: `images` [B, 3, S, S] in [0, 1], `kinds` and `objects` [B, L, L]."""

    images: Tensor
    kinds: Tensor
    objects: Tensor
    captions: list[str]


class ViewStore:
    """The views of a collection's scenes.

    Args:
        collection: of rooms.
        folder: where they are kept; what is missing is written.
        image_size: S.
    """

    def __init__(self, collection: SceneCollection, folder: Path, image_size: int) -> None:
        if collection.own_source is None:
            raise ValueError(f"{collection.root} has no classes.txt, as generated rooms have")
        self.classes = list(collection.own_source.images.values())
        self._source = collection.own_source.name
        self._size = image_size
        self.files = [folder / f"{scene.name}.safetensors" for scene in collection.scenes]
        for scene, file in zip(collection.scenes, self.files, strict=True):
            if not file.exists():
                self._write(scene, file)

    def _write(self, scene: LabelledScene, file: Path) -> None:
        images, kinds, objects, captions = [], [], [], []
        known = scene.read_captions()
        for view in scene.list_views():
            path = scene.label_image_path(view.name, self._source)
            if path is None:
                raise ValueError(f"{scene.name}: view {view.name} has no label image")
            labels = _read_small(path)
            objects.append(_read_small(path.parent.parent / "instance" / path.name))
            kinds.append(np.where(labels < len(self.classes), labels, NO_KIND))
            images.append(resize_image(view.read_image(), self._size))
            captions.append(known.get(view.name, ""))
        tensors = {
            "images": np.stack(images),
            "kinds": np.stack(kinds).astype(np.int16),
            "objects": np.stack(objects).astype(np.int16),
        }
        with atomic_write(file) as temporary:
            save_file(tensors, temporary, {"captions": json.dumps(captions)})

    def read(self, index: int) -> ViewBatch:
        """All views of a scene."""
        with safe_open(self.files[index], "pt") as file:
            return _take_views(file, _list_captions(file), slice(None))

    def draw(self, rng: np.random.Generator, count: int) -> ViewBatch:
        """One view of each of as many rooms, some rooms twice where there are fewer."""
        few = len(self.files) < count
        drawn = []
        for index in rng.choice(len(self.files), count, replace=few):
            with safe_open(self.files[int(index)], "pt") as file:
                captions = _list_captions(file)
                view = int(rng.integers(len(captions)))
                drawn.append(_take_views(file, captions, slice(view, view + 1)))
        return join_views(drawn)


def join_views(parts: Sequence[ViewBatch]) -> ViewBatch:
    """Batches one after the other."""
    return ViewBatch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.kinds for part in parts]),
        torch.cat([part.objects for part in parts]),
        [caption for part in parts for caption in part.captions],
    )


def _list_captions(file: Any) -> list[str]:
    """One per view of an open file."""
    return json.loads(file.metadata()["captions"])


def _take_views(file: Any, captions: Sequence[str], part: slice) -> ViewBatch:
    """Some views of an open file; the others are not read."""
    pixels = file.get_slice("images")[part].permute(0, 3, 1, 2).float() / 255
    kinds, objects = (file.get_slice(name)[part].long() for name in ("kinds", "objects"))
    return ViewBatch(pixels, kinds, objects, list(captions[part]))


def _read_small(path: Path) -> np.ndarray:
    """An image of ids at the size that is kept."""
    return resize_depth_nearest(read_label_image(path), (LABEL_SIZE, LABEL_SIZE))
