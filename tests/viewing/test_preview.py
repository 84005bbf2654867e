"""Pictures of labelled clouds: the inside of the room shows, with its colours and a legend."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from xmask3d_rt.data.room import generate_room
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.viewing.preview import BACKGROUND, draw_legend, render_preview, render_previews

SIZE = (150, 200)
PALETTE = np.random.default_rng(0).integers(40, 220, (20, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def room():
    return generate_room(seed=5, views=0, point_spacing=0.05)


def share_of(image, color, tolerance=30):
    """Share of the pixels within `tolerance` of a colour, in any brightness of it."""
    pixels = image.reshape(-1, 3).astype(float)
    scale = np.clip(pixels @ color / (color @ color), 0.5, 1.02)
    return (np.abs(pixels - scale[:, None] * color).max(axis=1) < tolerance).mean()


def share_drawn(image):
    return (np.abs(image.astype(int) - BACKGROUND).max(axis=2) > 4).mean()


def test_the_floor_and_furniture_show(room):
    colors = np.full((len(room.points), 3), 120, dtype=np.uint8)
    colors[room.labels == room.classes.index("floor")] = (30, 200, 40)
    colors[room.labels == room.classes.index("table")] = (220, 30, 40)
    image = render_preview(room.points, colors, SIZE)
    assert image.shape == (*SIZE, 3)
    assert image.dtype == np.uint8
    assert share_drawn(image) > 0.4
    assert share_of(image, np.array([30.0, 200, 40])) > 0.15
    assert share_of(image, np.array([220.0, 30, 40])) > 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_a_turned_room_with_ceiling_is_looked_into(room, seed):
    floor = room.points[room.labels == room.classes.index("floor")]
    ceiling = floor + (0, 0, room.points[:, 2].max())
    points = np.concatenate([room.points, ceiling])
    colors = np.full((len(points), 3), 120, dtype=np.uint8)
    colors[: len(room.points)][room.labels == room.classes.index("floor")] = (30, 200, 40)
    colors[len(room.points) :] = (30, 40, 220)
    turn = Rotation.random(random_state=seed).as_matrix()
    image = render_preview(points @ turn.T, colors, SIZE, up=turn[:, 2])
    assert share_of(image, np.array([30.0, 40, 220])) < 0.01
    assert share_of(image, np.array([30.0, 200, 40])) > 0.1


def test_previews_are_repeatable(room):
    colors = PALETTE[room.labels]
    first = render_preview(room.points, colors, SIZE)
    np.testing.assert_array_equal(first, render_preview(room.points, colors, SIZE))


def test_colourings_share_one_picture(room):
    colors = PALETTE[room.labels]
    both = render_previews(room.points, [room.rgb, colors], SIZE, up=(0, 0, 1))
    np.testing.assert_array_equal(both[1], render_preview(room.points, colors, SIZE, up=(0, 0, 1)))
    assert not np.array_equal(*both)


@pytest.mark.parametrize("n", [1, 2, 31])
def test_few_points_are_drawn(n):
    points = np.random.default_rng(n).uniform(0, 1, (n, 3))
    image = render_preview(points, np.full((n, 3), 10, dtype=np.uint8), (64, 64))
    assert 0 < share_drawn(image) < 1


def test_kitchen_preview(shared):
    cloud = PointCloud.load(shared / "scenes" / "kitchen" / "scene.ply")
    image = render_preview(cloud.xyz, cloud.rgb, SIZE)
    assert share_drawn(image) > 0.35
    pixels = image.reshape(-1, 3).astype(int)
    red = (pixels[:, 0] > 90) & (pixels[:, 0] > 2 * pixels[:, 1])
    wood = (pixels[:, 0] > 140) & (pixels[:, 0] - pixels[:, 2] > 40) & (pixels[:, 1] > 90)
    assert red.mean() > 0.02  # the cabinets
    assert wood.mean() > 0.05  # the table top, which only a view from above shows


def test_legend_lists_classes_beside_the_picture():
    image = np.full((300, 400, 3), 255, dtype=np.uint8)
    names = ["wall", "floor", "a class whose name is far too long for the column it stands in"]
    legend = draw_legend(image, names, PALETTE[:3], [700, 200, 100])
    assert legend.shape[0] == 300
    assert legend.shape[1] > 400
    np.testing.assert_array_equal(legend[:, :400], image)
    for color in PALETTE[:3]:
        assert (legend[:, 400:] == color).all(axis=2).sum() > 100
    assert (legend[:, -2:] == BACKGROUND).all()  # long names take a second line
    shares = draw_legend(image, names, PALETTE[:3])
    assert not np.array_equal(shares, legend)
    few = draw_legend(image, names, PALETTE[:3], [7000, 3000, 1])  # 0.0 % of the points
    assert not (few[:, 400:] == PALETTE[2]).all(axis=2).any()


def test_long_legends_take_further_columns():
    image = np.full((120, 100, 3), 255, dtype=np.uint8)
    one = draw_legend(image, ["wall"], PALETTE[:1]).shape[1] - 100
    many = draw_legend(image, [f"class {i}" for i in range(20)], PALETTE).shape[1] - 100
    assert many > 3 * one
    assert draw_legend(image, [], np.zeros((0, 3))).shape == image.shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"points": np.zeros((0, 3))}, ValueError, r"N >= 1, got \[0, 3\]"),
        ({"points": np.full((5, 3), np.nan)}, ValueError, "NaN or infinite"),
        ({"colors": np.zeros((4, 3), np.uint8)}, ValueError, "colors must have shape"),
        ({"colors": np.zeros((5, 3))}, TypeError, "colors must be uint8"),
        ({"size": (8, 100)}, ValueError, "size must be"),
        ({"up": (0, 0, 0)}, ValueError, "render_preview: up must not be zero"),
    ],
)
def test_bad_previews_rejected(change, error, message):
    arguments = {"points": np.ones((5, 3)), "colors": np.zeros((5, 3), np.uint8)}
    with pytest.raises(error, match=message):
        render_preview(**(arguments | change))


def test_bad_legends_rejected():
    image = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(ValueError, match="colors must have shape"):
        draw_legend(image, ["wall"], PALETTE)
    with pytest.raises(ValueError, match="2 counts for 1 names"):
        draw_legend(image, ["wall"], PALETTE[:1], [1, 2])
