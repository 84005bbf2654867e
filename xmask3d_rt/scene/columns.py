"""Which columns of a table are positions and colours, by their names, and colours as 0..255.

One rule for the properties of a PLY file, the fields of a PCD file and the heading of a text
file. Names count without regard to case, quotes and units.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmask3d_rt.errors import one_line

Names = tuple[str, str, str]

AXIS_FORMS = ("{}", "p{}", "pos_{}", "position_{}", "coord_{}", "point_{}", "{}_coord")
POSITION_NAMES: tuple[Names, ...] = (
    *((form.format("x"), form.format("y"), form.format("z")) for form in AXIS_FORMS),
    ("points_0", "points_1", "points_2"),
    ("easting", "northing", "elevation"),
    ("easting", "northing", "height"),
)
COLOR_PREFIXES = ("orig_", "", "diffuse_", "scalar_", "color_", "colour_", "vertex_")
COLOR_STEMS: tuple[Names, ...] = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("rf", "gf", "bf"),
    *((f"{name}_0", f"{name}_1", f"{name}_2") for name in ("rgb", "color", "colors")),  # ParaView
)
# The names a labelled file has for the colours of its cloud come first.
COLOR_NAMES: tuple[Names, ...] = tuple(
    (f"{prefix}{stem[0]}", f"{prefix}{stem[1]}", f"{prefix}{stem[2]}")
    for stem in COLOR_STEMS
    for prefix in COLOR_PREFIXES
)
UNITS = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")
PACKED_NAMES = (("rgb",), ("rgba",))
MAX_COLUMNS = 4096
MIN_ROUNDED = 8  # different numbers that all end in 00 do so by rounding
DARKEST = 2  # of colours up to 255; fractions that end below are 0..1 gone a little too far
DARK_16_BIT = 4096  # a table without types whose colours end below is no table of 16-bit colours


@dataclass(frozen=True, eq=False)
class NamedTable:
    """Columns [N] by name, as a file has them."""

    names: Sequence[str]
    columns: Sequence[np.ndarray]

    def find_used(self) -> tuple[int, ...]:
        """Indices of the columns of positions, then of colours; none without positions.

        Raises:
            ValueError: several columns of the same name.
        """
        points = find_columns(self.names, POSITION_NAMES)
        if points is None:
            return ()
        colors = find_columns(self.names, COLOR_NAMES) or find_columns(self.names, PACKED_NAMES)
        return (*points, *(colors or ()))

    def take_points(self) -> np.ndarray:
        """Positions [N, 3].

        Raises:
            ValueError: no columns for them, or several of the same name.
        """
        points = self._stack(find_columns(self.names, POSITION_NAMES))
        if points is None:
            raise ValueError(f"no columns x, y and z (it has {list_names(self.names)})")
        return points

    def take_colors(self) -> np.ndarray | None:
        """Colours [N, 3], in three columns or packed in one, or None without.

        Raises:
            ValueError: several columns of the same name; packed colours that are none.
        """
        found = find_columns(self.names, COLOR_NAMES)
        packed = find_columns(self.names, PACKED_NAMES)
        if found is None and packed is not None:
            return unpack_colors(self.columns[packed[0]])
        return self._stack(found)

    def _stack(self, found: tuple[int, ...] | None) -> np.ndarray | None:
        if found is None:
            return None
        return np.stack([self.columns[index] for index in found], axis=1)


def find_columns(names: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> tuple[int, ...] | None:
    """Indices of the first full set of names that is there; None without any.

    Raises:
        ValueError: one of them is there several times, or too many columns to look at.
    """
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"it has {len(names)} columns, more than {MAX_COLUMNS}")
    plain = [simplify_name(name) for name in names]
    held = set(plain)
    for group in wanted:
        if not held.issuperset(group):
            continue
        return tuple(_find_one(name, names, plain) for name in group)
    return None


def simplify_name(name: str) -> str:
    """A column's name in lower case without quotes and units: `"Red" [0-255]` is red."""
    name = UNITS.sub("", name)
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def unpack_colors(values: np.ndarray) -> np.ndarray:
    """Colours [N, 3] of packed ones [N], 0xRRGGBB; NaN where a value is missing.

    Point Cloud Library keeps the bits of the number in a float, but other writers put the number
    itself there. Without alpha the two never meet: such bits are floats below 1e-37.

    Args:
        values: float32 from a binary file, float64 from text, or integers.

    Raises:
        ValueError: integers too small for three bytes; text with numbers that are not whole.
    """
    if values.dtype.kind != "f":
        if values.dtype.itemsize < 4:
            raise ValueError(f"its packed rgb is {values.dtype}, which cannot hold three bytes")
        return _split_bits(values)
    number = (values >= 1) & (values < 1 << 32)
    rest = values[~number & np.isfinite(values)]
    if number.any() and not (values[number] % 1).any() and not rest.any():
        missing = ~np.isfinite(values)
        packed = np.where(number, values, 0).astype(np.int64)
        _check_rounding(packed)
    elif number.any() and values.dtype == np.float64:
        raise ValueError(
            "its packed rgb is neither the whole number 0xRRGGBB nor the bits of one, with values "
            f"from {np.nanmin(values):g} to {np.nanmax(values):g}; write r, g and b"
        )
    else:
        with np.errstate(over="ignore"):
            packed = values.astype(np.float32).view(np.uint32)
        missing = packed == np.float32(np.nan).view(np.uint32)
    colors = _split_bits(packed)
    return np.where(missing[:, None], np.nan, colors) if missing.any() else colors


