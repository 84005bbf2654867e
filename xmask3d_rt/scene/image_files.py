"""Colour and depth images from disk."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.arrays import read_array
from xmask3d_rt.errors import one_line

# What cameras and their tools write (MPO is read as JPEG). Other formats of Pillow start programs
# (EPS) or hold no photographs.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
COLOR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
# Deflate, the densest of these, turns a byte into 1,032 at most: 8 pixels of one bit each.
MOST_PIXELS_PER_BYTE = {"PNG": 8256, "TIFF": 8256, "BMP": 8256, "JPEG": 8256, "MPO": 8256}
DEPTH_ADVICE = "give a one-channel 16-bit PNG in millimetres, a float TIFF or a .npy in metres"


def read_color(path: Path) -> np.ndarray:
    """An image file as [H, W, 3] uint8 RGB; 16-bit grey is scaled to 8 bits.

    Raises:
        FileNotFoundError: no such file.
        ValueError: Pillow cannot read it, it is too large, or its pixels are no colours.
    """
    image = _load_image(path)
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.uint32)
        # 65535 = 255 · 257: halves are impossible, so this rounds exactly.
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode not in COLOR_MODES:
        raise ValueError(
            f"{one_line(path)} holds no colours (its mode is {image.mode}); give an image with 8 "
            "or 16 bits per channel"
        )
    # Pillow warns of transparent palettes on the direct way to RGB.
    image = image.convert("RGBA") if image.mode in ("P", "PA") else image
    return np.asarray(image.convert("RGB"))


def read_depth(path: Path) -> np.ndarray:
    """A depth file as [h, w] in its own units: 16-bit PNG, integer or float TIFF, .npy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, an image with several channels, or one of 8 bits.
    """
    if path.suffix.lower() == ".npy":
        return read_array(path)
    image = _load_image(path)
    if image.mode == "L":
        raise ValueError(
            f"{one_line(path)} is an 8-bit image: 256 steps are too few for depth; {DEPTH_ADVICE}"
        )
    if image.mode not in (*SIXTEEN_BITS, "I", "F"):
        raise ValueError(
            f"{one_line(path)} is a colour image (mode {image.mode}), not depth; {DEPTH_ADVICE}"
        )
    return np.asarray(image)


def read_ids(path: Path) -> np.ndarray:
    """A label image as [h, w] integers: the values of one channel, or the indices of a palette.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, or other than whole numbers in one channel.
    """
    image = _load_image(path)
    if image.mode not in (*SIXTEEN_BITS, "I", "L", "P"):
        raise ValueError(
            f"{one_line(path)} is no label image (mode {image.mode}); give a one-channel PNG of ids"
        )
    return np.asarray(image)


def read_size(path: Path) -> tuple[int, int]:
    """Columns and rows of an image file, from its header.

    Raises:
        OSError, ValueError: missing, or no image.
    """
    with _import_pillow().open(path, formats=FORMATS) as image:
        width, height = image.size
    return width, height


def _load_image(path: Path) -> Any:
    """A decoded Pillow image."""
    if not path.is_file():
        raise FileNotFoundError(f"no image file {one_line(path)}")
    pillow = _import_pillow()
    try:
        with pillow.open(path, formats=FORMATS) as image:
            _check_claim(image, path)
            image.load()
    except _ImageError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        why = one_line(error) or type(error).__name__
        raise ValueError(f"{one_line(path)} cannot be read as an image: {why}") from error
    return image


class _ImageError(ValueError):
    """An image whose header says that it must not be decoded."""


def _check_claim(image: Any, path: Path) -> None:
    """Believe no size beyond what the bytes of the file can hold."""
    (width, height), size = image.size, path.stat().st_size
    most = MOST_PIXELS_PER_BYTE.get(image.format)
    if most is not None and width * height > most * size:
        raise _ImageError(
            f"{one_line(path)} is damaged: it claims {width}x{height} pixels, but has {size} bytes"
        )


@cache
def _import_pillow() -> Any:
    """Pillow's `Image`; its two-line warnings of damaged TIFFs and 89 megapixels are switched off.

    What it cannot read, and images of twice that size, are errors of one line here.
    """
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
    return Image
