"""What a notebook shows of a result: a line, a picture, a table of classes, the notes."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmask3d_rt.result import Result

MAX_CLASSES = 20
PANEL = (330, 440)  # rows, columns


def render_html(result: "Result") -> str:
    """The result as HTML; whatever comes from outside is escaped."""
    panels = "".join(
        f'<figure style="display:inline-block;margin:0 8px 8px 0">{_embed_image(image)}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, image in result.draw_panels(PANEL)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return (
        f"<div><p><b>{escape(result.describe())}</b></p><div>{panels}</div>{_list_classes(result)}"
        f"{f'<ul>{notes}</ul>' if notes else ''}</div>"
    )


def _embed_image(image: Any) -> str:
    """A picture [H, W, 3] as part of the page itself."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="">'


def _list_classes(result: "Result") -> str:
    """The most frequent classes as a table."""
    rows = [row for row in result.summarize()["classes"] if row["points"]]
    rows.sort(key=lambda row: -row["points"])
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
