"""render_view: the torch form against a pixel-by-pixel evaluation of its definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.render_scenes import SIZE, K, random_camera, random_cloud
from xmask3d_rt.data.room import generate_room
from xmask3d_rt.kernels import estimate_spacing, render_view
from xmask3d_rt.kernels.render_view import reference
from xmask3d_rt.kernels.render_view import spacing as spacing_module


def brute_force(points, rgb, camera, spacing, size=SIZE):
    """Point index and depth per pixel, before holes are filled, from the docstring's formula."""
    height, width = size
    best = {}
    for i, point in enumerate(points.double().numpy()):
        x, y, z = (camera.numpy() @ [*point, 1])[:3]
        if not reference.NEAR < z < reference.FAR:
            continue
        u = float(K[0, 0]) * x / z + float(K[0, 2])
        v = float(K[1, 1]) * y / z + float(K[1, 2])
        focal = max(float(K[0, 0]), float(K[1, 1]))
        radius = min(max(focal * reference.SPLAT * spacing / z, 0.5), 24)
        u, v, radius = (math.floor(16 * value + 0.5) for value in (u, v, radius))
        for row in range(height):
            for col in range(width):
                distance = (16 * col - u) ** 2 + (16 * row - v) ** 2
                center = (col, row) == ((u + 8) // 16, (v + 8) // 16)
                if distance > radius**2 and not center:
                    continue
                cone = math.floor(1.5 * spacing * 65536 + 0.5) * distance // radius**2
                key = (math.floor(z * 65536 + 0.5) + cone, i, z)
                best[row, col] = min(best.get((row, col), key), key)
    index = np.full(size, -1)
    depth = np.zeros(size)
    for pixel, (_, i, z) in best.items():
        index[pixel], depth[pixel] = i, z
    return index, depth


def fill_by_hand(keys):
    """Hole filling as nested loops over a dict of (row, col) -> key."""
    filled = dict(keys)
    for row in range(SIZE[0]):
        for col in range(SIZE[1]):
            around = [
                keys[row + a, col + b]
                for a in (-1, 0, 1)
                for b in (-1, 0, 1)
                if (row + a, col + b) in keys
            ]
            if (row, col) not in keys and len(around) >= 5:
                filled[row, col] = max(around)
    return filled


@pytest.mark.parametrize("spacing", [0.01, 0.1, 0.6])
@pytest.mark.parametrize("n", [0, 1, 31, 61])
def test_matches_brute_force(n, spacing, monkeypatch):
    monkeypatch.setattr(reference, "FILL_PASSES", 0)
    points, rgb = random_cloud(n, seed=n)
    camera = random_camera(n)
    view = render_view(points, rgb, K, camera, SIZE, spacing)
    index, depth = brute_force(points, rgb, camera, spacing)
    np.testing.assert_array_equal(view.point_index, index)
    np.testing.assert_allclose(view.depth, depth, rtol=1e-6)
    expected = np.zeros((*SIZE, 3), dtype=np.uint8)
    expected[index >= 0] = rgb.numpy()[index[index >= 0]]
    np.testing.assert_array_equal(view.image, expected)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 400), seed=st.integers(0, 10_000), spacing=st.floats(0.001, 1.0))
def test_outputs_belong_together(n, seed, spacing):
    points, rgb = random_cloud(n, seed, torch.float64)
    camera = random_camera(seed)
    image, depth, index = render_view(points, rgb, K, camera, SIZE, spacing)
    drawn = index >= 0
    assert torch.equal(drawn, depth > 0)
    assert torch.equal(image[drawn], rgb[index[drawn]])
    assert not image[~drawn].any()
    z = points[index[drawn]] @ camera[2, :3] + camera[2, 3]
    torch.testing.assert_close(depth[drawn].double(), z, rtol=1e-6, atol=0)


def test_holes_are_filled_as_by_hand():
    rng = np.random.default_rng(1)
    keys = {
        (row, col): int(rng.integers(1, 10**6))
        for row in range(SIZE[0])
        for col in range(SIZE[1])
        if rng.uniform() < 0.6
    }
    image = torch.full(SIZE, reference.EMPTY)
    for pixel, key in keys.items():
        image[pixel] = key
    filled = reference._fill_holes(image)
    expected = torch.full(SIZE, reference.EMPTY)
    for pixel, key in fill_by_hand(keys).items():
        expected[pixel] = key
    assert torch.equal(filled, expected)
    assert not torch.equal(filled, image)


