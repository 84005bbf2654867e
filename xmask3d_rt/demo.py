"""What `make demo` does around a run: a generated room before it, files to look at after it."""

import logging
from pathlib import Path

from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.engines.manifest import MANIFEST_NAME, Manifest
from xmask3d_rt.errors import EngineError
from xmask3d_rt.result import Result

logger = logging.getLogger(__name__)

RESULT_SUFFIXES = (".ply", ".png", ".json")


def has_engines(engine_dir: Path) -> bool:
    """Whether a folder holds whole engines of any preset; damaged ones count as none."""
    if not (engine_dir / MANIFEST_NAME).is_file():
        return False
    try:
        Manifest.load(engine_dir)
    except EngineError as error:
        logger.warning("building anew: %s", error)
        return False
    return True


def make_room(folder: Path, seed: int, views: int) -> Path:
    """Write a generated room as an RGB-D folder with `scene.ply` and `classes.txt`.

    Raises:
        FileExistsError: the folder holds anything else than an RGB-D folder.
    """
    return write_room(generate_room(seed=seed, views=views), folder)


def save_result(result: Result, folder: Path) -> list[Path]:
    """Save the labelled cloud as PLY, PNG and JSON; returns the paths."""
    return [result.save(folder / f"room_labelled{suffix}") for suffix in RESULT_SUFFIXES]
