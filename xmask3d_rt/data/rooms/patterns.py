"""Textures that tell one kind of object from another: screens, keys, leaves, dials, ink.

Painters as in `textures`: colour [P, 3], place on the face and its size (metres, [P] each) and a
seed per point give an albedo [P, 3].
"""

import numpy as np

from xmask3d_rt.data.rooms.noise import hash_cells, value_noise


def _mix(rgb, other, share):
    """`other` where share is 1, `rgb` where it is 0."""
    share = np.asarray(share, dtype=np.float64)[:, None]
    return rgb * (1 - share) + np.asarray(other) * share


def _stripes(rgb, u, v, width, height, seed):
    """Upright stripes, two to one pale."""
    return _mix(rgb, (0.92, 0.9, 0.86), u % 0.12 < 0.045) * _weave(u, v)[:, None]


def _weave(u, v):
    return 0.95 + 0.05 * np.sin(u * 420) * np.sin(v * 420)


def _checker(rgb, u, v, width, height, seed):
    """Squares of 9 cm, every other one pale."""
    odd = (np.floor(u / 0.09) + np.floor(v / 0.09)) % 2
    return _mix(rgb, rgb * 0.4 + 0.5, odd) * _weave(u, v)[:, None]


def _dots(rgb, u, v, width, height, seed):
    """Pale dots in a grid of 8 cm."""
    x, y = u % 0.08 - 0.04, v % 0.08 - 0.04
    return _mix(rgb, (0.95, 0.93, 0.9), x**2 + y**2 < 0.0004) * _weave(u, v)[:, None]


def _terry(rgb, u, v, width, height, seed):
    """Looped pile with two darker bands near the end."""
    band = (np.abs(v - 0.09) < 0.012) | (np.abs(v - 0.13) < 0.012)
    return rgb * ((0.85 + 0.2 * value_noise(u * 140, v * 140, seed)) * (1 - 0.4 * band))[:, None]


def _brick(rgb, u, v, width, height, seed):
    """Courses of 7 cm with pale joints."""
    row = np.floor(v / 0.075)
    shifted = u + 0.11 * (row % 2)
    joint = (v % 0.075 < 0.012) | (shifted % 0.22 < 0.012)
    shade = 0.75 + 0.35 * hash_cells(row, np.floor(shifted / 0.22), seed)
    return np.where(joint[:, None], 0.68, rgb * shade[:, None])


def _wallpaper(rgb, u, v, width, height, seed):
    """Faint vertical bands with a small ornament."""
    band = 0.94 + 0.06 * (u % 0.3 < 0.15)
    x, y = u % 0.15 - 0.075, (v + 0.1 * np.floor(u / 0.15)) % 0.2 - 0.1
    ornament = np.abs(x) + 0.7 * np.abs(y) < 0.018
    return rgb * (band * (1 - 0.12 * ornament))[:, None]


def _stone(rgb, u, v, width, height, seed):
    """Marble or granite: veins along the zero lines of noise."""
    vein = np.abs(value_noise(u * 5, v * 5, seed) - 0.5 + 0.25 * value_noise(u * 16, v * 16, seed))
    speck = hash_cells(np.floor(u * 170), np.floor(v * 170), seed)
    return rgb * (0.72 + 0.28 * np.minimum(vein * 9, 1) - 0.1 * (speck > 0.85))[:, None]


def _wicker(rgb, u, v, width, height, seed):
    """Woven cane: bricks of light and dark strands."""
    a, b = np.floor(u / 0.03), np.floor(v / 0.018)
    over = (a + b) % 2
    return rgb * (0.55 + 0.3 * over + 0.25 * np.sin((v % 0.018) / 0.018 * np.pi))[:, None]


def _leaves(rgb, u, v, width, height, seed):
    """Foliage: patches of green tones with dark gaps."""
    patch = value_noise(u * 28, v * 28, seed)
    fine = value_noise(u * 75, v * 75, seed)
    return rgb * (0.35 + 0.75 * patch * (0.6 + 0.6 * fine))[:, None]


