"""Cameras placed in clouds that come without views."""

import numpy as np
import pytest
import torch

from xmask3d_rt.data.room import generate_room
from xmask3d_rt.kernels import project_view
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.rgbd import load_rgbd
from xmask3d_rt.scene.rgbd_writer import write_rgbd
from xmask3d_rt.viewing.planning import find_places, plan_views
from xmask3d_rt.viewing.virtual import level_rotation, place_views

SIZE = (96, 128)


@pytest.fixture(scope="module")
def room():
    return generate_room(seed=3, views=0, point_spacing=0.04)


@pytest.fixture(scope="module")
def views(room):
    return place_views(room.points, room.rgb, size=SIZE)


def count_sightings(points, views):
    """Views that see each point, by the rule of the pipeline."""
    seen = np.zeros(len(points), dtype=int)
    for view in views:
        world_to_camera = torch.from_numpy(np.linalg.inv(view.camera_to_world))
        intrinsics, depth = torch.from_numpy(view.intrinsics), torch.from_numpy(view.depth)
        projected = project_view(
            torch.from_numpy(points), intrinsics, world_to_camera, depth, border=2
        )
        seen += projected.visible.numpy()
    return seen


def test_views_show_most_of_the_room(room, views):
    assert len(views) == 8
    assert (count_sightings(room.points, views) > 0).mean() > 0.65
    for view in views:
        assert view.image.shape == (*SIZE, 3)
        assert (view.depth > 0).mean() > 0.7
        assert view.image[view.depth > 0].std() > 5


def test_first_view_shows_more_than_a_random_one(room, views):
    first = (count_sightings(room.points, views[:1]) > 0).mean()
    assert first > 0.12
    gain = [(count_sightings(room.points, views[:k]) > 0).mean() for k in range(1, 9)]
    assert (np.diff(gain) >= 0).all()
    assert gain[3] > 2 * first


def test_cameras_stand_upright_in_free_space(room, views):
    low, high = room.points.min(axis=0), room.points.max(axis=0)
    for view in views:
        position = view.camera_to_world[:3, 3]
        assert (position[:2] > low[:2]).all()
        assert (position[:2] < high[:2]).all()
        assert 1.2 < position[2] < 1.8
        assert np.linalg.norm(room.points - position, axis=1).min() > 0.15
        assert abs(view.camera_to_world[2, 0]) < 0.01  # the horizon is level
        assert view.camera_to_world[2, 1] < -0.8  # the camera's y axis points down
        np.testing.assert_allclose(np.linalg.det(view.camera_to_world[:3, :3]), 1, atol=1e-9)


def test_most_points_in_the_frustum_are_seen_or_hidden(room, views):
    """What a view's depth contradicts: points in front of the surface it shows."""
    points = np.concatenate([room.points, np.ones((len(room.points), 1))], axis=1)
    for view in views:
        camera = points @ np.linalg.inv(view.camera_to_world)[:3].T
        pixel = camera @ view.intrinsics.T
        z = np.where(pixel[:, 2] > 0.1, pixel[:, 2], np.nan)
        u, v = pixel[:, 0] / z, pixel[:, 1] / z
        inside = (u > 0) & (u < SIZE[1] - 1) & (v > 0) & (v < SIZE[0] - 1)
        depth = view.depth[np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int)]
        assert (z[inside] >= 0.75 * depth).mean() > 0.95
        assert (depth > 0).mean() > 0.95


def test_equal_seeds_equal_views(room, views):
    again = place_views(room.points, room.rgb, size=SIZE)
    for a, b in zip(views, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.camera_to_world, b.camera_to_world)
    other = place_views(room.points, room.rgb, count=2, seed=5, size=SIZE)
    assert not np.allclose(other[0].camera_to_world, views[0].camera_to_world)


def test_turned_world_with_up_given(room):
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # z becomes -y ... up is (0, -1, 0)
    turn = np.diag([1.0, -1, -1]) @ turn
    views = place_views(room.points @ turn.T, room.rgb, up=turn[:, 2], count=3, size=SIZE)
    for view in views:
        down = view.camera_to_world[:3, 1]
        assert down @ turn[:, 2] < -0.8
        assert (view.depth > 0).mean() > 0.7


def test_up_of_any_length(room):
    views = [
        place_views(room.points, room.rgb, up=[0, 0, length], count=1, size=SIZE)[0]
        for length in (1, 1e300)
    ]
    np.testing.assert_allclose(views[0].camera_to_world, views[1].camera_to_world)


def test_tensors_and_written_folder(room, tmp_path):
    points, rgb = torch.from_numpy(room.points), torch.from_numpy(room.rgb)
    views = place_views(points, rgb, count=2, size=SIZE)
    read = load_rgbd(write_rgbd(views, tmp_path / "views"))
    for view, back in zip(views, read, strict=True):
        np.testing.assert_allclose(back.read_depth(), view.depth, atol=0.0006)
        np.testing.assert_allclose(back.camera_to_world, view.camera_to_world, atol=1e-8)