def test_nearer_point_wins_and_ties_go_to_the_lowest_index():
    points = torch.tensor([[0, 0, 3.0], [0, 0, 2.0], [0, 0, 2.0], [0, 0, -1.0], [0, 0, 0.0]])
    rgb = torch.arange(15, dtype=torch.uint8).view(5, 3)
    camera = torch.eye(4)
    center = torch.tensor([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]])
    view = render_view(points, rgb, center, camera, SIZE, 0.02)
    assert view.point_index[12, 16] == 1
    assert view.depth[12, 16] == 2
    assert view.image[12, 16].tolist() == [3, 4, 5]


def test_a_plane_is_drawn_without_holes_at_its_depth():
    step = torch.arange(-100, 100) * 0.02
    grid = torch.cartesian_prod(step, step)
    points = torch.cat([grid, torch.full((len(grid), 1), 1.0)], dim=1)
    points[:, 2] += 0.3 * points[:, 0]  # slanted
    rgb = torch.full((len(points), 3), 200, dtype=torch.uint8)
    intrinsics = torch.tensor([[300.0, 0, 99.5], [0, 300, 74.5], [0, 0, 1]])
    view = render_view(points, rgb, intrinsics, torch.eye(4), (150, 200))
    assert (view.point_index[1:-1, 1:-1] >= 0).all()
    x = (torch.arange(200) - 99.5) / 300
    torch.testing.assert_close(
        view.depth.double(), (1 / (1 - 0.3 * x.double())).expand(150, 200), atol=0.006, rtol=0
    )


def test_smoothing_stays_within_surfaces():
    """A white wall behind a black one: no grey where their depths differ."""
    step = torch.arange(-60, 60) * 0.02
    wall = torch.cat([torch.cartesian_prod(step, step), torch.full((14400, 1), 3.0)], dim=1)
    front = wall[wall[:, 0] < 0] * torch.tensor([1, 1, 2 / 3])
    points = torch.cat([wall, front])
    rgb = torch.zeros(len(points), 3, dtype=torch.uint8)
    rgb[: len(wall)] = 255
    intrinsics = torch.tensor([[60.0, 0, 15.5], [0, 60.0, 11.5], [0, 0, 1]])
    view = render_view(points, rgb, intrinsics, torch.eye(4), SIZE, 0.02, smooth=True)
    assert set(view.image.unique().tolist()) == {0, 255}

    noisy = torch.randint(0, 256, rgb.shape, generator=torch.Generator().manual_seed(0))
    intrinsics[:2, :2] *= 4
    mosaic = render_view(points, noisy.byte(), intrinsics, torch.eye(4), SIZE, 0.02)
    smooth = render_view(points, noisy.byte(), intrinsics, torch.eye(4), SIZE, 0.02, smooth=True)
    assert smooth.image.float().std() < 0.8 * mosaic.image.float().std()
    assert abs(smooth.image.float().mean() - mosaic.image.float().mean()) < 5
    assert torch.equal(smooth.depth, mosaic.depth)


def test_points_that_are_not_finite_are_not_drawn():
    points, rgb = random_cloud(31)
    spoilt = torch.cat([points, torch.tensor([[math.nan, 0, 2], [math.inf, 0, 2], [0, 0, -9e9]])])
    colors = torch.cat([rgb, rgb[:3]])
    plain = render_view(points, rgb, K, random_camera(), SIZE, 0.1)
    view = render_view(spoilt, colors, K, random_camera(), SIZE, 0.1)
    assert torch.equal(view.point_index, plain.point_index)


def test_strided_and_half_precision_points():
    points, rgb = random_cloud(200)
    halves = points.half()
    strided = torch.cat([halves, halves], dim=1)[:, :3]
    assert not strided.is_contiguous()
    view = render_view(strided, rgb.flip(1).flip(1), K, random_camera(), SIZE, 0.1)
    expected = render_view(halves.double(), rgb, K, random_camera(), SIZE, 0.1)
    assert torch.equal(view.point_index, expected.point_index)


def test_room_views_are_reproduced_from_the_room_cloud():
    room = generate_room(1, 2, (120, 160), point_spacing=0.025, ceiling=False)
    points, rgb = torch.from_numpy(room.points), torch.from_numpy(room.rgb)
    for view, truth in zip(room.views, room.view_labels, strict=True):
        camera = torch.from_numpy(np.linalg.inv(view.camera_to_world))
        drawn = render_view(points, rgb, torch.from_numpy(view.intrinsics), camera, (120, 160))
        both = (view.depth > 0) & (drawn.depth.numpy() > 0)
        assert both.mean() > 0.98 * (view.depth > 0).mean()
        error = np.abs(drawn.depth.numpy() - view.depth)[both] / view.depth[both]
        assert np.quantile(error, 0.95) < 0.025
        difference = np.abs(drawn.image.numpy().astype(float) - view.image)[both]
        assert difference.mean() < 20
        labels = room.labels[drawn.point_index.numpy()[both]]
        assert (labels == truth[both]).mean() > 0.93


