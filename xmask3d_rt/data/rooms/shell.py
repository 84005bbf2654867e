"""Floor, walls, skirting and ceiling of a generated room."""

from xmask3d_rt.data.boxes import Box
from xmask3d_rt.data.rooms.draws import Color, Draw, tone
from xmask3d_rt.data.rooms.floor_plan import Layout
from xmask3d_rt.data.rooms.kinds import KINDS

WALL_THICKNESS = 0.1
WET_ROOMS = ("bathroom", "laundry", "kitchen")


def add_shell(room: Layout, draw: Draw, ceiling: bool) -> None:
    """Floor, four walls with skirting, and the ceiling where asked for."""
    w, d, h, t = room.width, room.depth, room.height, WALL_THICKNESS
    size = (w + 2 * t, d + 2 * t, t)
    color, cover = _draw_floor(draw, room.room_type)
    floor = Box((w / 2, d / 2, -t / 2), size, color, cover, KINDS.index("floor"))
    room.add_instance([_textured(floor, draw)])
    label = KINDS.index("wall")
    paint, accent, cover = draw.pale(), draw.pale(), _draw_wall(draw, room.room_type)
    if draw.chance(0.25):
        accent = tone(draw.fabric(), 1.15)
    sides = (
        ((w / 2, -t / 2), (w + 2 * t, t), (w / 2, 0.006), (w, 0.012)),
        ((w + t / 2, d / 2), (t, d + 2 * t), (w - 0.006, d / 2), (0.012, d)),
        ((w / 2, d + t / 2), (w + 2 * t, t), (w / 2, d - 0.006), (w, 0.012)),
        ((-t / 2, d / 2), (t, d + 2 * t), (0.006, d / 2), (0.012, d)),
    )
    board: Color = (0.85, 0.83, 0.8)
    for k, (at, extent, foot, edge) in enumerate(sides):
        side = Box((*at, h / 2), (*extent, h), accent if k == 2 else paint, cover, label)
        skirting = Box((*foot, 0.04), (*edge, 0.08), board, "plain", label)
        room.add_instance([_textured(side, draw), skirting])
    if ceiling:
        room.add_instance([Box((w / 2, d / 2, h + t / 2), size, (0.93, 0.93, 0.91))])


def _textured(box: Box, draw: Draw) -> Box:
    """The solid with a texture pattern and scale of the room."""
    turn = {"pattern": draw.pattern(), "scale": draw.uniform(0.8, 1.3)}
    return Box(box.center, box.size, box.color, box.texture, box.label, **turn)  # type: ignore[arg-type]


def _draw_floor(draw: Draw, room_type: str) -> tuple[Color, str]:
    """Colour and texture of a floor."""
    if room_type in WET_ROOMS:
        cover = draw.choice(("tiles", "tiles", "stone", "planks"))
    else:
        cover = draw.choice(("planks", "planks", "wood", "carpet", "tiles"))
    if cover in ("planks", "wood"):
        return draw.wood(), cover
    shade = draw.uniform(0.45, 1.0) if cover != "carpet" else draw.uniform(0.35, 0.8)
    return tone(draw.pale(), shade), cover


def _draw_wall(draw: Draw, room_type: str) -> str:
    """Texture of the walls."""
    if room_type in WET_ROOMS:
        return draw.choice(("tiles", "tiles", "plain", "plain"))
    return draw.choice(("plain", "plain", "plain", "wallpaper", "brick"))
