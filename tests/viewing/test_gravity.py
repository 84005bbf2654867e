"""The up direction of indoor clouds, however they are turned."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from xmask3d_rt.data.room import generate_room
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.viewing.gravity import check_up, estimate_up, thin_points


def angle(a, b):
    return np.rad2deg(np.arccos(np.clip(a @ b, -1, 1)))


# Rooms that are wider than high both ways; turned, a narrow one has no telling floor.
@pytest.mark.parametrize("seed", [1, 2, 3, 5, 6, 7])
def test_up_of_turned_rooms(seed):
    points = generate_room(seed, views=0, point_spacing=0.04).points
    turn = Rotation.random(random_state=seed).as_matrix()
    assert angle(estimate_up(points @ turn.T + 3), turn[:, 2]) < 1


@pytest.mark.parametrize("seed", range(4))
def test_a_ceiling_does_not_turn_the_room_over(seed):
    points = generate_room(seed, views=0, point_spacing=0.04).points
    floor = points[points[:, 2] < 0.01]
    rng = np.random.default_rng(seed)
    ceiling = rng.uniform((*points.min(0)[:2], 0), (*points.max(0)[:2], 0), (2 * len(floor), 3))
    ceiling[:, 2] = points[:, 2].max()
    assert angle(estimate_up(np.concatenate([points, ceiling])), np.array([0, 0, 1])) < 1


def test_up_of_the_kitchen(shared):
    points = PointCloud.load(shared / "scenes" / "kitchen" / "scene.ply").xyz
    down = np.array([-0.009, 0.904, 0.427])
    assert angle(estimate_up(points), -down / np.linalg.norm(down)) < 3


@pytest.mark.parametrize("n", [1, 2, 15, 31])
def test_few_points_fall_back_to_z(n):
    points = np.tile([[0.5, 0.5, 0.5]], (n, 1))
    np.testing.assert_allclose(estimate_up(points), (0, 0, 1))


def test_estimate_is_repeatable():
    points = generate_room(2, views=0, point_spacing=0.05).points
    np.testing.assert_array_equal(estimate_up(points), estimate_up(points))


def test_given_up_is_normalised():
    np.testing.assert_allclose(check_up((0, -3, 4), "x"), (0, -0.6, 0.8))


@pytest.mark.parametrize("length", [1e300, 1e-300, 5e-324, 1.7e308])
def test_given_up_of_any_length_is_normalised(length):
    np.testing.assert_allclose(check_up([length, 0, 0], "x"), (1, 0, 0))
    np.testing.assert_allclose(check_up([0, -length, length], "x"), (0, -(0.5**0.5), 0.5**0.5))


@pytest.mark.parametrize("up", [(0, 0, 0), (1, 2), (0, np.nan, 1), (0, np.inf, 0), [[0, 0, 1]]])
def test_bad_up_rejected(up):
    with pytest.raises(ValueError, match="place_views: up"):
        check_up(up, "place_views")


@pytest.mark.parametrize("up", ["abc", "0,0,1", None, [None, 0, 1], [10**400, 0, 0]])
def test_up_that_is_no_vector_rejected(up):
    with pytest.raises(TypeError, match="place_views: up must hold real numbers"):
        check_up(up, "place_views")


def test_masked_up_rejected():
    with pytest.raises(ValueError, match="place_views: up has 1 masked entries"):
        check_up(np.ma.masked_equal([0.0, 0.5, 1.0], 0.5), "place_views")


def test_bad_points_rejected():
    with pytest.raises(ValueError, match=r"points must have shape \[N, 3\]"):
        estimate_up(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        estimate_up(np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match=r"N >= 1, got \[0, 3\]"):
        estimate_up(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"coordinates reach 1e\+300"):
        estimate_up([[0, 0, 0], [1e300, 0, 0]])


@pytest.mark.parametrize("limit", [10, 500, 10_000])
def test_thinned_points_are_spread_and_few(limit):
    points = np.random.default_rng(0).uniform(0, 3, (5000, 3))
    thinned = thin_points(points, limit)
    assert len(thinned) <= min(limit, 5000)
    assert len(thinned) > 0.2 * min(limit, 5000)
    assert len(np.unique(thinned, axis=0)) == len(thinned)
