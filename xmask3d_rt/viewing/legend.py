"""Lists of classes in pictures: a swatch of each colour, the name, and the share of the points."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from xmask3d_rt.viewing.fonts import draw_text, measure_text, wrap_text

BACKGROUND = (250, 250, 248)
INK = (30, 30, 30)
FRAME = (90, 90, 90)
TEXT = 22  # pixels
COLUMN = 330  # pixels
LEAST_SHARE = 0.0005  # of the points; less is written as 0.0 %
REST = (255, 255, 255)


class LegendRow(NamedTuple):
    """A class as a legend lists it."""

    name: str
    color: tuple[int, int, int]
    share: float | None = None  # of the points


def list_rows(
    names: Sequence[str], colors: np.ndarray, counts: Any = None, limit: int | None = None
) -> list[LegendRow]:
    """Rows of a legend; without the classes whose share would read 0.0 %.

    Args:
        names: class names, in the order to list.
        colors: [C, 3] uint8, one per name.
        counts: points per class; None leaves shares out.
        limit: classes to list; the others, where they have points to speak of, are summed up in
            a last row.

    Raises:
        ValueError: colours or counts that do not match the names.
    """
    table = np.asarray(colors)
    if table.shape != (len(names), 3):
        raise ValueError(
            f"draw_legend: colors must have shape [{len(names)}, 3] like names, "
            f"got {list(table.shape)}"
        )
    if counts is not None and len(counts) != len(names):
        raise ValueError(f"draw_legend: {len(counts)} counts for {len(names)} names")
    shares = None if counts is None else np.asarray(counts) / max(int(np.sum(counts)), 1)
    shown = [i for i in range(len(names)) if shares is None or shares[i] >= LEAST_SHARE]
    listed = shown[:limit]
    rows = [
        LegendRow(
            names[i],
            (int(table[i, 0]), int(table[i, 1]), int(table[i, 2])),
            None if shares is None else float(shares[i]),
        )
        for i in listed
    ]
    rest = 0.0 if shares is None else 1 - float(shares[listed].sum())
    if len(listed) < len(shown) and rest >= LEAST_SHARE:
        rows.append(LegendRow(f"{len(shown) - len(listed)} more", REST, rest))
    return rows


def draw_legend(
    image: np.ndarray,
    names: Sequence[str],
    colors: np.ndarray,
    counts: np.ndarray | Sequence[int] | None = None,
) -> np.ndarray:
    """A picture with a list of classes beside it: a swatch of each colour and the name.

    Args:
        image: [H, W, 3] uint8.
        names: class names, in the order to list; more than fit take further columns, long names
            further lines.
        colors: [C, 3] uint8, one per name.
        counts: points per class, shown as a share in percent; None leaves that out. Classes
            whose share would read 0.0 % are left out.

    Returns:
        [H, W', 3] uint8 with W' >= W.

    Raises:
        ValueError: colours or counts that do not match the names.
    """
    rows = list_rows(names, colors, counts)
    if not rows:
        return image
    height = image.shape[0]
    text = min(TEXT, height // 3)
    columns = 1
    while (listed := draw_rows(rows, columns, COLUMN, text)).height > height:
        if columns >= len(rows):  # one row alone is higher than the picture
            break
        columns += 1
    canvas = Image.new("RGB", (image.shape[1] + listed.width, height), BACKGROUND)
    canvas.paste(Image.fromarray(image), (0, 0))
    canvas.paste(listed, (image.shape[1], 0))
    return np.asarray(canvas)


def draw_rows(rows: Sequence[LegendRow], columns: int, width: int, text: int) -> Image.Image:
    """Rows of a legend in columns, filled from top to bottom.

    Args:
        rows: at least one.
        columns: how many at most.
        width: of a column, pixels.
        text: height of the letters, pixels.
    """
    room = width - 2 * text - text // 2
    lines = [wrap_text(_label(row), text, max(room, text)) for row in rows]
    step = text * 3 // 2
    heights = [text // 4 + step * len(wrapped) for wrapped in lines]
    column_of = _fill_columns(heights, columns)
    used = max(column_of) + 1
    tallest = max(
        sum(h for h, at in zip(heights, column_of, strict=True) if at == column)
        for column in range(used)
    )
    canvas = Image.new("RGB", (used * width, tallest + text // 2), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    below = [text // 2] * used
    for row, wrapped, height, column in zip(rows, lines, heights, column_of, strict=True):
        left, top = column * width + text // 2, below[column]
        draw.rectangle((left, top, left + text, top + text), fill=row.color, outline=FRAME)
        for index, line in enumerate(wrapped):
            baseline = top + text * 7 // 8 + index * step
            draw_text(draw, (left + text * 3 // 2, baseline), line, text, INK)
        below[column] += height
    return canvas


def measure_rows(rows: Sequence[LegendRow], text: int) -> float:
    """Width of the column, in pixels, in which no row takes a second line."""
    return max(measure_text(_label(row), text) for row in rows) + 3 * text


def _label(row: LegendRow) -> str:
    return row.name if row.share is None else f"{row.name}  {row.share:.1%}".replace("%", " %")


def _fill_columns(heights: Sequence[int], columns: int) -> list[int]:
    """Column of every row: as low as they can all be, rows in order."""
    limit = max(max(heights), -(-sum(heights) // columns))
    while (placed := _place(heights, limit))[-1] >= columns:
        limit += max(limit // 16, 1)
    return placed


def _place(heights: Sequence[int], limit: int) -> list[int]:
    """Column of every row where none may be higher than `limit`."""
    column, filled = 0, 0
    placed = []
    for height in heights:
        if filled + height > limit:
            column, filled = column + 1, 0
        filled += height
        placed.append(column)
    return placed
