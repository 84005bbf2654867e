"""Outputs of the frozen networks, computed once per image and caption and kept on disk.

The VAE sees the image alone and the text tower the caption alone, so what they make never changes
during training. Files lie in a folder named by the weights' hash, whole or absent. A cache that is
full keeps what it has: epochs visit everything in turn, so throwing out the oldest would always
throw out what is needed next.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xmask3d_rt.files import atomic_write
from xmask3d_rt.model.diffusion import ImageFeatures
from xmask3d_rt.model.key_map import map_name
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.batch import TrainingBatch
from xmask3d_rt.training.ranks import world_size
from xmask3d_rt.training.step import TrainingStep, embed_texts

logger = logging.getLogger(__name__)

GIB = 1 << 30


class DiskCache:
    """Named tensors by key, up to a size.

    Args:
        folder: made at the first entry.
        limit: bytes; what is there already counts.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._size = sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))

    def read(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of a key, or None."""
        path = self._path(key)
        try:
            return load_file(path)
        except FileNotFoundError:
            return None
        except SafetensorError:
            logger.warning("%s is damaged; it is computed again", path)
            return None

    def write(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors, if they still fit."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if self._size + size > self._limit:
            return
        with atomic_write(self._path(key)) as temporary:
            save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, temporary)
        self._size += size

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


class FrozenOutputs:
    """What the frozen networks make of batches, from the cache where it is there.

    Args:
        step: has the networks.
        folder: of the cache.
        limit_gb: size of the cache, over all processes; 0 keeps nothing.

    Attributes:
        weights: hash of the frozen networks.
    """

    def __init__(self, step: TrainingStep, folder: Path, limit_gb: float) -> None:
        self.weights = hash_frozen(step.model)
        self._step = step
        self._captions: dict[str, Tensor] = {}
        self._cache: DiskCache | None = None
        if limit_gb:
            self._cache = DiskCache(folder / self.weights, int(limit_gb * GIB / world_size()))

    def image_features(self, batch: TrainingBatch) -> ImageFeatures:
        """What the VAE makes of a batch's images."""
        parts = []
        for key, image in zip(batch.image_keys, batch.images.split(1), strict=True):
            found = self._recall(f"{key}-image", partial(self._encode, image))
            parts.append(ImageFeatures(**{name: t.to(image.device) for name, t in found.items()}))
        return ImageFeatures(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def caption_embed(self, captions: Sequence[str]) -> Tensor:
        """CLIP embeddings [B, E] of captions."""
        rows = []
        for caption in captions:
            if caption not in self._captions:
                key = hashlib.blake2b(caption.encode(), digest_size=16).hexdigest()
                found = self._recall(f"{key}-caption", partial(self._embed, caption))
                self._captions[caption] = found["embed"].to(self._step.text_embed.device)
            rows.append(self._captions[caption])
        return torch.stack(rows)

    def _recall(self, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if self._cache is None:
            return compute()
        found = self._cache.read(key)
        if found is None:
            found = compute()
            self._cache.write(key, found)
        return found

    def _encode(self, image: Tensor) -> dict[str, Tensor]:
        return self._step.encode_images(image)._asdict()

    def _embed(self, caption: str) -> dict[str, Tensor]:
        return {"embed": embed_texts(self._step.model, [caption])[0]}


def hash_frozen(model: XMask3D) -> str:
    """Hash of every weight that training leaves as it is, and of its precision."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in model.state_dict().items():
        if map_name(name).namespace == "xmask3d":
            continue
        digest.update(f"{name} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
