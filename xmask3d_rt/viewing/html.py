"""What a notebook shows of a result: a line, a picture, a table of classes, the notes."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

MAX_CLASSES = 20


def render_html(
    title: str,
    panels: Iterable[tuple[str, np.ndarray]],
    classes: Sequence[dict[str, Any]],
    notes: Sequence[str],
) -> str:
    """The parts of a result as HTML; whatever comes from outside is escaped.

    Args:
        title: one line.
        panels: captions and pictures [H, W, 3] uint8.
        classes: the rows of `Result.summarize`.
        notes: one sentence each.
    """
    pictures = "".join(
        f'<figure style="display:inline-block;margin:0 8px 8px 0">{_embed_image(image)}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, image in panels
    )
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f"<div><p><b>{escape(title)}</b></p><div>{pictures}</div>{_list_classes(classes)}"
        f"{f'<ul>{items}</ul>' if items else ''}</div>"
    )


def _embed_image(image: np.ndarray) -> str:
    """A picture [H, W, 3] as part of the page itself."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="">'


def _list_classes(classes: Sequence[dict[str, Any]]) -> str:
    """The most frequent classes as a table."""
    rows = sorted((row for row in classes if row["points"]), key=lambda row: -row["points"])
    lines = [
        f'<tr><td><span style="color:rgb({",".join(map(str, row["color"]))})">&#9632;</span> '
        f"{escape('; '.join(row['names']))}</td><td>{row['points']:,}</td>"
        f"<td>{row['share']:.1%}</td><td>{row['mean_score']:.2f}</td></tr>"
        for row in rows[:MAX_CLASSES]
    ]
    if len(rows) > MAX_CLASSES:
        lines.append(f"<tr><td>{len(rows) - MAX_CLASSES} more</td></tr>")
    heading = "<tr><th>class</th><th>points</th><th>share</th><th>mean score</th></tr>"
    return f"<table>{heading}{''.join(lines)}</table>"
