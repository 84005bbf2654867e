"""Shapes of everything that a generated room can hold, by name."""

from collections.abc import Callable

from xmask3d_rt.data import fittings
from xmask3d_rt.data.parts import Piece
from xmask3d_rt.data.rooms import (
    electronics,
    kitchen,
    seating,
    small,
    standing,
    storage,
    tables,
    vessels,
)
from xmask3d_rt.data.rooms.draws import Draw

Shape = Callable[[Draw], Piece]
_FAMILIES = (seating, tables, storage, kitchen, electronics, standing, vessels, small, fittings)
PIECES: dict[str, Shape] = {
    kind: shape for family in _FAMILIES for kind, shape in family.SHAPES.items()
}
# Shapes of a kind for particular places; their pieces bear the kind's own name.
VARIANTS: dict[str, Shape] = {
    "office chair": seating.make_office_chair,
    "coffee table": tables.make_coffee_table,
    "table lamp": electronics.make_table_lamp,
    "small plant": standing.make_small_plant,
    "bed pillow": small.make_bed_pillow,
    "small box": small.make_small_box,
}
SHAPES: dict[str, Shape] = {**PIECES, **VARIANTS}
