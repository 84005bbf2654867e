"""Does a weight file hold exactly what a model needs?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints.lazy import LazyTensor
from xmask3d_rt.model.checkpoints.weight_file import WeightFile
from xmask3d_rt.model.key_map import Source, map_name

LISTED = 10  # keys named per kind of problem


@dataclass(frozen=True)
class Match:
    """A weight file held against the tensors of one namespace.

    Attributes:
        file: the file.
        sources: module tensor → keys of the file.
        missing: keys the model needs and the file lacks.
        unexpected: keys the file has and nothing needs.
        mis_shaped: keys present in another shape or kind of number, with both.
    """

    file: WeightFile
    sources: dict[str, Source]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mis_shaped: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the file can be loaded."""
        return self.problems == 0

    @property
    def problems(self) -> int:
        """Number of keys that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.mis_shaped)

    def describe_problems(self) -> str:
        """All kinds of problem, the first ten keys of each."""
        parts = [
            f"{len(keys)} {kind}: {', '.join(keys[:LISTED])}{', …' * (len(keys) > LISTED)}"
            for kind, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("mis-shaped", self.mis_shaped),
            )
            if keys
        ]
        return "; ".join(parts)

    def check(self) -> None:
        """Raise unless the file can be loaded.

        Raises:
            CheckpointError: with everything that does not fit.
        """
        if not self.complete:
            raise CheckpointError(
                f"{self.file.title} does not fit the model: {self.describe_problems()}. "
                "Nothing was loaded; check that file and preset belong together"
            )

    def load(self, name: str) -> Tensor:
        """The values of one module tensor, in the file's precision."""
        source = self.sources[name]
        return source.assemble([self.file.tensors[key].load() for key in source.keys])


def match_file(file: WeightFile, state: Mapping[str, Tensor]) -> Match:
    """Compare a file with a module's state dict (values are not looked at).

    Args:
        file: an opened weight file.
        state: state dict of an `XMask3D`, possibly on the meta device; tensors of other
            namespaces than the file's are left aside.
    """
    layout = file.layout
    sources = {
        name: layout.locate(name) for name in state if map_name(name).namespace == layout.namespace
    }
    missing, mis_shaped, used = [], [], set()
    for name, source in sources.items():
        expected = source.shapes(state[name].shape)
        for key, shape in zip(source.keys, expected, strict=True):
            used.add(key)
            if key not in file.tensors:
                missing.append(key)
            elif (problem := _compare(file.tensors[key], shape, state[name])) is not None:
                mis_shaped.append(f"{key} {problem}")
    unexpected = [
        key for key in file.tensors if key not in used and not layout.unused.fullmatch(key)
    ]
    return Match(file, sources, tuple(missing), tuple(unexpected), tuple(mis_shaped))


def _compare(found: LazyTensor, shape: Sequence[int], target: Tensor) -> str | None:
    if found.shape != tuple(shape):
        return f"{list(found.shape)} instead of {list(shape)}"
    if found.dtype.is_floating_point != target.dtype.is_floating_point:
        return f"{found.dtype} instead of {target.dtype}"
    return None
