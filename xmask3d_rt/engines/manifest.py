"""`manifest.json`: what lies in an engine directory, where it came from and how it was checked.

The manifest is written last and atomically, so a directory that has one is complete. Loading
checks schema, presence and size of every file, and its SHA-256 unless the file is unchanged
since the last time it was hashed (see `verify_files`).
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmask3d_rt.config import ClassSplit, ModelConfig, Precision
from xmask3d_rt.engines.base import AxisRange, Signature, TensorSpec
from xmask3d_rt.engines.files import FileEntry, verify_files, write_atomically
from xmask3d_rt.errors import EngineError

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Parity:
    """How an exported component was checked against the PyTorch module.

    `errors` is the relative L2 error of each output, `tolerances` the largest ones allowed.
    """

    reference: str
    tolerances: dict[str, float]
    errors: dict[str, float]

    @property
    def tolerance(self) -> float:
        """The widest tolerance of any output."""
        return max(self.tolerances.values(), default=0.0)


@dataclass(frozen=True)
class Component:
    """One part of the model as exported.

    Attributes:
        name: `unet`, `vae_encoder`, …
        backend: library that runs it; `torch` for weights that run outside an engine.
        precision: arithmetic it was built with.
        files: its files; the first one is the one to open.
        signature: inputs, outputs and profile; None for plain weights.
        fingerprint: hash of everything the files depend on.
        parity: the check after export.
        opset: ONNX opset, where there is one.
        reason: why this backend and precision were chosen.
    """

    name: str
    backend: str
    precision: Precision
    files: tuple[FileEntry, ...]
    signature: Signature | None
    fingerprint: str
    parity: Parity | None
    opset: int | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as stored in the manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Component":
        """Rebuild a component from `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: missing or unknown values.
            EngineError: values outside their range.
        """
        parity = values["parity"]
        return cls(
            name=values["name"],
            backend=values["backend"],
            precision=Precision(values["precision"]),
            files=_read_files(values["files"]),
            signature=_read_signature(values["signature"]),
            fingerprint=values["fingerprint"],
            parity=None if parity is None else Parity(**parity),
            opset=values["opset"],
            reason=values["reason"],
        )


@dataclass(frozen=True)
class WeightSource:
    """Where the weights came from: `synthetic`, or `files` with a hash of each."""

    kind: str
    files: tuple[FileEntry, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("synthetic", "files"):
            raise EngineError(f"weights kind must be synthetic or files, got {self.kind!r}")


@dataclass(frozen=True)
class Manifest:
    """Contents of an engine directory.

    Attributes:
        config: the model, its class split included.
        weights: where the weights came from.
        versions: library name → version used for the build.
        components: component per name.
        root: the directory; not part of the JSON.
    """

    config: ModelConfig
    weights: WeightSource
    versions: dict[str, str]
    components: dict[str, Component]
    root: Path = field(default=Path(), compare=False)

    @property
    def split(self) -> ClassSplit:
        """Benchmark classes of the checkpoint, base and novel."""
        return self.config.split

    def get(self, name: str) -> Component:
        """One component.

        Raises:
            EngineError: the directory holds no component of this name.
        """
        if name not in self.components:
            raise EngineError(
                f"{self.root} holds no component {name!r} (it has "
                f"{', '.join(sorted(self.components)) or 'none'}); run "
                f"`xmask3d build --preset {self.config.name} --out {self.root}`"
            )
        return self.components[name]

    def path_of(self, name: str) -> Path:
        """The file of a component that a backend or a reader opens."""
        return self.root / self.get(name).files[0].path

    def list_files(self) -> list[FileEntry]:
        """Every file of every component."""
        return [entry for component in self.components.values() for entry in component.files]

    def verify(self, full: bool = False) -> None:
        """Check that every file is there, whole and unchanged.

        Args:
            full: hash every file again, also those hashed before and untouched since.

        Raises:
            EngineError: a missing, truncated or changed file.
        """
        verify_files(self.root, self.list_files(), full=full)

    def to_json(self) -> str:
        """The manifest as indented JSON."""
        values = {
            "schema": SCHEMA_VERSION,
            "config": self.config.to_dict(),
            "class_split": {
                "base": self.split.base_names,
                "novel": [self.split.names[i] for i in self.split.novel],
            },
            "weights": dataclasses.asdict(self.weights),
            "versions": self.versions,
            "components": {name: c.to_dict() for name, c in self.components.items()},
        }
        return json.dumps(values, indent=2) + "\n"

    def save(self) -> Path:
        """Write `manifest.json` into `root` atomically; returns its path."""
        return write_atomically(self.root / MANIFEST_NAME, self.to_json())

    @classmethod
    def load(cls, root: Path | str, verify: bool = True) -> "Manifest":
        """Read the manifest of an engine directory and check its files.

        Args:
            root: the directory.
            verify: check the files as `Manifest.verify` does.

        Raises:
            EngineError: no manifest, not readable, of a newer schema, or a missing, truncated
                or changed file.
        """
        root = Path(root)
        values = _read_json(root)
        schema = values.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA_VERSION:
            raise EngineError(
                f"{root / MANIFEST_NAME} has schema {schema}, this version reads up to "
                f"{SCHEMA_VERSION}; update xmask3d_rt or rebuild with `xmask3d build --out {root}`"
            )
        try:
            manifest = cls(
                config=ModelConfig.from_dict(values["config"]),
                weights=_read_weights(values["weights"]),
                versions=values["versions"],
                components={k: Component.from_dict(v) for k, v in values["components"].items()},
                root=root,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{root / MANIFEST_NAME} is damaged ({type(error).__name__}: {error}); "
                f"rebuild with `xmask3d build --out {root}`"
            ) from error
        if verify:
            manifest.verify()
        return manifest


def _read_json(root: Path) -> dict[str, Any]:
    path = root / MANIFEST_NAME
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise EngineError(
            f"{root} has no {MANIFEST_NAME}; build engines into it with "
            f"`xmask3d build --out {root}`"
        ) from error
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read ({error}); rebuild the directory") from error
    if not isinstance(values, dict):
        raise EngineError(f"{path} is not a manifest; rebuild the directory")
    return values


def _read_files(values: list[dict[str, Any]]) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(**entry) for entry in values)


def _read_weights(values: dict[str, Any]) -> WeightSource:
    return WeightSource(kind=values["kind"], files=_read_files(values["files"]))


def _read_specs(values: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(v["name"], v["dtype"], tuple(v["shape"])) for v in values)


def _read_signature(values: dict[str, Any] | None) -> Signature | None:
    if values is None:
        return None
    return Signature(
        inputs=_read_specs(values["inputs"]),
        outputs=_read_specs(values["outputs"]),
        profile={axis: AxisRange(**bounds) for axis, bounds in values["profile"].items()},
    )
