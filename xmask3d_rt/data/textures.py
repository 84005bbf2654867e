"""Procedural textures of generated rooms: albedo from the position on a surface alone."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xmask3d_rt.data.rooms.noise import hash_cells, value_noise
from xmask3d_rt.data.rooms.patterns import PATTERN_PAINTERS


class Surface(NamedTuple):
    """Where points lie on their face, and how large it is; metres, [P] each."""

    u: np.ndarray
    v: np.ndarray
    width: np.ndarray
    height: np.ndarray


def paint(
    color: np.ndarray,
    texture: np.ndarray,
    surface: Surface,
    pattern: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """Albedo [P, 3] in [0, 1] at points of surfaces.

    Args:
        color: of the solid of each point [P, 3] in [0, 1].
        texture: of the solid of each point [P], an index into `TEXTURES`.
        surface: where on its face each point lies.
        pattern: seed of the texture of each point [P].
        scale: size of the texture's features over their usual size [P].
    """
    albedo = color.copy()
    stretched = [side / scale for side in surface]
    for index, name in enumerate(TEXTURES):
        chosen = np.flatnonzero(texture == index)
        if len(chosen):
            place = [side[chosen] for side in stretched]
            albedo[chosen] = _PAINTERS[name](albedo[chosen], *place, pattern[chosen])
    grain = hash_cells(np.floor(surface.u * 90), np.floor(surface.v * 90), pattern)
    return albedo * (0.96 + 0.08 * grain)[:, None]


def _plain(rgb, u, v, width, height, seed):
    """Paint or plaster: faint large blotches."""
    return rgb * (0.95 + 0.1 * value_noise(u * 2.5, v * 2.5, seed))[:, None]


def _wood(rgb, u, v, width, height, seed):
    """Grain along the longer side of the face."""
    along, across = np.where(width >= height, (u, v), (v, u))
    rings = value_noise(along * 1.5, across * 25, seed) + 0.5 * value_noise(
        along * 4, across * 90, seed
    )
    return rgb * (0.78 + 0.28 * rings)[:, None]


def _planks(rgb, u, v, width, height, seed):
    """Floor boards of 14 cm by 1.2 m, each with its own tone, dark joints between them."""
    row = np.floor(v / 0.14)
    shifted = u + 0.53 * row
    board = np.floor(shifted / 1.2)
    joint = (v % 0.14 < 0.006) | (shifted % 1.2 < 0.006)
    grain = value_noise(shifted * 2, v * 60, seed)
    tone = 0.8 + 0.2 * hash_cells(row, board, seed) + 0.12 * grain
    return rgb * np.where(joint, 0.5, tone)[:, None]


def _tiles(rgb, u, v, width, height, seed):
    """Square tiles of 30 cm with pale joints."""
    tone = 0.9 + 0.12 * hash_cells(np.floor(u / 0.3), np.floor(v / 0.3), seed)
    joint = (u % 0.3 < 0.008) | (v % 0.3 < 0.008)
    return np.where(joint[:, None], 0.72, rgb * tone[:, None])


def _carpet(rgb, u, v, width, height, seed):
    """Short pile: fine strong noise, and a border stripe."""
    edge = np.minimum(np.minimum(u, width - u), np.minimum(v, height - v))
    border = (edge > 0.08) & (edge < 0.16)
    pile = 0.8 + 0.25 * value_noise(u * 110, v * 110, seed)
    return rgb * (pile * np.where(border, 0.7, 1.0))[:, None]


def _fabric(rgb, u, v, width, height, seed):
    """Woven cloth: crossing threads and soft folds."""
    weave = 0.04 * (np.sin(u * 420) + np.sin(v * 420))
    return rgb * (0.88 + weave + 0.16 * value_noise(u * 5, v * 5, seed))[:, None]


def _quilt(rgb, u, v, width, height, seed):
    """Patchwork squares of 22 cm in three tones of the colour."""
    patch = np.floor(3 * hash_cells(np.floor(u / 0.22), np.floor(v / 0.22), seed))
    seam = (u % 0.22 < 0.008) | (v % 0.22 < 0.008)
    tone = np.where(seam, 0.6, 0.75 + 0.15 * patch)
    pale = 0.35 * (patch == 2)
    return (rgb * (1 - pale)[:, None] + pale[:, None]) * tone[:, None]


def _books(rgb, u, v, width, height, seed):
    """Spines of 3 to 4 cm, each in a colour and a height of its own."""
    spine = np.floor(u / 0.035)
    hue = np.stack([hash_cells(spine, spine + 7 * k, seed) for k in range(3)], axis=1)
    colors = 0.15 + 0.7 * hue
    gap = (u % 0.035 < 0.003) | (v > height * (0.75 + 0.25 * hash_cells(spine, -spine, seed)))
    band = np.abs(v - height * 0.6) < 0.012
    colors = np.where(band[:, None], 0.85, colors)
    return np.where(gap[:, None], 0.08, colors)


def _painting(rgb, u, v, width, height, seed):
    """A landscape, or fields of colour between black lines."""
    landscape = hash_cells(seed, seed + 11) < 0.6
    first = _landscape(rgb, u, v, width, height, seed)
    return np.where(landscape[:, None], first, _color_fields(rgb, u, v, width, height, seed))


def _color_fields(rgb, u, v, width, height, seed):
    """Rectangles of uneven size, some in the colour, some white, red, blue or yellow."""
    x, y = u / width, v / height
    column = np.floor(4 * x**1.4 + 0.3)
    row = np.floor(3.5 * y**0.8 + 0.3 * column)
    line = (np.abs((4 * x**1.4 + 0.3) % 1 - 0.5) > 0.47) | (
        np.abs((3.5 * y**0.8 + 0.3 * column) % 1 - 0.5) > 0.47
    )
    paints = np.array([(0.93, 0.92, 0.86), (0.8, 0.15, 0.12), (0.15, 0.25, 0.6), (0.95, 0.8, 0.2)])
    pick = hash_cells(column, row, seed)
    field = np.where((pick < 0.35)[:, None], rgb, paints[(pick * 39).astype(np.int64) % 4])
    return np.where(line[:, None], 0.08, field)


def _landscape(rgb, u, v, width, height, seed):
    """A landscape: sky, a sun, two ranges of hills and a field."""
    x, y = u / width, v / height
    sky = np.stack([0.95 - 0.35 * y, 0.75 - 0.1 * y, 0.55 + 0.35 * y], axis=1)
    sun_x = 0.2 + 0.6 * hash_cells(seed, seed + 1)
    sun = (x - sun_x) ** 2 + ((y - 0.75) * height / width) ** 2 < 0.006
    far = y < 0.45 + 0.25 * value_noise(x * 4, seed * 1.0, seed)
    near = y < 0.18 + 0.25 * value_noise(x * 3, seed * 3.0, seed + 5)
    picture = np.where(sun[:, None], (1.0, 0.95, 0.7), sky)
    picture = np.where(far[:, None], rgb * 0.6 + 0.15, picture)
    return np.where(near[:, None], rgb, picture)


def _sky(rgb, u, v, width, height, seed):
    """What one sees through a window: bright sky above, trees below."""
    x, y = u / width, v / height
    trees = y < 0.25 + 0.2 * value_noise(u * 6, seed * 1.0, seed)
    clouds = 0.15 * value_noise(u * 4, v * 8, seed)
    bright = np.stack([0.9 + clouds + 0 * x, 1.05 + clouds, 1.3 + 0 * x], axis=1)
    leaves = (0.5 + 0.5 * value_noise(u * 25, v * 25, seed))[:, None] * (0.45, 0.65, 0.35)
    return np.where(trees[:, None], leaves, bright)


def _metal(rgb, u, v, width, height, seed):
    """Brushed steel or enamel: thin streaks and a broad highlight."""
    streaks = 0.06 * value_noise(u * 3, v * 150, seed)
    highlight = 0.12 * np.exp(-(((u / width - 0.3) / 0.12) ** 2))
    return rgb * (0.9 + streaks + highlight)[:, None]


_PAINTERS: dict[str, Callable[..., np.ndarray]] = {
    "plain": _plain,
    "wood": _wood,
    "planks": _planks,
    "tiles": _tiles,
    "carpet": _carpet,
    "fabric": _fabric,
    "quilt": _quilt,
    "books": _books,
    "painting": _painting,
    "sky": _sky,
    "metal": _metal,
    **PATTERN_PAINTERS,
}
TEXTURES = tuple(_PAINTERS)
