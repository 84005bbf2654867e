"""Pictures of an evaluation with Pillow alone: confusion matrix and IoU per class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xmask3d_rt.evaluation.iou import Confusion
from xmask3d_rt.files import atomic_write

INK, GRID, BASE, NOVEL = "#222222", "#dddddd", "#1f6fb4", "#e07b1f"
DARK = np.array([31, 111, 180])  # colour of a full cell
MOST_CELL, LEAST_CELL, MOST_SIDE = 34, 9, 1400  # pixels
NONE_COLUMN = "none of them"
BAR, BAR_GAP, BAR_LENGTH = 18, 6, 560


def draw_confusion(path: Path, heading: str, confusion: Confusion, names: Sequence[str]) -> Path:
    """Write the confusion matrix as PNG: share of each class's points by what they were taken for.

    Args:
        path: file to write.
        heading: line above the matrix.
        confusion: over K classes.
        names: of the classes.

    Returns:
        `path`.
    """
    classes = len(names)
    cell = int(np.clip(MOST_SIDE // classes, LEAST_CELL, MOST_CELL))
    font = ImageFont.load_default(min(cell - 1, 14))
    columns = [*names, NONE_COLUMN]
    label = max(_measure(name, font) for name in columns) + 12
    top = label + 62
    size = (label + cell * len(columns) + 20, top + cell * classes + 20)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), heading, fill=INK, font=ImageFont.load_default(15))
    note = "rows: labels; columns: predictions; a full cell is 100 % of its row"
    draw.text((12, 32), note, fill=INK, font=ImageFont.load_default(12))
    share = confusion.counts / np.maximum(confusion.target, 1)[:, None]
    for row, name in enumerate(names):
        y = top + row * cell
        draw.text((label - 6, y + cell / 2), name, fill=INK, font=font, anchor="rm")
        for column in range(len(columns)):
            x = label + column * cell
            box = (x, y, x + cell - 1, y + cell - 1)
            draw.rectangle(box, fill=_shade(share[row, column]), outline=GRID)
            if cell >= 24 and share[row, column] >= 0.01:
                ink = "white" if share[row, column] > 0.5 else INK
                text = f"{100 * share[row, column]:.0f}"
                small = ImageFont.load_default(10)
                draw.text((x + cell / 2, y + cell / 2), text, fill=ink, font=small, anchor="mm")
    for column, name in enumerate(columns):
        strip = _draw_vertical(name, font)
        image.paste(
            strip, (label + column * cell + (cell - strip.width) // 2, top - 6 - strip.height)
        )
    return _save(image, path)


def draw_class_bars(
    path: Path, heading: str, values: Sequence[float], names: Sequence[str], is_base: np.ndarray
) -> Path:
    """Write the IoU of every class as horizontal bars, base and novel in two colours.

    Args:
        path: file to write.
        heading: line above the bars.
        values: [K] percent.
        names: of the classes.
        is_base: [K] bool.

    Returns:
        `path`.
    """
    font = ImageFont.load_default(13)
    label = max(_measure(name, font) for name in names) + 16
    step, top = BAR + BAR_GAP, 66
    image = Image.new("RGB", (label + BAR_LENGTH + 70, top + step * len(names) + 34), "white")
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), heading, fill=INK, font=ImageFont.load_default(15))
    for offset, (title, color) in enumerate((("base", BASE), ("novel", NOVEL))):
        x = 12 + 90 * offset
        draw.rectangle((x, 38, x + 12, 50), fill=color)
        draw.text((x + 18, 44), title, fill=INK, font=font, anchor="lm")
    bottom = top + step * len(names)
    for percent in range(0, 101, 20):
        x = label + BAR_LENGTH * percent // 100
        draw.line([(x, top - 4), (x, bottom)], fill=GRID)
        draw.text((x, bottom + 4), f"{percent}", fill=INK, font=font, anchor="ma")
    for row, (name, value, base) in enumerate(zip(names, values, is_base, strict=True)):
        y = top + row * step
        draw.text((label - 8, y + BAR / 2), name, fill=INK, font=font, anchor="rm")
        end = label + round(BAR_LENGTH * value / 100)
        draw.rectangle((label, y, max(end, label + 1), y + BAR), fill=BASE if base else NOVEL)
        draw.text((end + 6, y + BAR / 2), f"{value:.1f}", fill=INK, font=font, anchor="lm")
    return _save(image, path)


def _shade(share: float) -> tuple[int, int, int]:
    """White for nothing, full colour for everything."""
    red, green, blue = np.rint(255 + (DARK - 255) * np.sqrt(share)).astype(int).tolist()
    return red, green, blue


def _measure(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """Width of a line in pixels."""
    return int(np.ceil(font.getlength(text)))


def _draw_vertical(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """A line of text that reads from bottom to top."""
    left, upper, right, lower = font.getbbox(text)
    strip = Image.new("RGB", (int(right - left) + 2, int(lower - upper) + 2), "white")
    ImageDraw.Draw(strip).text((1 - left, 1 - upper), text, fill=INK, font=font)
    return strip.rotate(90, expand=True)


def _save(image: Image.Image, path: Path) -> Path:
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG")
    return path
