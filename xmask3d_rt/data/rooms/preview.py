"""A picture of a generated room: its views, their labels beside them, a legend."""

import numpy as np
from PIL import Image

from xmask3d_rt.data.room import Room
from xmask3d_rt.viewing.class_colors import choose_colors
from xmask3d_rt.viewing.legend import list_rows
from xmask3d_rt.viewing.picture import draw_picture

COLUMNS = 2  # of views, each with its labels beside it
UNLABELLED = (255, 255, 255)


def draw_room(room: Room, seed: int) -> Image.Image:
    """The views of a room in rows, each beside its labels.

    Args:
        room: with at least one view.
        seed: of the room, for the title.

    Raises:
        ValueError: the room has no views.
    """
    if not room.views:
        raise ValueError("draw_room: the room has no views; generate it with at least one")
    colors = np.concatenate([choose_colors([None] * len(room.classes)), [UNLABELLED]])
    colors = colors.astype(np.uint8)
    pairs = [
        np.concatenate([view.read_image(), colors[labels]], axis=1)
        for view, labels in zip(room.views, room.view_labels, strict=True)
    ]
    blank = np.full_like(pairs[0], UNLABELLED[0])
    pairs += [blank] * (-len(pairs) % COLUMNS)
    columns = [np.concatenate(pairs[start::COLUMNS]) for start in range(COLUMNS)]
    counts = np.bincount(room.labels, minlength=len(room.classes))
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    rows = list_rows([room.classes[k] for k in order], colors[order], counts[order])
    title = f"Room {seed}, a {room.room_type}: {len(room.points):,} points, {len(room.views)} views"
    return draw_picture(title, [("views and labels", image) for image in columns], rows)
