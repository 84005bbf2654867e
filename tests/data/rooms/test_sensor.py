"""Noise and holes of measured depth: their size and their places."""

import numpy as np
import pytest

from xmask3d_rt.data.rooms.sensor import ExactView, depth_sigma, measure_depth, take_image
from xmask3d_rt.data.textures import TEXTURES

SHAPE = (120, 160)


def make_view(depth=2.0, cosine=1.0, texture="plain", brightness=150):
    return ExactView(
        np.full((*SHAPE, 3), brightness, dtype=np.uint8),
        np.full(SHAPE, depth, dtype=np.float32),
        np.full(SHAPE, cosine, dtype=np.float32),
        np.full(SHAPE, TEXTURES.index(texture)),
    )


def measure(view, noise=1.0):
    return measure_depth(view, np.random.default_rng(1), noise)


@pytest.mark.parametrize("distance", [0.8, 2.0, 4.0, 6.0])
def test_noise_grows_with_the_square_of_the_distance(distance):
    depth = measure(make_view(distance))
    measured = depth[depth > 0]
    assert len(measured) > 0.98 * depth.size
    assert measured.mean() == pytest.approx(distance, abs=0.1 * depth_sigma(np.array(distance)))
    assert measured.std() == pytest.approx(depth_sigma(np.array(distance)), rel=0.2)
    twice = measure(make_view(distance), 2.0)
    assert twice[twice > 0].std() == pytest.approx(2 * measured.std(), rel=0.2)


def test_noise_is_partly_shared_by_neighbours():
    depth = measure(make_view(2.0), 1.0).astype(np.float64)
    depth[depth == 0] = 2.0
    left, right = depth[:, :-1].ravel(), depth[:, 1:].ravel()
    assert 0.15 < np.corrcoef(left, right)[0, 1] < 0.6


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"cosine": 0.02}, (0.7, 1.0)),
        ({"cosine": 0.5}, (0.0, 0.02)),
        ({"texture": "mirror"}, (0.5, 0.9)),
        ({"texture": "sky"}, (0.5, 0.95)),
        ({"brightness": 10}, (0.5, 0.95)),
        ({"depth": 7.0}, (1.0, 1.0)),
        ({"depth": 0.2}, (1.0, 1.0)),
        ({"depth": 0.0}, (1.0, 1.0)),
    ],
)
def test_holes_are_where_sensors_have_them(options, share):
    lost = (measure(make_view(**options)) == 0).mean()
    assert share[0] <= lost <= share[1]


def test_edges_are_ragged_and_have_holes():
    view = make_view(2.0)
    view.depth[:, 80:] = 3.0
    depth = measure(view)
    assert (depth[:, 79:81] == 0).mean() > 0.3
    assert (depth[:, 79] > 2.5).any()  # the far side seen a pixel early
    assert (np.abs(depth[:, :70] - 2.0) < 0.1).mean() > 0.98


def test_images_differ_in_exposure_and_grain():
    image = np.full((*SHAPE, 3), 120, dtype=np.uint8)
    rng = np.random.default_rng(0)
    shots = [take_image(image, rng).astype(float) for _ in range(20)]
    assert np.std([shot.mean() for shot in shots]) > 3
    assert all(0.9 < shot.std(axis=(0, 1)).mean() < 4.2 for shot in shots)
