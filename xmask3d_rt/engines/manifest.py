"""`manifest.json`: what lies in an engine directory, where it came from and how it was checked.

The manifest is written last and atomically, so a directory that has one is complete. Loading
checks schema, presence and size of every file, and its SHA-256 unless the file is unchanged
since the last time it was hashed (see `verify_files`).
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from xmask3d_rt.components import IMAGES
from xmask3d_rt.config import PRESETS, ClassSplit, ModelConfig, get_preset
from xmask3d_rt.engines.build_command import format_command, list_arguments
from xmask3d_rt.engines.component import WEIGHT_KINDS, Component, WeightSource
from xmask3d_rt.engines.files import FileEntry, verify_files, write_atomically
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError
from xmask3d_rt.records import Line, read_values, record, show, to_values

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 2  # 2: `options` and `device` of each component
_PRESET = re.compile(r'"config":\s*\{\s*"name":\s*"(\w+)"')
_KIND = re.compile(rf'"kind":\s*"({"|".join(WEIGHT_KINDS)})"')


@record(EngineError)
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
    versions: dict[Line, Line]
    components: dict[Line, Component]
    root: Path = field(default=Path(), compare=False)

    def __post_init__(self) -> None:
        for name, component in self.components.items():
            if component.name != name:
                raise ValueError(f"components.{name}: its name is {component.name!r}")
            if not component.files:
                raise ValueError(f"components.{name}.files: a component has at least one file")

    @property
    def split(self) -> ClassSplit:
        """Benchmark classes of the checkpoint, base and novel."""
        return self.config.split

    @property
    def weights_note(self) -> str | None:
        """What labels with these weights mean, a sentence; None where the user brought them all."""
        said = self.weights.describe_limits(f" of {self.root}")
        return None if said is None else f"the {said}"

    def get(self, name: str) -> Component:
        """One component.

        Raises:
            EngineError: the directory holds no component of this name.
        """
        if name not in self.components:
            raise EngineError(
                f"{self.root} holds no component {name!r} (it has "
                f"{', '.join(sorted(self.components)) or 'none'}); {describe_fix(self, name)}"
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
        owners = {e.path: name for name, c in self.components.items() for e in c.files}
        verify_files(
            self.root,
            self.list_files(),
            full=full,
            describe_fix=lambda entry: describe_fix(self, owners[entry.path]),
        )

    def to_json(self) -> str:
        """The manifest as indented JSON."""
        values = {
            "schema": SCHEMA_VERSION,
            "config": to_values(self.config),
            "class_split": {
                "base": self.split.base_names,
                "novel": [self.split.names[i] for i in self.split.novel],
            },
            "weights": to_values(self.weights),
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
        path = root / MANIFEST_NAME
        try:
            manifest = _parse(path.read_bytes(), root)
        except FileNotFoundError as error:
            raise EngineError(
                f"{root} has no {MANIFEST_NAME}; build engines into it with "
                f"{_suggest_first_build(root)}"
            ) from error
        except (NotADirectoryError, PermissionError) as error:  # a build would not help
            raise EngineError(
                f"{path}: {error.strerror}; check --engine-dir, and that you may read it"
            ) from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise EngineError(f"{path}: {reason}; {describe_rebuild(root)}") from error
        if verify:
            manifest.verify()
        return manifest


def _parse(content: bytes, root: Path) -> Manifest:
    try:
        values = from_json(content)
    except ValueError as error:
        raise ValueError(f"cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError("is not a manifest")
    schema = values.pop("schema", None)
    if type(schema) is not int or not 1 <= schema <= SCHEMA_VERSION:
        raise ValueError(
            f"has schema {show(schema)}, this version reads up to {SCHEMA_VERSION} (an update of "
            f"xmask3d_rt may read it)"
        )
    values.pop("class_split", None)  # for readers of the JSON; it follows from the configuration
    try:
        manifest = read_values(Manifest, values | {"root": str(root)})
    except ValueError as error:
        raise ValueError(f"{error}; the manifest is damaged") from error
    if schema > 1:
        return manifest
    parts = {name: _recover_options(part) for name, part in manifest.components.items()}
    return dataclasses.replace(manifest, components=parts)


def _recover_options(component: Component) -> Component:
    """A component of a manifest of schema 1 with the build options that its parts show."""
    profile = {} if component.signature is None else component.signature.profile
    opened, *beside = [entry.path.endswith(".onnx") for entry in component.files]
    options = BuildOptions(
        max_batch=profile[IMAGES].max if IMAGES in profile else 1,
        strip_weights=any(beside) and not opened,  # a graph beside an engine holds its weights
    )
    return dataclasses.replace(component, options=options)


def describe_fix(manifest: Manifest, name: str | None = None, here: bool = False) -> str:
    """How to build a component, or all of a directory; arguments as of `list_arguments`."""
    try:
        return f"rebuild it with {format_command(list_arguments(manifest, name, here=here))}"
    except EngineError as error:
        return str(error)


def describe_rebuild(
    root: Path, name: str | None = None, here: bool = False, known: Sequence[str] = ()
) -> str:
    """How to build what lies in a directory again, even where its manifest is damaged.

    Args:
        root: the directory.
        name: of a component; None means all of them.
        here: for the machine at hand, not as it was built.
        known: arguments to name where there is no manifest to take them from.
    """
    found = salvage(root)
    if found is not None:
        return describe_fix(found, name if name in found.components else None, here)
    preset = ("--preset", _find_preset(_read_text(root)) or "PRESET")
    command = format_command([*preset, "--out", str(root), *(known or ("--replace",))])
    return f"rebuild it with the options that you used: {command}"


def salvage(root: Path) -> Manifest | None:
    """What can be read of a manifest; one that is damaged still says what was built.

    Returns:
        a manifest that may lack components, files of the weights and versions; None where even
        the preset cannot be read.
    """
    text = _read_text(root)
    with contextlib.suppress(ValueError, EngineError):
        return _parse(text.encode(), root)
    preset, kind = _find_preset(text), _KIND.search(text)
    if preset is None or kind is None:
        return None
    values: Any = {}
    with contextlib.suppress(ValueError):
        values = from_json(text)
    weights = WeightSource(kind[1])
    parts = {}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        weights = read_values(WeightSource, values["weights"])
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        for name, part in values["components"].items():
            with contextlib.suppress(ValueError):
                parts[name] = Component.from_dict(part)
    named = {name: part for name, part in parts.items() if part.name == name and part.files}
    return Manifest(get_preset(preset), weights, {}, named, root)


def _read_text(root: Path) -> str:
    try:
        return (root / MANIFEST_NAME).read_text(errors="replace")
    except OSError:
        return ""


def _find_preset(text: str) -> str | None:
    """Name of the preset in the text of a manifest, however damaged the rest is."""
    match = _PRESET.search(text)
    return match[1] if match is not None and match[1] in PRESETS else None


def _suggest_first_build(root: Path) -> str:
    """A command that harms nothing: the preset is left open where files lie already."""
    empty = not root.is_dir() or not any(root.iterdir())
    return format_command(["--preset", "tiny" if empty else "PRESET", "--out", str(root)])
