"""Line charts with Pillow alone: growth curves of a benchmark as a PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from xmask3d_rt.files import atomic_write

PANEL = (460, 320)
MARGIN = (70, 40, 20, 55)  # left, top, right, bottom
INK, GRID, LINE = "#222222", "#dddddd", "#1f6fb4"
TICKS = 4


@dataclass(frozen=True)
class Curve:
    """One panel: y over x, with both axes from zero."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]


def draw_curves(path: Path, heading: str, curves: Sequence[Curve]) -> Path:
    """Write a PNG with one panel per curve, side by side.

    Args:
        path: file to write.
        heading: line above the panels.
        curves: at least one point each.

    Returns:
        `path`.
    """
    width, height = PANEL
    image = Image.new("RGB", (width * len(curves), height + 34), "white")
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), heading, fill=INK, font=ImageFont.load_default(15))
    for i, curve in enumerate(curves):
        _draw_panel(draw, curve, i * width, 34)
    with atomic_write(path) as temporary:
        image.save(temporary)
    return path


def _draw_panel(draw: ImageDraw.ImageDraw, curve: Curve, left: int, top: int) -> None:
    font = ImageFont.load_default(12)
    x0, y0 = left + MARGIN[0], top + MARGIN[1]
    x1, y1 = left + PANEL[0] - MARGIN[2], top + PANEL[1] - MARGIN[3]
    x_max, y_max = _round_up(max(curve.x)), _round_up(max(curve.y))
    for i in range(TICKS + 1):
        x = x0 + (x1 - x0) * i / TICKS
        y = y1 - (y1 - y0) * i / TICKS
        draw.line([(x, y0), (x, y1)], fill=GRID)
        draw.line([(x0, y), (x1, y)], fill=GRID)
        draw.text((x, y1 + 6), _short(x_max * i / TICKS), fill=INK, font=font, anchor="ma")
        draw.text((x0 - 6, y), _short(y_max * i / TICKS), fill=INK, font=font, anchor="rm")
    draw.text(((x0 + x1) / 2, y0 - 10), curve.title, fill=INK, font=font, anchor="ms")
    draw.text(((x0 + x1) / 2, y1 + 36), curve.x_label, fill=INK, font=font, anchor="ms")
    draw.text((x0 - 60, y0 - 10), curve.y_label, fill=INK, font=font, anchor="ls")
    points = [
        (x0 + (x1 - x0) * x / x_max, y1 - (y1 - y0) * y / y_max)
        for x, y in sorted(zip(curve.x, curve.y, strict=True))
    ]
    draw.line(points, fill=LINE, width=2)
    for x, y in points:
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=LINE)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 4, 5, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * step for step in (1, 2, 2.5, 4, 5, 8, 10) if power * step >= value)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
