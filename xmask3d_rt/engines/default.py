"""The engines of a `Segmenter` that is given none: built once, from the package's own weights."""

import logging
from pathlib import Path

import torch
from filelock import FileLock

from xmask3d_rt.config import BUNDLED_PRESET, BUNDLED_WEIGHTS
from xmask3d_rt.engines.manifest import Manifest
from xmask3d_rt.engines.rebuild import BUILD_MODULE, run_build
from xmask3d_rt.errors import EngineError
from xmask3d_rt.files import hash_file
from xmask3d_rt.system.folders import find_cache_folder
from xmask3d_rt.version import __version__

# Over whatever the folder holds: it is the package's own.
BUILD_BUNDLED = ("--preset", BUNDLED_PRESET, "--weights", "bundled", "--replace")
HASH_LETTERS = 8

logger = logging.getLogger(__name__)


def find_default_engines(device: torch.device) -> Path:
    """Where the engines of the package's own weights lie for a kind of device, built or not.

    Raises:
        EngineError: this installation has no weights of its own.
    """
    if not BUNDLED_WEIGHTS.is_file():
        raise EngineError(
            f"{BUNDLED_WEIGHTS} is missing, so there are no default engines; install the package "
            "again, or pass the folder of engines that `xmask3d build` made"
        )
    weights = hash_file(BUNDLED_WEIGHTS)[:HASH_LETTERS]
    return find_cache_folder("engines") / f"{__version__}-{weights}-{device.type}"


def prepare_default_engines(device: torch.device) -> Path:
    """The folder of the default engines, which are built if they are not there.

    Args:
        device: where they will run.

    Raises:
        EngineError: the build failed; the message has its last line.
    """
    folder = find_default_engines(device)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not _is_whole(folder):
            _build(folder, device)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        Manifest.load(folder)
    except EngineError:
        return False
    return True


def _build(folder: Path, device: torch.device) -> None:
    logger.warning(
        "building the engines of the package's own weights in %s: once, about two minutes", folder
    )
    where = ("--out", str(folder), "--device", str(device))
    run_build((BUILD_MODULE, *BUILD_BUNDLED, *where), f"building the default engines in {folder}")
