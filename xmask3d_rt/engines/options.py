"""What a build may be asked for besides backend and precision; kept with each component."""

from pathlib import Path

from xmask3d_rt.engines.compute_capability import find_gpu, parse_compute_capability
from xmask3d_rt.errors import EngineError
from xmask3d_rt.records import FileSize, Line, record
from xmask3d_rt.system.folders import find_cache_folder

MIB = 2**20


@record(EngineError)
class BuildOptions:
    """What a build may ask for besides backend and precision.

    Attributes:
        compute_capability: GPU to build for, such as `8.9`; None is the one at hand. Engines
            for another one than that are built ahead of time and not run.
        max_batch: largest number of images per call; above 1 a second profile is built.
        refit: engines whose weights may be replaced.
        strip_weights: engines without weights, which come from the ONNX file.
        tf32: let fp32 products on tensor cores round their inputs to 10 bits.
        workspace: largest scratch memory of a layer on the GPU, bytes.
        cache_dir: compiled engines of earlier builds.
    """

    compute_capability: Line | None = None
    max_batch: int = 1
    refit: bool = False
    strip_weights: bool = False
    tf32: bool = False
    workspace: FileSize | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"--max-batch must be at least 1, got {self.max_batch}")

    @property
    def ahead_of_time(self) -> bool:
        """Whether engines are built for a GPU that is not here."""
        if self.compute_capability is None:
            return False
        return parse_compute_capability(self.compute_capability) != find_gpu()

    def describe(self) -> dict[str, object]:
        """What decides the content of an engine, for the incremental build."""
        return {
            "target": self.compute_capability or find_gpu(),
            "refit": self.refit,
            "strip_weights": self.strip_weights,
            "tf32": self.tf32,
            "workspace": self.workspace,
        }

    def list_arguments(self) -> list[str]:
        """Arguments of `xmask3d build` that ask for the same."""
        valued = {
            "--compute-capability": self.compute_capability,
            "--max-batch": self.max_batch if self.max_batch > 1 else None,
            "--workspace": None if self.workspace is None else -(-self.workspace // MIB),
            "--cache-dir": None if self.cache_dir == default_cache_dir() else self.cache_dir,
        }
        flags = {
            "--refit": self.refit,
            "--strip-weights": self.strip_weights,
            "--tf32": self.tf32,
        }
        pairs = [(key, str(value)) for key, value in valued.items() if value is not None]
        return [
            *(text for pair in pairs for text in pair),
            *(flag for flag, wanted in flags.items() if wanted),
        ]


def default_cache_dir() -> Path:
    """Where compiled engines are kept between builds, in the user's cache folder."""
    return find_cache_folder("tensorrt")