def _check_rounding(packed: np.ndarray) -> None:
    """Refuse numbers of which a text keeps six digits: 1.05222e+07 has lost its blue."""
    long = np.unique(packed[packed >= 10**7])
    if len(long) >= MIN_ROUNDED and not (long % 100).any():
        raise ValueError(
            "its packed rgb was rounded when it was written (all values end in 00, up to "
            f"{long[-1]}), which destroys blue; write whole numbers, or r, g and b"
        )


def _split_bits(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)


def scale_colors(rgb: np.ndarray, typed: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Finite colours [N, 3] as 0..255, and what was done to them.

    Args:
        rgb: as the file has them.
        typed: the file says the type of its columns. Floating point colours then count as 0..1
            where none exceeds 1; in a table without types only those that are not whole do.

    Raises:
        ValueError: colours that are neither 0..1 nor 0..255.
    """
    if rgb.dtype == np.uint8 or not rgb.size:
        return rgb, ()
    low, high = rgb.min(), rgb.max()
    whole = rgb.dtype.kind in "iu" or not (rgb % 1).any()
    if rgb.dtype.kind == "f" and low >= 0 and high <= 1 and (typed or not whole):
        return rgb * 255, ("colours from 0 to 1 were multiplied by 255",)
    if not whole and 1 < high < DARKEST:
        raise ValueError(
            f"its colours go from {low:g} to {high:g}, which is neither 0 to 1 nor 0 to 255"
        )
    sixteen = rgb.dtype == np.uint16 or (whole and high >= DARK_16_BIT)
    if sixteen and low >= 0 and 255 < high < 1 << 16:
        scaled = np.rint(rgb / 257).astype(np.uint8)
        return scaled, (f"16-bit colours (up to {high:g}) were divided by 257",)
    return rgb, ()


def list_names(names: Sequence[str]) -> str:
    """Column names for a message."""
    return one_line(", ".join(names), 200) or "none"


def _find_one(name: str, names: Sequence[str], plain: Sequence[str]) -> int:
    """Index of a column: the one that is spelt like this, else the only one that means it."""
    if list(names).count(name) == 1:
        return list(names).index(name)
    if plain.count(name) > 1:
        raise ValueError(f"several columns are called {name}: {list_names(names)}")
    return plain.index(name)
