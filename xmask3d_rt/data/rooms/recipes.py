"""What rooms of each type hold, and what lies on which surface."""

from typing import NamedTuple

from xmask3d_rt.data.rooms.draws import Draw

# (name of a shape, how many of it on average): the whole part is certain, the rest a chance.
Amounts = tuple[tuple[str, float], ...]

RECIPES: dict[str, Amounts] = {
    "living room": (
        *(("sofa", 1.5), ("tv stand", 0.9), ("bookshelf", 0.8), ("piano", 0.5)),
        *(("fireplace", 0.45), ("cabinet", 0.5), ("plant", 1.2), ("lamp", 0.7), ("guitar", 0.4)),
        *(("table", 0.4), ("chair", 1.6), ("ottoman", 0.6), ("radiator", 0.5), ("fan", 0.25)),
        *(("rug", 0.9), ("window", 1.3), ("curtain", 1.4), ("picture", 2.0), ("clock", 0.35)),
        *(("shelf", 0.4), ("mirror", 0.2), ("blinds", 0.2), ("basket", 0.2), ("backpack", 0.15)),
    ),
    "bedroom": (
        *(("bed", 1.0), ("wardrobe", 0.9), ("dresser", 0.7), ("desk", 0.4), ("crib", 0.4)),
        *(("bookshelf", 0.35), ("chair", 0.6), ("bench", 0.35), ("plant", 0.6), ("lamp", 0.5)),
        *(("radiator", 0.6), ("suitcase", 0.5), ("backpack", 0.4), ("basket", 0.35)),
        *(("teddy bear", 0.4), ("guitar", 0.3), ("fan", 0.3), ("ottoman", 0.25), ("rug", 0.8)),
        *(("window", 1.2), ("curtain", 1.5), ("picture", 1.5), ("mirror", 0.5), ("clock", 0.2)),
        *(("shelf", 0.4), ("blinds", 0.2), ("coat rack", 0.2), ("box", 0.3)),
    ),
    "kitchen": (
        *(("counter", 1.5), ("refrigerator", 1.0), ("stove", 0.9), ("cabinet", 0.7)),
        *(("table", 0.8), ("chair", 2.6), ("stool", 0.8), ("bench", 0.25), ("trash can", 0.8)),
        *(("washing machine", 0.35), ("radiator", 0.4), ("bucket", 0.25), ("ladder", 0.2)),
        *(("plant", 0.4), ("window", 1.0), ("blinds", 0.4), ("curtain", 0.3), ("clock", 0.6)),
        *(("shelf", 0.7), ("picture", 0.5), ("towel", 0.5), ("rug", 0.3), ("basket", 0.2)),
    ),
    "bathroom": (
        *(("bathtub", 0.9), ("toilet", 1.0), ("sink", 1.0), ("washing machine", 0.5)),
        *(("cabinet", 0.3), ("radiator", 0.5), ("basket", 0.6), ("bucket", 0.4), ("stool", 0.4)),
        *(("trash can", 0.5), ("towel", 1.2), ("mirror", 0.3), ("rug", 0.7), ("window", 0.5)),
        *(("shelf", 0.5), ("plant", 0.3), ("blinds", 0.3)),
    ),
    "office": (
        *(("desk", 1.7), ("bookshelf", 0.9), ("cabinet", 0.7), ("chair", 0.8), ("printer", 0.2)),
        *(("table", 0.35), ("sofa", 0.25), ("plant", 0.9), ("lamp", 0.4), ("whiteboard", 0.9)),
        *(("radiator", 0.6), ("fan", 0.4), ("trash can", 0.7), ("backpack", 0.5), ("box", 0.8)),
        *(("coat rack", 0.4), ("ladder", 0.2), ("window", 1.4), ("blinds", 0.6), ("clock", 0.6)),
        *(("picture", 0.9), ("shelf", 0.4), ("suitcase", 0.2)),
    ),
    "hallway": (
        *(
            ("cabinet", 0.7),
            ("wardrobe", 0.5),
            ("bench", 0.9),
            ("coat rack", 0.9),
            ("dresser", 0.4),
        ),
        *(("ladder", 0.45), ("suitcase", 0.9), ("plant", 0.6), ("box", 0.8), ("stool", 0.4)),
        *(("lamp", 0.4), ("mirror", 0.9), ("picture", 1.4), ("rug", 0.7), ("clock", 0.4)),
        *(("radiator", 0.5), ("piano", 0.35), ("basket", 0.3), ("backpack", 0.5), ("chair", 0.6)),
        *(("window", 0.5), ("shelf", 0.4), ("fireplace", 0.15)),
    ),
    "laundry": (
        *(("washing machine", 1.5), ("sink", 0.7), ("cabinet", 0.9), ("basket", 1.4)),
        *(("bucket", 1.0), ("ladder", 0.9), ("box", 1.8), ("suitcase", 0.6), ("fan", 0.35)),
        *(("stool", 0.5), ("trash can", 0.5), ("refrigerator", 0.35), ("radiator", 0.4)),
        *(("towel", 0.8), ("shelf", 0.9), ("window", 0.6), ("blinds", 0.3), ("bookshelf", 0.2)),
    ),
    "nursery": (
        *(("crib", 0.9), ("bed", 0.4), ("dresser", 0.7), ("bookshelf", 0.7), ("table", 0.4)),
        *(("chair", 1.5), ("teddy bear", 1.3), ("basket", 0.7), ("ottoman", 0.6), ("box", 0.5)),
        *(("piano", 0.25), ("guitar", 0.3), ("stool", 0.5), ("lamp", 0.4), ("rug", 0.9)),
        *(("window", 1.0), ("curtain", 1.2), ("picture", 1.5), ("shelf", 0.6), ("radiator", 0.5)),
        *(("backpack", 0.4), ("plant", 0.3), ("clock", 0.3)),
    ),
}
# As often as listed.
ROOM_TYPES = (
    *("living room", "bedroom", "kitchen", "office"),
    *("living room", "bedroom", "kitchen", "office", "bathroom"),
    *("bathroom", "hallway", "laundry", "nursery"),
)
SIZES = {  # metres: width and depth of the floor
    "bathroom": ((2.6, 3.8), (2.3, 3.2)),
    "hallway": ((3.4, 5.6), (2.4, 3.2)),
    "laundry": ((2.9, 4.2), (2.6, 3.6)),
    "kitchen": ((3.4, 5.0), (3.0, 4.4)),
}
USUAL_SIZE = ((3.9, 6.0), (3.5, 5.2))


