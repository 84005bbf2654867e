"""What `make demo` does around a run: a generated room before it, a score and files after it."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmask3d_rt.config import BUNDLED_PRESET, BUNDLED_WEIGHTS
from xmask3d_rt.data.room import generate_training_room, write_room
from xmask3d_rt.data.rooms.draws import HELD_OUT_FROM
from xmask3d_rt.engines.component import WeightSource
from xmask3d_rt.engines.manifest import MANIFEST_NAME, Manifest, salvage
from xmask3d_rt.errors import EngineError
from xmask3d_rt.evaluation.iou import Confusion
from xmask3d_rt.files import atomic_write, hash_file
from xmask3d_rt.result import Result
from xmask3d_rt.viewing.picture import draw_picture

logger = logging.getLogger(__name__)

OWN_WEIGHTS = ("bundled", "synthetic")  # kinds that nobody brought
PANEL = (608, 533)  # rows, columns of each of three pictures
SAVED = (".ply", ".json")


def has_engines(engine_dir: Path) -> bool:
    """Whether a folder holds whole engines, of any preset and any weights that are not outdated.

    Raises:
        EngineError: it holds damaged ones of another model than the demo's, or of weights that
            somebody brought, which are not to be replaced.
    """
    if not (engine_dir / MANIFEST_NAME).is_file():
        return False
    try:
        return not is_outdated(Manifest.load(engine_dir).weights)
    except EngineError as error:
        # damaged or not, a manifest says what the demo builds
        present = salvage(engine_dir)
        if (
            present is None
            or present.config.name != BUNDLED_PRESET
            or present.weights.kind not in OWN_WEIGHTS
        ):
            raise EngineError(
                f"{error}; the demo does not replace other engines than its own: mend them, or "
                "give another --engine-dir"
            ) from error
        logger.warning("building anew: %s", error)
        return False


def is_outdated(weights: WeightSource) -> bool:
    """Whether these are weights that an earlier version of the package held."""
    if weights.kind != "bundled":
        return False
    return weights.files[0].sha256 != hash_file(BUNDLED_WEIGHTS)


def make_room(folder: Path, seed: int, views: int) -> Path:
    """Write a generated room that no training saw, as an RGB-D folder with its labelled cloud.

    Raises:
        FileExistsError: the folder holds anything else than an RGB-D folder.
    """
    return write_room(generate_training_room(HELD_OUT_FROM + seed, views), folder)


def describe_score(result: Result, truth: np.ndarray) -> str:
    """How much of a room is labelled rightly, in words.

    Args:
        result: of the room.
        truth: [N] class of each point.
    """
    confusion = Confusion(len(result.classes))
    confusion.add(result.labels, truth)
    occurs = confusion.target > 0
    right = 100 * float((result.labels == truth).mean())
    mean = 100 * float(confusion.iou[occurs].mean())
    return (
        f"{right:.0f} % of the points are labelled rightly; mean IoU {mean:.0f} % over the "
        f"{int(occurs.sum())} kinds in the room"
    )


def save_result(result: Result, truth: np.ndarray, folder: Path) -> list[Path]:
    """Save the labelled cloud as PLY and JSON, and the picture of `draw_comparison` as PNG.

    Returns:
        The paths.
    """
    files = [result.save(folder / f"room_labelled{suffix}") for suffix in SAVED]
    return [*files, draw_comparison(result, truth, folder / "room_labelled.png")]


def draw_comparison(result: Result, truth: np.ndarray, path: Path) -> Path:
    """Draw a room in its colours, with its labels, and with the classes it is made of.

    Args:
        result: of the room.
        truth: [N] class of each point.
        path: .png to write.

    Returns:
        The path.
    """
    title = (
        f"A generated room of {len(truth):,} points that training has not seen, "
        f"{len(result.views)} views: {describe_score(result, truth)}"
    )
    panels = result.draw_panels(PANEL, {"true classes": truth})
    rows = replace(result, labels=truth, heads={}).list_rows()
    with atomic_write(path) as temporary:
        draw_picture(title, panels, rows).save(temporary, "PNG")
    return path
