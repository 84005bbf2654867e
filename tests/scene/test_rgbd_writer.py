"""RGB-D folders are written whole or not at all, and read back as they were."""

import numpy as np
import pytest

from xmask3d_rt.scene.rgbd import load_rgbd
from xmask3d_rt.scene.rgbd_writer import atomic_folder, write_rgbd
from xmask3d_rt.scene.view import View

K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])


def make_view(depth=2.0, intrinsics=K, shift=0.0, size=(48, 64), depth_intrinsics=None):
    image = np.full((*size, 3), 90, dtype=np.uint8)
    pose = np.eye(4)
    pose[0, 3] = shift
    plane = None if depth is None else np.full(size, depth, dtype=np.float32)
    return View(image, plane, intrinsics, pose, depth_intrinsics=depth_intrinsics)


def test_views_read_back(tmp_path):
    views = [make_view(1.5 + k, shift=0.25 * k) for k in range(11)]
    read = load_rgbd(write_rgbd(views, tmp_path / "views"))
    assert len(read) == 11
    for view, back in zip(views, read, strict=True):
        np.testing.assert_allclose(back.read_depth(), view.depth, atol=0.0006)
        np.testing.assert_allclose(back.camera_to_world, view.camera_to_world)
        np.testing.assert_allclose(back.intrinsics, K)
        assert np.abs(back.read_image().astype(int) - view.image).max() <= 2


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([], "no views"),
        ([make_view(), make_view(intrinsics=K * [[2], [2], [1]])], "other intrinsics"),
        ([make_view(None)], "has no depth"),
        ([make_view(70.0)], "reaches 70 m"),
        (
            [make_view(), make_view(size=(50, 64))],
            "view 1 is 64x50, that of view 0 64x48",
        ),
        ([make_view(depth_intrinsics=K)], "view 0 has depth_intrinsics"),
    ],
)
def test_unwritable_views_rejected(views, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_rgbd(views, tmp_path / "views")
    assert list(tmp_path.iterdir()) == []


def test_foreign_folder_rejected(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError, match=r"it holds 'me\.jpg'"):
        write_rgbd([make_view()], tmp_path / "photos")
    (tmp_path / "note").write_text("x")
    with pytest.raises(FileExistsError, match="it is a file"):
        write_rgbd([make_view()], tmp_path / "note")
    assert (tmp_path / "photos" / "me.jpg").read_bytes() == b"x"


def test_litter_of_file_managers_does_not_count(tmp_path):
    write_rgbd([make_view()], tmp_path / "views")
    (tmp_path / "views" / ".DS_Store").write_bytes(b"x")
    write_rgbd([make_view(), make_view()], tmp_path / "views")
    assert len(load_rgbd(tmp_path / "views")) == 2


def test_interrupted_write_keeps_the_old_folder(tmp_path):
    write_rgbd([make_view()], tmp_path / "views")

    def write_half():
        with atomic_folder(tmp_path / "views") as partial:
            (partial / "color").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["views"]
    assert (tmp_path / "views" / "color" / "0.jpg").is_file()