def test_spacing_of_a_voxel_cloud():
    room = generate_room(seed=1, views=0, point_spacing=0.04)
    spacing = estimate_spacing(torch.from_numpy(room.points))
    assert spacing.shape == (1,)
    assert 0.03 < float(spacing) < 0.055
    moved = torch.from_numpy(room.points).double() + 60_000
    assert float(estimate_spacing(moved)) == pytest.approx(float(spacing), rel=1e-3)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_spacing_of_few_points_is_the_default(n):
    assert float(estimate_spacing(torch.zeros(n, 3))) == 0.02


def test_spacing_of_coinciding_points_is_positive():
    assert 0 < float(estimate_spacing(torch.ones(50, 3))) < 0.001


@pytest.mark.parametrize("spacing", [None, 0.1])
def test_spacing_ignores_points_that_are_not_finite(spacing):
    points, rgb = random_cloud(300)
    expected = render_view(points, rgb, K, random_camera(), SIZE, spacing)
    spoilt = torch.cat([points, torch.full((50, 3), math.nan)])
    view = render_view(spoilt, torch.cat([rgb, rgb[:50]]), K, random_camera(), SIZE, spacing)
    assert torch.equal(view.image, expected.image)


def test_spacing_by_all_pairs_equals_the_tree():
    points, _ = random_cloud(2000)
    queries = points[::10].double()
    torch.testing.assert_close(
        spacing_module._measure_on_device(points, queries),
        spacing_module._measure_on_host(points, queries),
    )


@pytest.mark.gpu
@pytest.mark.parametrize("n", [0, 1, 31, 997, 200_003])
@pytest.mark.parametrize("smooth", [False, True])
def test_cuda_equals_cpu(n, smooth):
    points, rgb = random_cloud(n, n)
    camera = random_camera(n)
    intrinsics = torch.tensor([[200.0, 0, 160], [0, 210, 120], [0, 0, 1]])
    expected = render_view(points, rgb, intrinsics, camera, (240, 320), 0.03, smooth)
    inputs = [tensor.cuda() for tensor in (points, rgb, intrinsics, camera)]
    view = render_view(*inputs, (240, 320), 0.03, smooth)
    for ours, theirs in zip(view, expected, strict=True):
        assert torch.equal(ours.cpu(), theirs)


def test_fake_tensors_have_the_same_form():
    from torch._subclasses.fake_tensor import FakeTensorMode

    points, rgb = random_cloud(31)
    step = torch.full((1,), 0.1, dtype=torch.float64)
    arguments = (points, rgb, K, random_camera(), SIZE, step, True)
    real = torch.ops.xmask3d.render_view(*arguments)
    with FakeTensorMode() as mode:
        fake_arguments = [
            mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments
        ]
        fake = torch.ops.xmask3d.render_view(*fake_arguments)
    for ours, theirs in zip(fake, real, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"points": torch.zeros(5, 2)}, ValueError, r"points must have shape \[N, 3\]"),
        ({"points": torch.zeros(5, 3).int()}, TypeError, "points must be floating point"),
        ({"rgb": torch.zeros(4, 3).byte()}, ValueError, "rgb must have shape"),
        ({"rgb": torch.zeros(5, 3)}, TypeError, "rgb must be uint8"),
        ({"K": torch.eye(4)}, ValueError, "K must have shape"),
        ({"world_to_camera": torch.eye(3)}, ValueError, "world_to_camera must have shape"),
        ({"size": (0, 5)}, ValueError, "size must be"),
        ({"spacing": 0.0}, ValueError, "spacing must lie in"),
        ({"spacing": math.nan}, ValueError, "spacing must lie in"),
        ({"spacing": torch.ones(2)}, ValueError, "spacing must have shape"),
    ],
)
def test_bad_arguments_rejected(change, error, message):
    arguments = {
        "points": torch.zeros(5, 3),
        "rgb": torch.zeros(5, 3, dtype=torch.uint8),
        "K": torch.eye(3),
        "world_to_camera": torch.eye(4),
        "size": (8, 8),
    }
    with pytest.raises(error, match=message):
        render_view(**(arguments | change))
