"""The kinds of objects in generated rooms: names, synonyms, attributes, base and novel.

A label of a room is an index into `KINDS`. Its first nineteen kinds are ScanNet's benchmark
classes in their order, so what is left of its twentieth, `otherfurniture`, is every kind after.
"""

from typing import NamedTuple

# The ScanNet benchmark's classes in its order.
SCANNET_CLASSES = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "desk",
    "curtain",
    "refrigerator",
    "shower curtain",
    "toilet",
    "sink",
    "bathtub",
    "otherfurniture",
)


class Kind(NamedTuple):
    """One kind: its usual name, other words for it, and what it looks like."""

    name: str
    synonyms: tuple[str, ...]
    attributes: tuple[str, ...]


def _kind(name: str, synonyms: str, attributes: str) -> Kind:
    return Kind(name, tuple(synonyms.split(", ")), tuple(attributes.split(", ")))


KIND_TABLE = (
    _kind("wall", "partition, room wall", "flat, painted, upright"),
    _kind("floor", "flooring, ground, parquet", "flat, wooden, tiled, carpeted"),
    _kind("cabinet", "cupboard, sideboard, credenza", "boxy, with doors, wooden"),
    _kind("bed", "double bed, single bed, bedstead", "soft, wide, with a quilt"),
    _kind("chair", "seat, dining chair, office chair", "four-legged, with a backrest"),
    _kind("sofa", "couch, settee, divan, loveseat", "upholstered, soft, wide, with armrests"),
    _kind("table", "dining table, coffee table, tabletop", "flat-topped, wooden, with legs"),
    _kind("door", "doorway, entrance, doorframe", "tall, panelled, with a handle"),
    _kind("window", "windowpane, casement, glazing", "bright, framed, glass"),
    _kind("bookshelf", "bookcase, book rack, bookshelves", "tall, filled with books, wooden"),
    _kind("picture", "painting, framed print, poster, artwork", "framed, flat, colourful"),
    _kind("counter", "kitchen counter, countertop, worktop", "long, stone-topped, waist-high"),
    _kind("desk", "writing desk, work desk, workstation", "flat-topped, with drawers"),
    _kind("curtain", "drapes, drapery, window curtain", "hanging, pleated, cloth"),
    _kind("refrigerator", "fridge, freezer, icebox", "tall, white, metallic, two-doored"),
    _kind("shower curtain", "bath curtain, shower drape", "hanging, pleated, over a bathtub"),
    _kind("toilet", "loo, lavatory, water closet, commode", "white, ceramic, with a lid"),
    _kind("sink", "washbasin, basin, washstand", "white, hollow, with a tap"),
    _kind("bathtub", "tub, bath, soaking tub", "white, long, hollow"),
    _kind("lamp", "table lamp, floor lamp, reading light", "slender, with a shade, bright"),
    _kind("ceiling lamp", "pendant lamp, chandelier, ceiling light", "hanging, bright, round"),
    _kind("plant", "houseplant, potted plant, pot plant", "green, leafy, in a pot"),
    _kind("monitor", "computer screen, computer monitor, display", "flat, glowing, on a stand"),
    _kind("television", "tv, tv set, telly", "wide, black, flat"),
    _kind("pillow", "cushion, throw pillow, bolster", "soft, small, square"),
    _kind("box", "cardboard box, carton, crate", "brown, boxy, taped"),
    _kind("trash can", "bin, wastebasket, dustbin, garbage can", "round, open, upright"),
    _kind("rug", "mat, carpet, floor mat", "flat, patterned, woven"),
    _kind("mirror", "looking glass, wall mirror", "reflecting, framed, silvery"),
    _kind("shelf", "wall shelf, ledge, rack", "thin, wooden, on a wall"),
    _kind("nightstand", "bedside table, night table", "small, boxy, with drawers"),
    _kind("whiteboard", "dry-erase board, marker board", "white, flat, written on"),
    _kind("keyboard", "computer keyboard, keypad", "flat, thin, with keys"),
    _kind("laptop", "notebook computer, portable computer", "thin, folding, glowing"),
    _kind("books", "book stack, pile of books, volumes", "stacked, small, colourful"),
    _kind("backpack", "rucksack, bag, knapsack", "bulging, cloth, with straps"),
    _kind("clock", "wall clock, timepiece", "round, white, with hands"),
    _kind("fan", "electric fan, ventilator", "round, on a pole, with blades"),
    _kind("radiator", "heater, heating panel", "white, ribbed, low"),
    _kind("stove", "oven, cooker, range", "boxy, with burners, with a glass door"),
    _kind("washing machine", "washer, laundry machine", "white, boxy, with a round door"),
    _kind("microwave", "microwave oven, countertop oven", "small, boxy, with a dark door"),
    _kind("ottoman", "pouf, footstool, hassock", "low, soft, cubic"),
    _kind("bench", "settle, sitting bench", "long, wooden, backless"),
    _kind("stool", "bar stool, backless seat", "round, high, backless"),
    _kind("dresser", "chest of drawers, bureau, commode chest", "wide, with many drawers"),
    _kind("wardrobe", "closet, armoire, clothes cupboard", "very tall, two-doored, wooden"),
    _kind("tv stand", "media console, tv cabinet", "low, long, open"),
    _kind("piano", "upright piano, pianoforte", "black, heavy, with white keys"),
    _kind("suitcase", "luggage, trolley case, travel bag", "boxy, upright, with a handle"),
    _kind("bucket", "pail, water bucket", "round, tapered, open"),
    _kind("ladder", "stepladder, steps", "leaning, tall, with rungs"),
    _kind("towel", "bath towel, hand towel", "hanging, soft, striped"),
    _kind("vase", "flower vase, urn", "round, bulging, with flowers"),
    _kind("bottle", "flask, wine bottle", "slender, glass, with a neck"),
    _kind("cup", "mug, teacup, tumbler", "small, round, with a handle"),
    _kind("guitar", "acoustic guitar, string instrument", "curved, wooden, long-necked"),
    _kind("printer", "copier, laser printer", "boxy, white, with a paper tray"),
    _kind("coat rack", "coat stand, hat stand, clothes tree", "slender, tall, with hooks"),
    _kind("basket", "hamper, laundry basket", "woven, round, open"),
    _kind("fireplace", "hearth, chimneypiece", "brick, burning, with a mantel"),
    _kind("crib", "cot, baby bed", "barred, small, wooden"),
    _kind("teddy bear", "stuffed animal, plush toy", "brown, furry, round"),
    _kind("blinds", "venetian blinds, window shade, roller blind", "slatted, hanging, pale"),
)
KINDS = tuple(kind.name for kind in KIND_TABLE)
SYNONYMS = {kind.name: kind.synonyms for kind in KIND_TABLE}
ATTRIBUTES = {kind.name: kind.attributes for kind in KIND_TABLE}

# Without a label of any sort in training: large or striking, and each of a shape of its own.
NOVEL_KINDS = (
    "bookshelf",
    "refrigerator",
    "toilet",
    "plant",
    "radiator",
    "washing machine",
    "piano",
    "suitcase",
    "ladder",
    "guitar",
)
BASE_KINDS = tuple(name for name in KINDS if name not in NOVEL_KINDS)
OTHER_FURNITURE = len(SCANNET_CLASSES) - 1


def list_classes(label_set: str) -> list[str]:
    """Names behind the labels of a label set: `kinds`, or `scannet20`.

    Raises:
        ValueError: another name.
    """
    names = {"kinds": KINDS, "scannet20": SCANNET_CLASSES}.get(label_set)
    if names is None:
        raise ValueError(f"unknown label set {label_set!r} of rooms; pass kinds or scannet20")
    return list(names)
