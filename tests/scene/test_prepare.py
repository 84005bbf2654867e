"""Resizing and intrinsics: against a scalar transcription of the formula and the golden cases."""

import numpy as np
import pytest

from xmask3d_rt.scene.prepare import (
    prepare_view,
    remap_depth,
    resize_depth_nearest,
    resize_image,
    scale_intrinsics,
)
from xmask3d_rt.scene.view import View


def resize_slowly(image, rows, cols):
    """One pixel at a time, straight from the formula."""

    def taps(i, source, target, horizontal):
        position = np.float32((i + 0.5) * (1 / (target / source)) - 0.5)
        first = int(np.floor(position))
        fraction = np.float32(position - np.float32(first))
        if horizontal and (first < 0 or first >= source - 1):
            fraction = np.float32(0)
        weights = [int(np.rint((1 - fraction) * np.float32(2048))), int(np.rint(fraction * 2048))]
        index = [min(max(first + k, 0), source - 1) for k in (0, 1)]
        return index, weights

    out = np.zeros((rows, cols, image.shape[2]), np.uint8)
    for r in range(rows):
        lines, b = taps(r, image.shape[0], rows, False)
        for c in range(cols):
            columns, a = taps(c, image.shape[1], cols, True)
            for k in range(image.shape[2]):
                h = [
                    sum(int(image[y, x, k]) * w for x, w in zip(columns, a, strict=True))
                    for y in lines
                ]
                total = sum((w * (value >> 4)) >> 16 for w, value in zip(b, h, strict=True))
                out[r, c, k] = (total + 2) >> 2
    return out


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((9, 13), (17, 8)),
        ((16, 12), (8, 6)),
        ((1, 1), (3, 3)),
        ((5, 1), (2, 7)),
        ((7, 30), (31, 5)),
    ],
)
def test_resize_image_is_the_formula(shape, size):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(image, size), resize_slowly(image, *size))


def test_resize_image_of_the_same_size_is_a_copy():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    same = resize_image(image, 8)
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_resize_image_takes_grey():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    np.testing.assert_array_equal(
        resize_image(grey, (5, 5)), resize_slowly(grey[..., None], 5, 5)[..., 0]
    )


def test_resize_image_float_rejected():
    with pytest.raises(TypeError, match="uint8"):
        resize_image(np.zeros((4, 4, 3), np.float32), 8)


def test_depth_takes_the_floor_of_the_scaled_index():
    depth = np.arange(7 * 5, dtype=np.uint16).reshape(7, 5)
    out = resize_depth_nearest(depth, (3, 2))
    np.testing.assert_array_equal(out, depth[[0, 2, 4]][:, [0, 2]])
    enlarged = resize_depth_nearest(depth, (14, 10))
    np.testing.assert_array_equal(enlarged, depth.repeat(2, 0).repeat(2, 1))


def test_scale_intrinsics_keeps_its_input():
    k = np.array([[520.0, 0, 322.4], [0, 520, 238.2], [0, 0, 1]])
    before = k.copy()
    scaled = scale_intrinsics(k, (640, 480), (320, 240))
    np.testing.assert_array_equal(k, before)
    assert scaled[0, 0] == 260
    assert scaled[0, 2] == 322.4 * (319 / 639)
    assert scaled[1, 2] == 238.2 * (239 / 479)


def test_depth_of_another_camera_follows_the_rays():
    rng = np.random.default_rng(1)
    depth = rng.uniform(1, 2, (60, 80)).astype(np.float32)
    k = np.array([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
    np.testing.assert_array_equal(remap_depth(depth, k, k, (60, 80)), depth)
    shifted = k + [[0, 0, 3], [0, 0, -2], [0, 0, 0]]
    out = remap_depth(depth, k, shifted, (60, 80))
    np.testing.assert_array_equal(out[:58, 3:], depth[2:, :77])
    assert not out[58:].any()
    assert not out[:, :3].any()


def test_prepare_view_checks_files_against_each_other(tmp_path):
    np.save(tmp_path / "depth.npy", np.ones((30, 30), np.float32))
    view = View(
        np.zeros((48, 64, 3), np.uint8), tmp_path / "depth.npy", np.diag([50, 50, 1]), np.eye(4)
    )
    with pytest.raises(ValueError, match="image and depth disagree"):
        prepare_view(view, 32, (24, 32))


def test_prepare_view_inverts_the_pose():
    pose = np.array([[0.0, -1, 0, 3], [1, 0, 0, 4], [0, 0, 1.0, 5], [0, 0, 0, 1]])
    view = View(np.zeros((48, 64, 3), np.uint8), None, np.diag([50, 50, 1]), pose, "v")
    prepared = prepare_view(view, 32, (24, 32))
    np.testing.assert_allclose(prepared.world_to_camera @ pose, np.eye(4), atol=1e-12)
    assert prepared.image.shape == (32, 32, 3)
    assert prepared.depth is None
    assert prepared.name == "v"


@pytest.mark.parametrize("case", ["A", "C"])
def test_image_and_intrinsics_of_the_golden_cases(case, shared):
    inputs = np.load(shared / f"golden/case_{case}_inputs.npz")
    np.testing.assert_array_equal(resize_image(inputs["image_orig"], 512), inputs["image_512"])
    scaled = scale_intrinsics(inputs["K640"], (640, 480), (320, 240))
    np.testing.assert_array_equal(scaled, inputs["K320"][:3, :3])


def test_visible_points_of_the_kitchen_scene(shared):
    """Depth, intrinsics and pose together: the released code's visible points, exactly."""
    from xmask3d_rt.scene.cloud import PointCloud
    from xmask3d_rt.scene.rgbd import load_rgbd

    cloud = PointCloud.load(shared / "scenes/kitchen/scene.ply")
    golden = np.load(shared / "golden/scene_KITCHEN_golden.npz")
    views = {view.name: view for view in load_rgbd(shared / "scenes/kitchen")}
    for j, view_id in enumerate(golden["view_ids"]):
        view = prepare_view(views[str(view_id)], 64, (240, 320))
        np.testing.assert_array_equal(view.intrinsics, golden["K320"][:3, :3])
        camera = cloud.xyz @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
        pixel = np.rint(camera @ view.intrinsics.T / camera[:, 2:])[:, :2].astype(int)
        inside = ((pixel >= 10) & (pixel < (310, 230))).all(axis=1) & (camera[:, 2] > 0)
        u, v = np.where(inside[:, None], pixel, 0).T
        depth = view.depth[v, u].astype(np.float64)
        visible = inside & (np.abs(depth - camera[:, 2]) <= 0.25 * depth)
        wanted = np.unpackbits(golden[f"visible_mask_{j}"])[: len(cloud)].astype(bool)
        np.testing.assert_array_equal(visible, wanted)
