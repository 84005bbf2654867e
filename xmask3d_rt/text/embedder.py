"""Class names to CLIP text embeddings, each name embedded once."""

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from xmask3d_rt.engines.base import Array
from xmask3d_rt.errors import EngineError
from xmask3d_rt.text.tokenizer import tokenize

BATCH = 64  # names per call of the text encoder


class TextEngine(Protocol):
    """What embeds token ids: the `text_encoder` engine, or the module's text tower."""

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Tensor]:
        """token_ids [T, 77] int64 → text_embed [T, E]."""


class TextEmbedder:
    """The text encoder with a cache by name; safe to share between threads.

    Args:
        engine: the `text_encoder` component.
        device: where embeddings are kept.
    """

    def __init__(self, engine: TextEngine, device: torch.device) -> None:
        self._engine = engine
        self._device = device
        self._cache: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def embed(self, names: Sequence[str]) -> Tensor:
        """Embeddings [T, E] of bare names (no prompt), not normalised.

        Raises:
            EngineError: the encoder returned values that are not finite.
        """
        with self._lock:
            missing = [name for name in dict.fromkeys(names) if name not in self._cache]
            for start in range(0, len(missing), BATCH):
                self._encode(missing[start : start + BATCH])
            return torch.stack([self._cache[name] for name in names])

    def _encode(self, names: list[str]) -> None:
        embeddings = self._engine.infer({"token_ids": tokenize(names)})["text_embed"]
        embeddings = embeddings.to(self._device)
        if not bool(torch.isfinite(embeddings).all()):
            raise EngineError(
                "text_encoder: its embedding is not finite (NaN or inf); rebuild it with "
                "--only text_encoder --precision fp32 --force"
            )
        self._cache.update(zip(names, embeddings, strict=True))
