"""Where a build reads its tensors from: a rule, the package's own weights, or weight files."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from xmask3d_rt.config import BUNDLED_WEIGHTS, ModelConfig
from xmask3d_rt.engines.component import WeightSource
from xmask3d_rt.engines.files import FileEntry, describe_file
from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.export.build.fingerprint import hash_modules
from xmask3d_rt.model import bundled, key_map, synthetic
from xmask3d_rt.model.checkpoints import loading
from xmask3d_rt.model.checkpoints.loading import expect_state


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
        return hash_modules((synthetic.__name__, key_map.__name__))

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


class BundledWeights:
    """The weights of `tiny` that lie in the package.

    Args:
        config: of the model.

    Raises:
        CheckpointError: the package has none.
    """

    def __init__(self, config: ModelConfig) -> None:
        bundled.check_present(BUNDLED_WEIGHTS)
        self._config = config

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return bundled.read_packed(BUNDLED_WEIGHTS, expect_state(self._config))

    @property
    def source(self) -> WeightSource:
        """Kind `bundled`, with the file's name, size and SHA-256."""
        return WeightSource("bundled", (self._file,))

    @cached_property
    def _file(self) -> FileEntry:
        return describe_file(BUNDLED_WEIGHTS)

    def fingerprint(self, namespaces: Iterable[str]) -> str:
        """Hash of the file, and of the code that reads it."""
        return f"{self._file.sha256} {hash_modules((bundled.__name__,))}"

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`, float32.

        Raises:
            CheckpointError: it is no tensor of this model, or the file is of another one.
        """
        if name not in self._tensors:
            raise CheckpointError(f"bundled weights have no {name!r}")
        return self._tensors[name]


class FileWeights:
    """The user's weight files, checked completely before the first tensor is read.

    Args:
        config: of the model; decides which tensors are needed.
        xmask3d: the trained part, as released or as training writes it.
        sd: Stable Diffusion v1, a file or a diffusers folder.
        clip: CLIP ViT-L-14. Where `sd` and `clip` are None the tensors of these networks are
            made by the rule: for checkpoints that were trained beside such.
        cache_dir: where converted copies are kept; None keeps none.

    Raises:
        CheckpointError: a file is missing, unreadable, of another model or incomplete.
    """

    def __init__(
        self,
        config: ModelConfig,
        xmask3d: Path,
        sd: Path | None,
        clip: Path | None,
        cache_dir: Path | None = None,
    ) -> None:
        state = expect_state(config)
        self._opened = loading.open_checkpoints(
            state, xmask3d=xmask3d, sd=sd, clip=clip, cache_dir=cache_dir
        )
        self._rule = SyntheticWeights()

    @property
    def source(self) -> WeightSource:
        """Kind `files`, or `mixed` with the rule, with name, size and SHA-256 of each file."""
        entries = (opened.entry for opened in self._opened.values())
        files = tuple(FileEntry(e.path.name, e.size, e.sha256) for e in entries)
        return WeightSource("files" if len(files) == len(key_map.NAMESPACES) else "mixed", files)

    def fingerprint(self, namespaces: Iterable[str]) -> str:
        """The hashes of the files of these namespaces, and of the code that reads them."""
        parts = [
            self._opened[namespace].entry.sha256
            if namespace in self._opened
            else self._rule.fingerprint((namespace,))
            for namespace in sorted(namespaces)
        ]
        return " ".join([*parts, hash_modules((loading.__name__, key_map.__name__))])

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name`, in the file's precision.

        Raises:
            CheckpointError: no file has it, nor does the rule make it.
        """
        for opened in self._opened.values():
            if name in opened.match.sources:
                return opened.match.load(name)
        if self.source.kind == "mixed":
            return self._rule.read(name, shape)
        raise CheckpointError(f"no weight file has {name!r}; it is no tensor of this model")
