"""What a compiled engine fits: a small JSON file beside it, checked before it is loaded.

Compiled engines run with the library version, the processor and the precision they were built
for and with nothing else, and their own error messages rarely say so.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmask3d_rt.config import Precision
from xmask3d_rt.engines.files import write_atomically
from xmask3d_rt.errors import EngineError, StaleEngineError

STAMP_SUFFIX = ".json"
WEIGHTS_INSIDE = "inside"


@dataclass(frozen=True)
class BuildStamp:
    """Conditions under which a compiled engine runs.

    Attributes:
        component: its name, for messages.
        library: `tensorrt`, `tensorrt_rtx` or `torch`.
        version: of the library.
        target: processor, such as `sm_89` or `cpu avx512`.
        precision: arithmetic.
        weights: `inside`, or the ONNX file beside the engine that holds them.
        profiles: per optimisation profile, input → (min, opt, max) shapes; empty when static.
    """

    component: str
    library: str
    version: str
    target: str
    precision: Precision
    weights: str = WEIGHTS_INSIDE
    profiles: tuple[dict[str, Any], ...] = ()

    def save(self, engine: Path) -> Path:
        """Write the stamp beside its engine; returns its path."""
        return write_atomically(
            stamp_path(engine), json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        )

    def check(
        self, engine: Path, library: str, version: str, target: str | None, precision: Precision
    ) -> None:
        """Compare with the machine at hand.

        Args:
            engine: its file, for the message.
            library: installed library.
            version: its version.
            target: processor of this machine; None leaves it unchecked.
            precision: what the manifest says.

        Raises:
            StaleEngineError: the first difference, with the command that rebuilds the engine.
        """
        fix = rebuild_command(engine, self.component, library, precision)
        if (self.library, self.version) != (library, version):
            raise StaleEngineError(
                f"{engine} was built with {self.library} {self.version}, installed is "
                f"{library} {version}; rebuild it with `{fix}`"
            )
        if target is not None and self.target != target:
            raise StaleEngineError(
                f"{engine} was built for {self.target}, this device is {target}; rebuild it "
                f"with `{fix}`"
            )
        if self.precision != precision:
            raise StaleEngineError(
                f"{engine} computes in {self.precision}, its manifest says {precision}; rebuild "
                f"it with `{fix}`"
            )


def stamp_path(engine: Path) -> Path:
    """Where the stamp of an engine file lies."""
    return engine.with_name(engine.name + STAMP_SUFFIX)


def read_stamp(engine: Path) -> BuildStamp:
    """The stamp of an engine file.

    Raises:
        EngineError: there is none, or it cannot be read.
    """
    path = stamp_path(engine)
    try:
        values = json.loads(path.read_text())
        values["precision"] = Precision(values["precision"])
        values["profiles"] = tuple(values["profiles"])
        return BuildStamp(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{engine} has no readable stamp {path.name} ({type(error).__name__}: {error}); "
            f"rebuild the directory with `xmask3d build --out {engine.parent} --force`"
        ) from error


def rebuild_command(engine: Path, component: str, library: str, precision: Precision) -> str:
    """The command that builds an engine file anew."""
    backend = "inductor" if library == "torch" else "tensorrt"
    root = engine.parent.parent if engine.parent.name == component else engine.parent
    return (
        f"xmask3d build --out {root} --only {component} --backend {backend} "
        f"--precision {precision} --force"
    )
