"""Where a worker gets its segmenter: built engines, or the PyTorch module with a checkpoint."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.files import hash_file

if TYPE_CHECKING:
    from xmask3d_rt.segmenter import Segmenter


class SegmenterSource(Protocol):
    """Opens a segmenter in whatever process asks; picklable."""

    @property
    def title(self) -> str:
        """What reports call it."""

    def read_config(self) -> ModelConfig:
        """The model's configuration; also checks that the files are there."""

    def fingerprint(self) -> str:
        """Changes whenever the segmenter would label otherwise."""

    def open(self, number: int = 0) -> "Segmenter":
        """Load it; several GPUs are shared out by the worker's number."""


@dataclass(frozen=True)
class EngineSource:
    """Engines of a folder.

    Attributes:
        engine_dir: the folder.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; None: all.
    """

    engine_dir: Path
    device: str = "auto"
    threads: int | None = None

    @property
    def title(self) -> str:
        """The folder."""
        return str(self.engine_dir)

    def read_config(self) -> ModelConfig:
        """The configuration in the manifest.

        Raises:
            EngineError: no engines, or a file of them is damaged.
        """
        return Manifest.load(self.engine_dir).config

    def fingerprint(self) -> str:
        """Hash of the manifest, which names the hash of every file."""
        text = Manifest.load(self.engine_dir, verify=False).to_json()
        return hashlib.sha256(text.encode()).hexdigest()

    def open(self, number: int = 0) -> "Segmenter":
        """Load the engines.

        Raises:
            EngineError: a file or backend is missing or does not fit.
        """
        from xmask3d_rt.segmenter import Segmenter

        limit_threads(self.threads)
        device = share_device(self.device, number)
        return Segmenter(self.engine_dir, device=device, threads=self.threads)


@dataclass(frozen=True)
class CheckpointSource:
    """The PyTorch module: slower than engines, but nothing needs to be built.

    Attributes:
        checkpoint: weights of the trained part, as released or as training writes them.
        config: of the model.
        sd, clip: weights of Stable Diffusion and CLIP; None for both: made by rule, which only
            means something for models trained with such.
        device, threads: as for `EngineSource`.
    """

    checkpoint: Path
    config: ModelConfig
    sd: Path | None = None
    clip: Path | None = None
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check that both frozen networks come from the same kind of place.

        Raises:
            ValueError: one of `sd` and `clip` alone.
        """
        if (self.sd is None) != (self.clip is None):
            raise ValueError(
                "--checkpoint needs both --sd and --clip, or neither for synthetic ones"
            )

    @property
    def title(self) -> str:
        """The checkpoint."""
        return str(self.checkpoint)

    def read_config(self) -> ModelConfig:
        """The configuration.

        Raises:
            CheckpointError: a weight file is missing, unreadable, of another model or incomplete.
        """
        from xmask3d_rt.model.checkpoints import check_checkpoints

        check_checkpoints(self.config, xmask3d=self.checkpoint, sd=self.sd, clip=self.clip)
        return self.config

    def fingerprint(self) -> str:
        """Hash of the checkpoint, the configuration, and size and time of the other files."""
        parts = [hash_file(self.checkpoint), self.config.to_json()]
        for path in (self.sd, self.clip):
            files = sorted(path.rglob("*")) if path is not None and path.is_dir() else [path]
            stats = [file.stat() for file in files if file is not None]
            parts += [f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def open(self, number: int = 0) -> "Segmenter":
        """Load the module.

        Raises:
            CheckpointError: a file is unreadable, of another model or incomplete.
        """
        from xmask3d_rt.engines.backends import pick_device
        from xmask3d_rt.export.parity.module_pipeline import make_module_segmenter
        from xmask3d_rt.model.checkpoints import load_checkpoints
        from xmask3d_rt.model.synthetic import fill_synthetic
        from xmask3d_rt.model.xmask3d import XMask3D

        limit_threads(self.threads)
        model = XMask3D(self.config)
        if self.sd is None:
            fill_synthetic(model, ("sd", "clip"))
        load_checkpoints(model, xmask3d=self.checkpoint, sd=self.sd, clip=self.clip)
        model.diffusion.embed_empty_prompt()
        device = pick_device(share_device(self.device, number))
        return make_module_segmenter(model.eval().to(device))


def share_device(device: str, number: int) -> str:
    """The device of worker `number`: "auto" goes round the GPUs where there are several."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if device == "auto" and count > 1 else device


def limit_threads(threads: int | None) -> None:
    """Let torch use as many CPU threads as the engines; None leaves it alone."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
