"""Rooms with noise: repeatable, consistent between cloud and views, quick."""

import time

import numpy as np
import pytest
from scipy.spatial import cKDTree

from xmask3d_rt.data.room import generate_room, generate_training_room
from xmask3d_rt.data.rooms.cameras import disturb_pose, look_at
from xmask3d_rt.data.rooms.draws import HELD_OUT_FROM
from xmask3d_rt.data.rooms.kinds import KINDS, NOVEL_KINDS

SECONDS = 12.0  # of processor time; a room takes a seventh of it on a core of its own


@pytest.fixture(scope="module")
def room():
    return generate_training_room(HELD_OUT_FROM + 3, views=4)


def test_equal_seeds_equal_rooms(room):
    again = generate_training_room(HELD_OUT_FROM + 3, views=4)
    np.testing.assert_array_equal(again.points, room.points)
    np.testing.assert_array_equal(again.instances, room.instances)
    np.testing.assert_array_equal(again.views[1].image, room.views[1].image)
    np.testing.assert_array_equal(again.views[1].depth, room.views[1].depth)
    np.testing.assert_array_equal(again.views[1].camera_to_world, room.views[1].camera_to_world)
    assert again.captions == room.captions


def test_labels_and_instances_of_pixels_are_those_of_the_points_there(room):
    tree = cKDTree(room.points)
    for view, kinds, numbers in zip(room.views, room.view_labels, room.view_instances, strict=True):
        v, u = np.nonzero((view.depth > 0) & (kinds >= 0))
        rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(view.intrinsics).T
        world = rays * view.depth[v, u, None] @ view.camera_to_world[:3, :3].T
        world += view.camera_to_world[:3, 3]
        distance, nearest = tree.query(world)
        assert np.quantile(distance, 0.95) < 0.08
        assert (room.labels[nearest] == kinds[v, u]).mean() > 0.93
        assert (room.instances[nearest] == numbers[v, u]).mean() > 0.93


def test_an_instance_is_of_one_kind(room):
    pairs = np.unique(np.stack([room.instances, room.labels], axis=1), axis=0)
    assert len(pairs) == len(np.unique(room.instances))
    seen = np.concatenate([numbers.ravel() for numbers in room.view_instances])
    assert len(np.unique(seen[seen >= 0])) > 8


def test_scannet_labels_are_the_kinds_closed_up():
    kinds = generate_room(5, 1, (60, 80), 0.1, label_set="kinds")
    coarse = generate_room(5, 1, (60, 80), 0.1)
    np.testing.assert_array_equal(coarse.points, kinds.points)
    np.testing.assert_array_equal(coarse.labels, np.minimum(kinds.labels, 19))
    np.testing.assert_array_equal(coarse.view_labels[0], np.minimum(kinds.view_labels[0], 19))
    assert kinds.labels.max() > 19
    assert kinds.classes == list(KINDS)


def test_captions_leave_out_unnamed_kinds():
    for seed in range(4):
        named = generate_training_room(seed, 3, (60, 80), 0.2)
        assert len(named.captions) == 3
        quiet = generate_training_room(seed, 3, (60, 80), 0.2, unnamed=NOVEL_KINDS)
        text = " ".join(quiet.captions)
        assert not any(kind in text for kind in NOVEL_KINDS)


def test_measured_poses_are_a_few_millimetres_off():
    pose = look_at(np.array([1.0, 2.0, 1.5]), np.array([3.0, 3.0, 0.5]))
    rng = np.random.default_rng(0)
    measured = [disturb_pose(pose, rng, 1.0) for _ in range(300)]
    shift = np.array([m[:3, 3] - pose[:3, 3] for m in measured])
    assert 0.0025 < shift.std() < 0.0035
    for m in measured:
        np.testing.assert_allclose(m[:3, :3] @ m[:3, :3].T, np.eye(3), atol=1e-9)
        assert 0.9999 < np.trace(m[:3, :3].T @ pose[:3, :3]) / 3 <= 1 + 1e-12


def test_noise_changes_no_surface():
    calm, rough = (generate_room(3, 1, (60, 80), 0.1, noise=n) for n in (0.0, 1.0))
    np.testing.assert_array_equal(calm.view_labels[0], rough.view_labels[0])
    assert (rough.views[0].depth == 0).mean() > (calm.views[0].depth == 0).mean()
    with pytest.raises(ValueError, match="noise must be >= 0, got -1"):
        generate_room(noise=-1)


def test_a_room_with_eight_views_is_quick():
    generate_training_room(1, views=1)
    start = time.process_time()
    generate_training_room(2, views=8)
    assert time.process_time() - start < SECONDS
