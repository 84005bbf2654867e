"""What a weight file is, and whether it is complete: `xmask3d weights inspect`."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from xmask3d_rt.config import RELEASED_PRESETS, get_preset
from xmask3d_rt.model.checkpoints.loading import expect_state
from xmask3d_rt.model.checkpoints.matching import Match, match_file
from xmask3d_rt.model.checkpoints.weight_file import WeightFile, open_weights


@dataclass(frozen=True)
class WeightReport:
    """One inspected weight file.

    Attributes:
        path: as given.
        namespace: `xmask3d`, `sd` or `clip`: the option of `build` that takes it.
        kind: what it is, in words.
        container: how it is stored.
        tensors: number of tensors.
        elements: number of values.
        dtypes: tensors per dtype.
        size: bytes on disk.
        preset: the configuration it fits best.
        complete: whether it fits that configuration exactly.
        problems: what does not fit, empty if complete.
    """

    path: Path
    namespace: str
    kind: str
    container: str
    tensors: int
    elements: int
    dtypes: dict[str, int]
    size: int
    preset: str
    complete: bool
    problems: str

    def describe(self) -> str:
        """The report as a few lines of text."""
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in self.dtypes.items())
        verdict = (
            f"complete (preset {self.preset})"
            if self.complete
            else (f"INCOMPLETE (nearest preset {self.preset}): {self.problems}")
        )
        return "\n".join(
            (
                f"{self.path}",
                f"  kind      {self.kind}, {self.container}",
                f"  tensors   {self.tensors:,} with {self.elements:,} values ({dtypes})",
                f"  size      {self.size:,} bytes",
                f"  verdict   {verdict}",
            )
        )


def inspect_weights(path: Path | str) -> WeightReport:
    """Say what a weight file is and whether it is complete; no tensor is read.

    Args:
        path: anything `load_checkpoints` takes.

    Raises:
        CheckpointError: missing, truncated, no weight file, or of no known model.
    """
    file = open_weights(path)
    preset, match = _find_preset(file)
    return WeightReport(
        path=file.path,
        namespace=file.layout.namespace,
        kind=file.layout.title,
        container=file.container,
        tensors=len(file.tensors),
        elements=sum(tensor.elements for tensor in file.tensors.values()),
        dtypes=file.dtypes,
        size=file.size,
        preset=preset,
        complete=match.complete,
        problems=match.describe_problems(),
    )


def _find_preset(file: WeightFile) -> tuple[str, Match]:
    """The preset a file fits; where none does, the one it fits best."""
    # released presets differ in the trained part alone
    released = RELEASED_PRESETS if file.layout.namespace == "xmask3d" else RELEASED_PRESETS[:1]
    matches = {}
    for preset in (*released, "tiny"):
        matches[preset] = match_file(file, _expected_state(preset))
        if matches[preset].complete:
            break
    return min(matches.items(), key=lambda item: item[1].problems)


@cache
def _expected_state(preset: str) -> dict[str, Tensor]:
    """Names and shapes of a preset's tensors, without values."""
    return expect_state(get_preset(preset))
