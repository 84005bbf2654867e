"""What a compiled engine fits: a small JSON file beside it, checked before it is loaded.

Compiled engines run with the library version, the processor and the precision they were built
for and with nothing else, and their own error messages rarely say so.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.files import write_atomically
from xmask3d_rt.engines.manifest import describe_rebuild
from xmask3d_rt.errors import EngineError, StaleEngineError
from xmask3d_rt.records import Count, Line, read_json, record, to_values

Shapes = Annotated[list[list[Count]], Field(min_length=3, max_length=3)]  # min, opt, max

STAMP_SUFFIX = ".json"
WEIGHTS_INSIDE = "inside"


@record(EngineError)
class BuildStamp:
    """Conditions under which a compiled engine runs.

    Attributes:
        component: its name, for messages.
        library: that made it; a backend may have several.
        version: of the library.
        target: processor, such as `sm_89` or `cpu avx512`.
        precision: arithmetic.
        weights: `inside`, or the ONNX file beside the engine that holds them.
        profiles: per optimisation profile, input → (min, opt, max) shapes; empty when static.
        instructions: of the CPU that code was compiled for; empty where a GPU runs it.
    """

    component: Line
    library: Line
    version: Line
    target: Line
    precision: Precision
    weights: Line = WEIGHTS_INSIDE
    profiles: tuple[dict[Line, Shapes], ...] = ()
    instructions: tuple[Line, ...] = ()

    def save(self, engine: Path) -> Path:
        """Write the stamp beside its engine; returns its path."""
        return write_atomically(stamp_path(engine), json.dumps(to_values(self), indent=2) + "\n")

    def check(
        self,
        engine: Path,
        backend: str,
        library: str,
        version: str,
        target: str | None,
        precision: Precision,
    ) -> None:
        """Compare with the machine at hand.

        Args:
            engine: its file, for the message.
            backend: that loads it, for the message.
            library: installed library.
            version: its version.
            target: processor of this machine; None leaves it unchecked.
            precision: what the manifest says.

        Raises:
            StaleEngineError: the first difference, with the command that rebuilds the engine.
        """
        fix = describe_engine_fix(engine, self.component, backend, precision)
        if (self.library, self.version) != (library, version):
            raise StaleEngineError(
                f"{engine} was built with {self.library} {self.version}, installed is "
                f"{library} {version}; {fix}"
            )
        if target is not None and self.target != target:
            raise StaleEngineError(
                f"{engine} was built for {self.target}, this device is {target}; {fix}"
            )
        if self.precision != precision:
            raise StaleEngineError(
                f"{engine} computes in {self.precision}, its manifest says {precision}; {fix}"
            )

    def check_instructions(self, engine: Path, backend: str, available: Collection[str]) -> None:
        """Compare with the instructions of this machine's CPU.

        Raises:
            StaleEngineError: the code may use some that are not there.
        """
        missing = sorted(set(self.instructions) - set(available))
        if missing:
            fix = describe_engine_fix(engine, self.component, backend, self.precision)
            raise StaleEngineError(
                f"{engine} was built for a processor with {', '.join(missing[:5])}, which this one "
                f"lacks; {fix}"
            )


def stamp_path(engine: Path) -> Path:
    """Where the stamp of an engine file lies."""
    return engine.with_name(engine.name + STAMP_SUFFIX)


def read_stamp(engine: Path) -> BuildStamp:
    """The stamp of an engine file.

    Raises:
        StaleEngineError: there is none, or it cannot be read.
    """
    path = stamp_path(engine)
    try:
        return read_json(BuildStamp, path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        fix = describe_rebuild(engine.parent.parent, engine.parent.name)
        raise StaleEngineError(
            f"{engine} has no readable stamp {path.name} ({reason}); {fix}"
        ) from error


def describe_engine_fix(engine: Path, component: str, backend: str, precision: Precision) -> str:
    """How to build an engine file anew."""
    root = engine.parent.parent if engine.parent.name == component else engine.parent
    choice = ("--backend", backend, "--precision", str(precision))
    return describe_rebuild(root, component, known=("--only", component, *choice, "--force"))