def test_an_object_is_seen_from_around(room):
    chair = room.points[room.labels == room.classes.index("chair")]
    center = chair[np.linalg.norm(chair - chair[0], axis=1) < 0.6]
    rgb = np.full((len(center), 3), 120, dtype=np.uint8)
    views = place_views(center, rgb, up=(0, 0, 1), count=4, size=SIZE)
    middle = center.mean(axis=0)
    for view in views:
        assert np.linalg.norm(view.camera_to_world[:3, 3] - middle) > 0.5
        assert (view.depth > 0).mean() > 0.01
    assert (count_sightings(center, views) > 0).mean() > 0.6


@pytest.mark.parametrize("n", [1, 3, 31])
def test_tiny_clouds_still_get_views(n):
    points = np.random.default_rng(0).uniform(0, 0.3, (n, 3))
    views = place_views(points, np.full((n, 3), 200, dtype=np.uint8), count=2, size=SIZE)
    assert len(views) == 2
    assert any((view.depth > 0).any() for view in views)


def test_places_are_free_and_above_the_floor(room):
    places = find_places(room.points.astype(np.float64), np.random.default_rng(0))
    assert 10 < len(places) <= 80
    for place in places:
        below = np.abs(room.points[:, :2] - place[:2]).max(axis=1) < 0.3
        assert (room.points[below, 2] < place[2] - 0.5).any()


def test_plan_without_any_place_orbits():
    cube = np.random.default_rng(0).uniform(-0.1, 0.1, (500, 3))
    plan = plan_views(cube, cube, 3, np.random.default_rng(0), (0.4, 0.5))
    assert all(np.linalg.norm(p.position) > 0.2 for p in plan)


@pytest.mark.parametrize("up", [(0, 0, 1.0), (0, -0.6, 0.8), (1.0, 0, 0)])
def test_level_rotation_takes_up_to_z(up):
    rotation = level_rotation(np.array(up))
    np.testing.assert_allclose(rotation @ up, (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) > 0


def test_kitchen_views_look_like_the_kitchen(shared):
    cloud = PointCloud.load(shared / "scenes" / "kitchen" / "scene.ply")
    views = place_views(cloud.xyz, cloud.rgb, size=(120, 160))
    assert (count_sightings(cloud.xyz, views) > 0).mean() > 0.8
    red = [view.image[view.depth > 0].astype(int) for view in views]
    cabinets = sum(((c[:, 0] > 90) & (c[:, 0] > 2 * c[:, 1])).mean() > 0.05 for c in red)
    assert cabinets >= 4  # red cabinet doors stand along two walls


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be >= 1"),
        ({"count": None}, TypeError, "count must be an integer, got NoneType"),
        ({"count": 2.5}, TypeError, "count must be an integer, got float"),
        ({"count": 10**9}, ValueError, "count is 1000000000, but views of 640x480 fit into memory"),
        ({"seed": -1}, ValueError, "seed must be >= 0, got -1"),
        ({"seed": "1"}, TypeError, "seed must be an integer, got str"),
        ({"size": (4, 640)}, ValueError, "size must be"),
        ({"size": (8, 99_999_999)}, ValueError, "at most 33,554,432 pixels, got .8, 99999999"),
        ({"size": (480, 10**30)}, ValueError, "at most 33,554,432 pixels"),
        ({"size": (480.5, 640)}, TypeError, "size must be an integer, got float"),
        ({"size": 480}, ValueError, r"size must be \(rows, columns\), got 480"),
        ({"size": (480, 640, 3)}, ValueError, r"size must be \(rows, columns\), got"),
        ({"fov": np.nan}, ValueError, "fov must be a finite number, got nan"),
        ({"fov": None}, TypeError, "fov must be a number, got NoneType"),
        ({"up": (0, np.nan, 1)}, ValueError, "up has 1 NaN"),
        ({"points": np.full((5, 3), 1e300)}, ValueError, "coordinates reach 1e.300 m"),
        ({"fov": 170.0}, ValueError, "fov must lie in 20..120"),
        ({"up": (0, 0, 0)}, ValueError, "up must not be zero"),
        ({"points": np.zeros((0, 3))}, ValueError, r"N >= 1, got \[0, 3\]"),
        ({"points": np.full((5, 3), np.inf)}, ValueError, "NaN or infinite"),
        ({"rgb": np.zeros((4, 3), np.uint8)}, ValueError, "rgb must have shape"),
        ({"rgb": np.zeros((5, 3))}, TypeError, "rgb must be uint8"),
    ],
)
def test_bad_requests_rejected(change, error, message):
    arguments = {"points": np.ones((5, 3)), "rgb": np.zeros((5, 3), np.uint8)}
    with pytest.raises(error, match=message):
        place_views(**(arguments | change))
