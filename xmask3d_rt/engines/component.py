"""What a manifest records of one component, of its check and of the weights it came from."""

from dataclasses import field
from typing import Annotated, Any

from pydantic import Field

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.base import Signature
from xmask3d_rt.engines.files import FileEntry
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError
from xmask3d_rt.records import Count, Line, read_values, record, show, to_values

Errors = dict[Line, Annotated[float, Field(ge=0)]]


@record(EngineError)
class Parity:
    """How an exported component was checked against the PyTorch module.

    `errors` is the relative L2 error of each output, `tolerances` the largest ones allowed.
    """

    reference: Line
    tolerances: Errors
    errors: Errors

    def __post_init__(self) -> None:
        different = sorted(set(self.tolerances) ^ set(self.errors))
        if different or not self.errors:
            which = show(different[0]) if different else "any output"
            raise ValueError(f"errors and tolerances must be of the same outputs; not of {which}")

    @property
    def tolerance(self) -> float:
        """The widest tolerance of any output."""
        return max(self.tolerances.values(), default=0.0)


@record(EngineError)
class Component:
    """One part of the model as exported.

    Attributes:
        name: `unet`, `vae_encoder`, …
        backend: library that runs it; `torch` for weights that run outside an engine.
        precision: arithmetic it was built with.
        files: its files; the first one is the one to open.
        signature: inputs, outputs and profile; None for tensors that torch runs.
        fingerprint: hash of everything the files depend on.
        parity: the check after export.
        opset: ONNX opset, where there is one.
        reason: why this backend and precision were chosen.
        options: what else the build was asked for.
        device: kind of device it was built for; None where that is not known.
    """

    name: Line
    backend: Line
    precision: Precision
    files: tuple[FileEntry, ...]
    signature: Signature | None
    fingerprint: Line
    parity: Parity | None
    opset: Count | None = None
    reason: str = ""
    options: BuildOptions = field(default_factory=BuildOptions)
    device: Line | None = None

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as stored in the manifest."""
        return to_values(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Component":
        """Rebuild a component from `to_dict`.

        Raises:
            ValueError: missing, unknown or wrong values.
        """
        return read_values(cls, values)


WEIGHT_KINDS = ("synthetic", "bundled", "files", "mixed")


@record(EngineError)
class WeightSource:
    """Where the weights came from: `synthetic`, or `files` with a hash of each.

    `bundled`: the package's own file. `mixed`: the trained part from a file, the frozen networks
    synthetic.
    """

    kind: str
    files: tuple[FileEntry, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in WEIGHT_KINDS:
            raise ValueError(f"kind must be of {', '.join(WEIGHT_KINDS)}, got {show(self.kind)}")

    def describe_limits(self, where: str = "") -> str | None:
        """What labels mean that such weights give; None where the user brought all of them.

        Args:
            where: such as " of engines/tiny".
        """
        match self.kind:
            case "synthetic":
                return (
                    f"weights{where} are synthetic (made by a rule, not trained): the labels mean "
                    "nothing"
                )
            case "mixed":
                return (
                    f"frozen networks{where} are synthetic (made by a rule): the labels mean "
                    "something only if the checkpoint was trained beside such"
                )
            case "bundled":
                return (
                    f"weights{where} are the package's small ones: walls and floors of generated "
                    "rooms are mostly right, furniture and real scans mostly wrong (docs/tiny.md)"
                )
        return None