def _cardboard(rgb, u, v, width, height, seed):
    """Brown board with a strip of tape along its middle."""
    tape = np.abs(v - height / 2) < 0.025
    return (
        _mix(rgb, rgb * 0.5 + 0.4, tape) * (0.93 + 0.1 * value_noise(u * 3, v * 60, seed))[:, None]
    )


def _desktop(rgb, u, v, width, height, seed):
    """A computer screen: a wallpaper in the colour, pale windows with lines of text, a bar."""
    x, y = u / width, v / height
    screen = rgb * (0.5 + 0.5 * y + 0.3 * value_noise(x * 3, y * 3, seed))[:, None]
    left = 0.08 + 0.4 * hash_cells(seed, seed + 3)
    low = 0.15 + 0.15 * hash_cells(seed, seed + 9)
    window = (x > left) & (x < left + 0.45) & (y > low) & (y < low + 0.62)
    line = (y * 22 % 1 < 0.45) & (x - left < 0.1 + 0.3 * hash_cells(np.floor(y * 22), seed))
    text = window & line & (x > left + 0.03)
    screen = _mix(screen, (0.96, 0.97, 1.0), window)
    screen = _mix(screen, (0.25, 0.3, 0.4), text)
    return _mix(screen, (0.12, 0.13, 0.16), y < 0.07)


def _film(rgb, u, v, width, height, seed):
    """A television picture: dark with a bright scene, or switched off."""
    x, y = u / width, v / height
    off = hash_cells(seed, seed + 1) < 0.4
    glow = value_noise(x * 5, y * 4, seed)
    scene = np.stack([glow, value_noise(x * 4 + 9, y * 5, seed), 1 - glow * 0.6], axis=1)
    black = 0.05 + 0.06 * np.exp(-(((x - y - 0.2) / 0.1) ** 2))
    return np.where(off[:, None], black[:, None], 0.15 + 0.75 * scene)


def _mirror(rgb, u, v, width, height, seed):
    """Silvered glass: a blurred room and slanting gleams."""
    x, y = u / width, v / height
    room = 0.55 + 0.2 * y + 0.12 * value_noise(x * 2.5, y * 3.5, seed)
    gleam = (np.abs((x + 0.6 * y) % 0.7 - 0.3) < 0.05) | (np.abs((x + 0.6 * y) % 0.7 - 0.42) < 0.02)
    glass = np.stack([room * 0.86, room * 0.97, room * 1.06], axis=1)
    return _mix(glass, (0.98, 1.0, 1.0), 0.75 * gleam)


def _keys(rgb, u, v, width, height, seed):
    """A grid of keycaps."""
    gap = (u % 0.022 < 0.006) | (v % 0.024 < 0.006)
    return rgb * np.where(gap, 0.45, 1.15)[:, None]


def _piano_keys(rgb, u, v, width, height, seed):
    """White keys with black ones behind them, in twos and threes."""
    key = np.floor(u / 0.024) % 7
    black = (np.abs(u % 0.024 - 0.024) < 0.008) | (u % 0.024 < 0.006)
    black &= (key != 2) & (key != 6) & (v < height * 0.6)
    joint = u % 0.024 < 0.002
    return np.where((black | joint)[:, None], 0.07, np.full(rgb.shape, 0.95))


def _dial(rgb, u, v, width, height, seed):
    """A clock face: twelve marks and two hands on white."""
    x, y = 2 * u / width - 1, 2 * v / height - 1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    mark = (radius > 0.72) & (radius < 0.92) & (np.abs((angle * 6 / np.pi + 0.5) % 1 - 0.5) < 0.16)
    ink = mark | (radius < 0.08)
    for hand, reach in ((2.1 + 0.1 * (seed % 40), 0.5), (0.7 + 0.2 * (seed % 30), 0.75)):
        along = x * np.cos(hand) + y * np.sin(hand)
        across = -x * np.sin(hand) + y * np.cos(hand)
        ink |= (along > 0) & (along < reach) & (np.abs(across) < 0.06)
    return _mix(np.full(rgb.shape, 0.95), (0.08, 0.08, 0.1), ink)


