"""Which files a folder has for which frame, and what lies in the place of a missing one."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class FrameFiles:
    """The files of one folder by frame, the name of the file without its suffix.

    `files`: the file to read. `twins`: further files of a frame, which are not read. `empty`:
    files without content. `others`: files of kinds that are not read here.
    """

    files: dict[str, Path] = field(default_factory=dict)
    twins: dict[str, Path] = field(default_factory=dict)
    empty: dict[str, Path] = field(default_factory=dict)
    others: dict[str, Path] = field(default_factory=dict)


def list_frames(folder: Path, suffixes: Sequence[str]) -> FrameFiles:
    """The files of a folder by frame; hidden ones do not count, nor does the case of suffixes.

    Of several files of a frame the suffix that comes first in `suffixes` wins.
    """
    found = FrameFiles()
    for path in sorted(list_visible(folder), key=lambda path: _rank(path, suffixes)):
        if not path.is_file():
            continue
        if path.suffix.lower() not in suffixes:
            found.others.setdefault(path.stem, path)
        elif not path.stat().st_size:
            found.empty.setdefault(path.stem, path)
        elif path.stem in found.files:
            found.twins.setdefault(path.stem, path)
        else:
            found.files[path.stem] = path
    return found


def _rank(path: Path, suffixes: Sequence[str]) -> tuple[int, str]:
    suffix = path.suffix.lower()
    return (suffixes.index(suffix) if suffix in suffixes else len(suffixes), path.name)


def list_visible(folder: Path) -> list[Path]:
    """What a folder holds, without hidden files such as macOS's ._0.jpg; sorted by name."""
    names = sorted(os.listdir(folder))
    return [folder / name for name in names if not name.startswith(".")]


def find_entry(folder: Path, name: str) -> Path:
    """The entry of this name, in the case it has; `folder / name` where there is none."""
    exact = folder / name
    if exact.exists() or not folder.is_dir():
        return exact
    alike = [path for path in list_visible(folder) if path.name.lower() == name.lower()]
    return alike[0] if alike else exact


def find_near(folder: Path, words: Iterable[str]) -> list[str]:
    """Names in a folder that contain one of `words`: what may be meant by a missing entry."""
    names = [f"{path.name}/" if path.is_dir() else path.name for path in list_visible(folder)]
    return [name for name in names if any(word in name.lower() for word in words)]
