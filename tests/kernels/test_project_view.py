"""project_view: the projection rules one by one, golden mappings, refusals."""

import numpy as np
import pytest
import torch

from xmask3d_rt.kernels import project_view

K = torch.tensor([[100.0, 0, 16], [0, 100, 12], [0, 0, 1]], dtype=torch.float64)
IDENTITY = torch.eye(4, dtype=torch.float64)


def point_at(u, v, z):
    """A point that projects to (u, v) at depth z."""
    return [(u - 16) * z / 100, (v - 12) * z / 100, z]


def project(points, **options):
    options = {"border": 0, "size": (24, 32), **options}
    points = torch.tensor(points, dtype=torch.float64).reshape(-1, 3)
    return project_view(points, K, IDENTITY, **options)


def test_pixel_is_row_v_column_u():
    view = project([point_at(20, 5, 2.0)])
    assert (int(view.row), int(view.col), bool(view.visible)) == (5, 20, True)


def test_rounds_half_to_even():
    # exact halves: z = 1 and a focal length of 100 with offsets of 1/200
    points = [[0.005, 0.015, 1.0], [0.025, 0.035, 1.0]]
    view = project(points)
    u = torch.tensor([16 + 0.005 * 100, 16 + 0.025 * 100], dtype=torch.float64)
    v = torch.tensor([12 + 0.015 * 100, 12 + 0.035 * 100], dtype=torch.float64)
    assert torch.equal(view.col, torch.round(u).int())
    assert torch.equal(view.row, torch.round(v).int())
    assert view.col.tolist() == [16, 18]


def test_behind_the_camera_is_never_visible():
    behind = [point_at(16, 12, -1.0), [0.0, 0.0, 0.0]]
    assert not project(behind).visible.any()
    depth = torch.full((24, 32), 1.0)
    assert not project(behind, depth=depth, tolerance=5.0).visible.any()


def test_border_is_half_open():
    view = project(
        [point_at(u, 12, 1.0) for u in (2, 3, 28, 29)]
        + [point_at(16, v, 1.0) for v in (2, 3, 20, 21)],
        border=3,
    )
    assert view.visible.tolist() == [False, True, True, False, False, True, True, False]
    assert view.col[~view.visible].eq(0).all()
    assert view.row[~view.visible].eq(0).all()


@pytest.mark.parametrize(
    ("measured", "visible"), [(2.0, True), (1.6, True), (1.59, False), (2.67, False), (0.0, False)]
)
def test_depth_test_is_relative_to_the_measurement(measured, visible):
    # |d - 2| <= 0.25 d holds for 1.6 <= d <= 2.666..
    depth = torch.full((24, 32), measured, dtype=torch.float64)
    assert bool(project([point_at(16, 12, 2.0)], depth=depth).visible) is visible


def test_world_to_camera_is_applied():
    move = IDENTITY.clone()
    move[2, 3] = 5.0
    view = project_view(torch.zeros(1, 3), K, move, None, 0, 0.25, (24, 32))
    assert (int(view.row), int(view.col)) == (12, 16)


@pytest.mark.parametrize("n", [0, 1, 31, 1009])
def test_indices_are_the_visible_points_then_padding(n):
    generator = torch.Generator().manual_seed(n)
    view = project((torch.randn(n, 3, generator=generator) + torch.tensor([0, 0, 2.0])).tolist())
    count = int(view.count)
    assert torch.equal(view.indices[:count], view.visible.nonzero().flatten())
    assert view.indices[count:].eq(-1).all()
    assert torch.equal(view.visible_indices(), view.indices[:count])


@pytest.mark.parametrize("case", ["case_A", "case_C"])
def test_golden_mapping(golden, case):
    inputs = golden(f"{case}_inputs")
    depth = torch.from_numpy(inputs["depth_320x240_mm"] / 1000.0)
    view = project_view(
        torch.from_numpy(inputs["points_xyz"]),
        torch.from_numpy(inputs["K320"][:3, :3]),
        torch.from_numpy(np.linalg.inv(inputs["pose"])),
        depth,
        10,
        0.25,
    )
    mapping = torch.from_numpy(inputs["mapping"].astype(np.int32))
    assert torch.equal(view.row, mapping[:, 0])
    assert torch.equal(view.col, mapping[:, 1])
    assert torch.equal(view.visible, mapping[:, 2] > 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": torch.zeros(4, 2)}, r"points must have shape \[N, 3\]"),
        ({"K": torch.eye(4)}, r"K must have shape \[3, 3\]"),
        ({"world_to_camera": torch.eye(3)}, r"world_to_camera must have shape \[4, 4\]"),
        ({"size": None}, "pass size"),
        ({"depth": torch.ones(5, 5)}, "differs from the depth image"),
        ({"depth": torch.ones(5)}, r"depth must have shape \[H, W\]"),
        ({"border": -1}, "must be >= 0"),
        ({"tolerance": -0.1}, "must be >= 0"),
        ({"points": torch.zeros(4, 3, device="meta")}, "one device"),
    ],
)
def test_bad_arguments_rejected(change, message):
    arguments = {
        "points": torch.zeros(4, 3),
        "K": K,
        "world_to_camera": IDENTITY,
        "depth": None,
        "size": (24, 32),
    }
    with pytest.raises(ValueError, match=message):
        project_view(**{**arguments, **change})


@pytest.mark.parametrize(
    "change",
    [{"points": torch.zeros(4, 3, dtype=torch.int64)}, {"depth": torch.ones(24, 32).int()}],
)
def test_integers_rejected(change):
    arguments = {"points": torch.zeros(4, 3), "depth": None, **change}
    with pytest.raises(TypeError, match="floating point"):
        project_view(arguments["points"], K, IDENTITY, arguments["depth"], size=(24, 32))
