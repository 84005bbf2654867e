"""The picture of a result: a title, the cloud in its colours, its labels, and a legend below."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from xmask3d_rt.viewing.fonts import draw_text, measure_text, wrap_text
from xmask3d_rt.viewing.legend import BACKGROUND, INK, LegendRow, draw_rows, measure_rows

# Letters stay legible where a page shows the picture at half its size, 840 pixels wide.
TEXT = 26  # pixels
TITLE = 32
PANEL = (608, 810)  # rows, columns
GAP = 20


def draw_picture(
    title: str, panels: Sequence[tuple[str, np.ndarray]], rows: Sequence[LegendRow]
) -> Image.Image:
    """Panels side by side under one title, each with a caption, over a legend.

    Args:
        title: what the picture shows; broken into lines where it is too long.
        panels: caption and [H, W, 3] uint8 image of each, all of one size.
        rows: of the legend; none draws none.
    """
    height, width = panels[0][1].shape[:2]
    total = GAP + len(panels) * (width + GAP)
    heading = wrap_text(title, TITLE, total - 2 * GAP)
    top = GAP + len(heading) * TITLE * 3 // 2  # of the captions
    legend = _draw_legend(rows, total - GAP)
    below = top + TEXT * 3 // 2 + height + GAP
    canvas = Image.new("RGB", (total, below + (legend.height + GAP if legend else 0)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, line in enumerate(heading):
        draw_text(draw, (GAP, GAP + TITLE + index * TITLE * 3 // 2), line, TITLE, INK)
    for index, (caption, image) in enumerate(panels):
        left = GAP + index * (width + GAP)
        middle = left + max(width - measure_text(caption, TEXT), 0) / 2
        draw_text(draw, (middle, top + TEXT), caption, TEXT, INK)
        canvas.paste(Image.fromarray(image), (left, top + TEXT * 3 // 2))
    if legend:
        canvas.paste(legend, (GAP // 2, below))
    return canvas


def _draw_legend(rows: Sequence[LegendRow], room: int) -> Image.Image | None:
    """The legend in as many columns as its longest name allows."""
    if not rows:
        return None
    columns = int(np.clip(room // measure_rows(rows, TEXT), 1, len(rows)))
    return draw_rows(rows, columns, room // columns, TEXT)
