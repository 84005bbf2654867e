"""What `make demo` does around a run: a generated room before it, files to look at after it."""

import logging
from dataclasses import replace
from pathlib import Path

from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.engines.manifest import MANIFEST_NAME, Manifest, salvage
from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import atomic_write
from xmask3d_rt.result import Result
from xmask3d_rt.viewing.picture import PANEL, draw_picture

logger = logging.getLogger(__name__)

PRESET, WEIGHTS = "tiny", "synthetic"
RESULT_SUFFIXES = (".ply", ".png", ".json")


def has_engines(engine_dir: Path) -> bool:
    """Whether a folder holds whole engines, of any preset and any weights.

    Raises:
        EngineError: it holds damaged ones of another model than the demo's, or of real weights,
            which are not to be replaced.
    """
    if not (engine_dir / MANIFEST_NAME).is_file():
        return False
    try:
        Manifest.load(engine_dir)
    except EngineError as error:
        # damaged or not, a manifest says what the demo builds: tiny, synthetic weights
        present = salvage(engine_dir)
        if present is None or (present.config.name, present.weights.kind) != (PRESET, WEIGHTS):
            raise EngineError(
                f"{error}; the demo does not replace other engines than its own: mend them, or "
                "give another --engine-dir"
            ) from error
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


def draw_truth(result: Result, path: Path) -> Path:
    """Draw the room with the classes it is made of: what labels with real weights would be.

    Args:
        result: of the room; its cloud has the true labels as a property of its file.
        path: .png to write.

    Returns:
        The path.
    """
    truth = replace(result, labels=result.cloud.source.vertex.numbers["label"], heads={})
    title = f"A generated room, {len(truth):,} points: its colours, and the classes it is made of"
    with atomic_write(path) as temporary:
        draw_picture(title, truth.draw_panels(PANEL), truth.list_rows()).save(temporary, "PNG")
    return path
