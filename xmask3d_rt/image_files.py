"""Colour and depth images from disk."""

from pathlib import Path

import numpy as np

from xmask3d_rt.arrays import read_array


def read_color(path: Path) -> np.ndarray:
    """An image file as [H, W, 3] uint8 RGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: Pillow cannot read it.
    """
    with _open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_depth(path: Path) -> np.ndarray:
    """A depth file as [h, w] in its own units: 16-bit PNG, integer or float TIFF, .npy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or an image with several channels.
    """
    if path.suffix.lower() == ".npy":
        if not path.is_file():
            raise FileNotFoundError(f"no depth file {path}")
        return read_array(path)
    with _open(path) as image:
        if image.mode not in ("I;16", "I;16B", "I;16L", "I", "F", "L"):
            raise ValueError(
                f"{path} is a colour image (mode {image.mode}), not depth; give a one-channel "
                "16-bit PNG in millimetres or a float TIFF in metres"
            )
        return np.asarray(image)


def _open(path: Path):
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    try:
        image = Image.open(path)
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return image
