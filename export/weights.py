"""Where a build reads its tensors from: the synthetic rule, or the user's weight files."""

import hashlib
import inspect
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from xmask3d_rt.engines.manifest import WeightSource
from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model import key_map, synthetic


class Weights(Protocol):
    """Tensors by their name in the whole model, and what identifies them."""

    @property
    def source(self) -> WeightSource:
        """What the manifest records about them."""

    def fingerprint(self, namespaces: Iterable[str]) -> str:
        """Hash that changes whenever a tensor of one of these weight files does."""

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`, which has `shape`.

        Raises:
            CheckpointError: it is missing or has another shape.
        """


class SyntheticWeights:
    """Weights made by rule (`model/synthetic.py`), any width, no file."""

    @property
    def source(self) -> WeightSource:
        """Kind `synthetic`."""
        return WeightSource("synthetic")

    def fingerprint(self, namespaces: Iterable[str]) -> str:
        """Hash of the rule's own code and of the names it is applied to."""
        rule = inspect.getsource(synthetic) + inspect.getsource(key_map)
        return hashlib.sha256(rule.encode()).hexdigest()

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name` by the rule.

        Raises:
            CheckpointError: no rule covers it.
        """
        try:
            source = key_map.map_name(name)
            parts = [
                synthetic.synthetic_tensor(source.namespace, key, part)
                for key, part in zip(source.keys, source.shapes(shape), strict=True)
            ]
        except KeyError as error:
            raise CheckpointError(f"synthetic weights have no {name!r}: {error}") from error
        tensors = [torch.from_numpy(part) for part in parts if part is not None]
        if len(tensors) != len(parts):
            raise CheckpointError(f"{name!r} is not a learned weight, it cannot be synthetic")
        return source.assemble(tensors)