class Thing(NamedTuple):
    """Something that may lie on a surface: how likely, and where if it has a usual place."""

    shape: str
    chance: float
    place: tuple[float, float] | None = None  # share of the surface's width and depth


THINGS: dict[str, tuple[Thing, ...]] = {
    "table": (
        *(Thing("vase", 0.45), Thing("cup", 0.5), Thing("cup", 0.4), Thing("bottle", 0.4)),
        *(Thing("laptop", 0.2), Thing("books", 0.2), Thing("small box", 0.15)),
        *(Thing("small plant", 0.15), Thing("backpack", 0.06)),
    ),
    "coffee": (
        *(Thing("books", 0.5), Thing("cup", 0.5), Thing("vase", 0.3), Thing("bottle", 0.2)),
        *(Thing("laptop", 0.15), Thing("small plant", 0.15)),
    ),
    "desk": (
        *(Thing("monitor", 0.75, (0.42, 0.16)), Thing("keyboard", 0.7, (0.42, 0.78))),
        *(Thing("laptop", 0.35), Thing("table lamp", 0.4), Thing("books", 0.5)),
        *(Thing("cup", 0.5), Thing("printer", 0.35), Thing("small plant", 0.25)),
        *(Thing("bottle", 0.2), Thing("small box", 0.2)),
    ),
    "counter": (
        *(Thing("microwave", 0.5), Thing("bottle", 0.6), Thing("bottle", 0.4), Thing("cup", 0.6)),
        *(Thing("cup", 0.4), Thing("small plant", 0.2), Thing("small box", 0.3)),
        *(Thing("vase", 0.15), Thing("books", 0.15)),
    ),
    "cabinet": (
        *(Thing("vase", 0.4), Thing("table lamp", 0.35), Thing("books", 0.4)),
        *(Thing("small plant", 0.35), Thing("small box", 0.25), Thing("printer", 0.12)),
        *(Thing("teddy bear", 0.15), Thing("microwave", 0.12), Thing("bottle", 0.2)),
    ),
    "nightstand": (Thing("table lamp", 0.7), Thing("cup", 0.3), Thing("books", 0.3)),
    "shelf": (
        *(Thing("books", 0.7), Thing("small plant", 0.5), Thing("vase", 0.5)),
        *(Thing("bottle", 0.4), Thing("cup", 0.3), Thing("small box", 0.3)),
    ),
    "high": (Thing("small box", 0.3), Thing("basket", 0.1), Thing("small plant", 0.2)),
    "laundry": (Thing("bottle", 0.6), Thing("basket", 0.25), Thing("small box", 0.3)),
    "bed": (Thing("bed pillow", 0.95, (0.5, 0.5)),),
    "quilt": (
        *(Thing("teddy bear", 0.2), Thing("laptop", 0.15), Thing("books", 0.15)),
        *(Thing("backpack", 0.12), Thing("suitcase", 0.06)),
    ),
    "sofa": (
        *(Thing("pillow", 0.65, (0.15, 0.25)), Thing("pillow", 0.6, (0.85, 0.25))),
        *(Thing("teddy bear", 0.12), Thing("laptop", 0.1), Thing("backpack", 0.08)),
    ),
    "tv": (Thing("television", 0.92, (0.5, 0.5)),),
}


def draw_recipe(draw: Draw) -> tuple[str, list[str]]:
    """A type of room and the shapes it is to hold."""
    room_type = draw.choice(ROOM_TYPES)
    names = ["door", "ceiling lamp"] if draw.chance(0.7) else ["door"]
    for name, amount in RECIPES[room_type]:
        # Up to one more than usual, at the cost of another's chance: rooms of a type differ.
        spread = amount * draw.choice((0.5, 1.0, 1.0, 1.5))
        names += [name] * (int(spread) + draw.chance(spread % 1))
    return room_type, names


def draw_size(draw: Draw, room_type: str) -> tuple[float, float, float]:
    """Width, depth and height of a room in metres."""
    width, depth = SIZES.get(room_type, USUAL_SIZE)
    return draw.uniform(*width), draw.uniform(*depth), draw.uniform(2.45, 2.85)