def _scribble(rgb, u, v, width, height, seed):
    """A whiteboard: rows of handwriting in three inks and a box."""
    row = np.floor(v / 0.11)
    wave = 0.055 + 0.025 * np.sin(u * 95 + 40 * hash_cells(row, row, seed))
    wave += 0.018 * (value_noise(u * 30, row, seed) - 0.5)
    start = width * (0.1 + 0.15 * hash_cells(row, row + 1, seed))
    end = width * (0.35 + 0.5 * hash_cells(row, row + 2, seed))
    used = (u > start) & (u < end) & (v < height * 0.9) & (v > height * 0.2)
    used &= hash_cells(row, row + 3, seed) < 0.7
    ink = used & (np.abs(v % 0.11 - wave) < 0.011)
    inks = np.array([(0.1, 0.2, 0.75), (0.8, 0.12, 0.12), (0.1, 0.5, 0.2), (0.1, 0.1, 0.1)])
    which = np.floor(4 * hash_cells(row, row + 5, seed)).astype(np.int64).clip(0, 3)
    return np.where(ink[:, None], inks[which], 0.95 + 0 * rgb)


def _burners(rgb, u, v, width, height, seed):
    """A hob: four rings on black."""
    x, y = u / width, v / height
    radius = np.hypot((x % 0.5 - 0.25) * width, (y % 0.5 - 0.25) * height)
    size = np.minimum(width, height) * np.where((x > 0.5) == (y > 0.5), 0.2, 0.15)
    ring = (np.abs(radius - size) < 0.014) | (np.abs(radius - size * 0.5) < 0.008)
    return _mix(rgb, (0.75, 0.3, 0.2), 0.75 * ring)


def _glass_door(rgb, u, v, width, height, seed):
    """Dark oven glass in a frame."""
    x, y = u / width, v / height
    pane = (np.abs(x - 0.5) < 0.42) & (np.abs(y - 0.5) < 0.36)
    gleam = np.abs(x - 0.6 * y - 0.25) < 0.05
    return _mix(rgb, (0.09, 0.08, 0.08), pane) + (0.12 * (pane & gleam))[:, None]


def _label(rgb, u, v, width, height, seed):
    """A paper label around the middle."""
    y = v / height
    band = (y > 0.3) & (y < 0.65)
    stroke = band & (np.abs(y - 0.48) < 0.05) & (u * 60 % 1 < 0.6)
    return _mix(_mix(rgb, (0.93, 0.9, 0.82), band), (0.3, 0.15, 0.1), stroke)


def _slats(rgb, u, v, width, height, seed):
    """Upright ribs of 5 cm with dark gaps."""
    return rgb * np.where(u % 0.05 < 0.014, 0.45, 1.0 - 0.12 * (u % 0.05 > 0.035))[:, None]


def _fire(rgb, u, v, width, height, seed):
    """Flames over embers."""
    x, y = u / width, v / height
    heat = (1.1 - y) * (0.5 + value_noise(x * 9, y * 4, seed)) - 0.25 * np.abs(x - 0.5)
    heat = heat.clip(0, 1.2)
    return np.stack([heat * 1.4, heat**2 * 0.9, heat**4 * 0.4], axis=1).clip(0.03, 1)


def _fur(rgb, u, v, width, height, seed):
    """Plush."""
    return rgb * (0.75 + 0.35 * value_noise(u * 90, v * 90, seed))[:, None]


PATTERN_PAINTERS = {
    "stripes": _stripes,
    "checker": _checker,
    "dots": _dots,
    "terry": _terry,
    "brick": _brick,
    "wallpaper": _wallpaper,
    "stone": _stone,
    "wicker": _wicker,
    "leaves": _leaves,
    "cardboard": _cardboard,
    "desktop": _desktop,
    "film": _film,
    "mirror": _mirror,
    "keys": _keys,
    "piano keys": _piano_keys,
    "dial": _dial,
    "scribble": _scribble,
    "burners": _burners,
    "glass door": _glass_door,
    "label": _label,
    "slats": _slats,
    "fire": _fire,
    "fur": _fur,
}
