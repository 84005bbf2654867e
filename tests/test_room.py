"""Generated rooms: exact, seeded, and written as a folder that reads back."""

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from xmask3d_rt.data.boxes import Box, stack_boxes
from xmask3d_rt.data.room import default_intrinsics, generate_room, write_room
from xmask3d_rt.data.rooms.cameras import look_at
from xmask3d_rt.data.rooms.casting import cast_view
from xmask3d_rt.data.rooms.kinds import SCANNET_CLASSES
from xmask3d_rt.data.rooms.lighting import make_lamp, shade
from xmask3d_rt.data.textures import TEXTURES

SIZE = (96, 128)


@pytest.fixture(scope="module")
def room():
    return generate_room(seed=3, views=4, image_size=SIZE, point_spacing=0.04)


def test_room_has_furniture_colours_and_labels(room):
    assert room.points.dtype == np.float32
    assert room.rgb.dtype == np.uint8
    assert len(room.points) == len(room.rgb) == len(room.labels) > 20_000
    present = {room.classes[k] for k in np.unique(room.labels)}
    assert {"wall", "floor", "bed", "door"} <= present
    assert len(present) >= 8
    assert room.rgb.std(axis=0).min() > 15
    for view in room.views:
        assert view.image.shape == (*SIZE, 3)
        assert (view.depth > 0).mean() > 0.95
        assert view.image.std() > 15


def test_one_point_per_voxel(room):
    voxels = np.floor(room.points.astype(np.float64) / 0.04)
    assert len(np.unique(voxels, axis=0)) == len(room.points)


def test_equal_seeds_equal_rooms(room):
    again = generate_room(seed=3, views=4, image_size=SIZE, point_spacing=0.04)
    np.testing.assert_array_equal(again.points, room.points)
    np.testing.assert_array_equal(again.rgb, room.rgb)
    np.testing.assert_array_equal(again.views[2].image, room.views[2].image)
    np.testing.assert_array_equal(again.views[2].depth, room.views[2].depth)
    other = generate_room(seed=4, views=1, image_size=SIZE, point_spacing=0.04)
    assert len(other.points) != len(room.points)


def test_points_agree_with_the_depth_of_every_view(room):
    """A point in the frustum is on the surface that the view sees, or behind it."""
    points = np.concatenate([room.points, np.ones((len(room.points), 1))], axis=1)
    seen_anywhere = np.zeros(len(points), dtype=bool)
    for view in room.views:
        camera = points @ np.linalg.inv(view.camera_to_world)[:3].T
        pixel = camera @ view.intrinsics.T
        z = pixel[:, 2]
        in_front = z > 0.1
        u, v = np.rint(pixel[:, :2].T / np.where(in_front, z, 1)).astype(int)
        inside = in_front & (u >= 0) & (u < SIZE[1]) & (v >= 0) & (v < SIZE[0])
        depth = view.depth[v[inside], u[inside]]
        visible = np.abs(depth - z[inside]) <= 0.25 * depth
        occluded = depth < z[inside]
        assert (visible | occluded).mean() >= 0.98
        assert visible.mean() > 0.4
        seen_anywhere[np.flatnonzero(inside)[visible]] = True
    assert seen_anywhere.mean() > 0.6


def test_view_labels_agree_with_the_points_seen(room):
    view, labels = room.views[0], room.view_labels[0]
    v, u = np.nonzero(labels >= 0)
    rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(view.intrinsics).T
    world = rays * view.depth[v, u, None] @ view.camera_to_world[:3, :3].T
    world += view.camera_to_world[:3, 3]
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(room.points).query(world)
    assert np.quantile(distance, 0.99) < 0.06  # no surface without points
    assert (room.labels[nearest] == labels[v, u]).mean() > 0.95


@pytest.mark.parametrize(
    ("furniture", "classes"),
    [
        ("bed sofa desk bookshelf table chair chair nightstand picture", "bed sofa desk"),
        ("counter refrigerator cabinet table chair", "counter sink refrigerator cabinet"),
        ("toilet bathtub door window curtain", "toilet bathtub curtain window"),
        ("bathtub", "bathtub"),
    ],
)
def test_wanted_pieces_are_placed(furniture, classes):
    found = set()
    for seed in range(3):  # a small room may leave one out
        room = generate_room(seed, 0, SIZE, point_spacing=0.1, furniture=furniture.split())
        assert room.views == []
        found |= {room.classes[k] for k in np.unique(room.labels)}
    assert set(classes.split()) | {"wall", "floor"} <= found
    assert ("table" in found) == ("table" in furniture)


def test_furniture_stands_inside_the_room(room):
    floor = room.points[room.labels == SCANNET_CLASSES.index("floor")]
    low, high = room.points.min(axis=0), room.points.max(axis=0)
    assert (low >= 0).all()
    assert high[2] < 2.9
    np.testing.assert_allclose(floor[:, :2].max(axis=0), high[:2], atol=0.2)


def test_cast_view_matches_the_analytic_box():
    box = stack_boxes([Box((0, 0, 0), (2, 2, 2), (1, 0, 0), yaw=np.pi / 4)])
    camera_to_world = look_at(np.array([5.0, 0, 0]), np.zeros(3))
    intrinsics = default_intrinsics((65, 65))
    depth, hit = cast_view(box, intrinsics, camera_to_world, (65, 65))
    assert depth[32, 32] == pytest.approx(5 - np.sqrt(2), abs=1e-5)
    # Column u meets the edge |x| + |y| = sqrt(2) of the turned box where x = 5 - z.
    ray = (40 - 32) / intrinsics[0, 0]
    assert depth[32, 40] == pytest.approx((5 - np.sqrt(2)) / (1 - ray), rel=1e-5)
    assert depth[0, 0] == 0
    assert hit[0, 0] == -1


def test_lamp_casts_a_shadow():
    boxes = stack_boxes(
        [
            Box((0, 0, -0.05), (6, 6, 0.1), (0.8, 0.8, 0.8)),
            Box((0, 0, 0.7), (1, 1, 0.1), (0.8, 0.8, 0.8)),
        ]
    )
    lamp = make_lamp(boxes, (0, 0, 2.5))
    under, beside = shade(boxes, lamp, np.array([[0.2, 0.1, 0], [1.5, 0.1, 0]]), np.array([0, 0]))
    assert under.mean() < 0.85 * beside.mean()


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_have_structure(texture):
    boxes = stack_boxes([Box((0, 0, 0), (2, 2, 2), (0.6, 0.5, 0.4), texture)])
    lamp = make_lamp(boxes, (0, -3, 0))
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(-1, 1, 500), np.full(500, -1), rng.uniform(-1, 1, 500)], axis=1)
    rgb = shade(boxes, lamp, points, np.zeros(500, dtype=int))
    assert 10 < rgb.mean() < 250
    assert len(np.unique(rgb, axis=0)) > 10


def test_written_room_reads_back(room, tmp_path):
    folder = write_room(room, tmp_path / "deep" / "room")
    written = folder / "scene.ply"
    vertex = PlyData.read(str(written))["vertex"].data
    np.testing.assert_array_equal(np.stack([vertex[k] for k in "xyz"], axis=1), room.points)
    np.testing.assert_array_equal(vertex["green"], room.rgb[:, 1])
    np.testing.assert_array_equal(vertex["label"], room.labels)
    depth = np.asarray(Image.open(folder / "depth" / "3.png"))
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth / 1000, room.views[3].depth, atol=0.00051)
    pose = np.loadtxt(folder / "pose" / "3.txt")
    np.testing.assert_allclose(pose, room.views[3].camera_to_world, atol=1e-8)
    labels = np.asarray(Image.open(folder / "label" / "0.png"))
    np.testing.assert_array_equal(labels.astype(np.int16), room.view_labels[0] & 255)
    assert (folder / "classes.txt").read_text().splitlines() == room.classes
    assert len(list((folder / "color").iterdir())) == 4
    write_room(room, folder)  # replaces its own work
    assert sorted(p.name for p in folder.parent.iterdir()) == ["room"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": -1}, "views must be >= 0, got -1"),
        ({"image_size": (0, 640)}, "image_size must be"),
        ({"point_spacing": 0.0}, "point_spacing must be > 0"),
        ({"furniture": ["throne"]}, "unknown furniture 'throne'"),
    ],
)
def test_bad_requests_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        generate_room(**options)
