"""RGB-D folders: both layouts, the order of views, and every missing piece by name."""

import numpy as np
import pytest
from PIL import Image

from xmask3d_rt.preprocess import prepare_view
from xmask3d_rt.rgbd import load_rgbd, natural_key, spread_views

K = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])


@pytest.fixture
def folder(tmp_path):
    """Views 0, 2 and 10 in the plain layout; every pixel of view i is i, every depth 1000 + i."""
    for name in ("color", "depth", "pose"):
        (tmp_path / name).mkdir()
    for i in (0, 2, 10):
        Image.fromarray(np.full((48, 64, 3), i, np.uint8)).save(tmp_path / f"color/{i}.png")
        Image.fromarray(np.full((48, 64), 1000 + i, np.uint16)).save(tmp_path / f"depth/{i}.png")
        pose = np.eye(4)
        pose[0, 3] = i
        np.savetxt(tmp_path / f"pose/{i}.txt", pose)
    np.savetxt(tmp_path / "intrinsics.txt", K)
    return tmp_path


def use_scannet_layout(folder):
    (folder / "intrinsics.txt").unlink()
    (folder / "intrinsic").mkdir()
    for name, matrix in (("color", K), ("depth", K * [[0.5], [0.5], [1]])):
        matrix4 = np.eye(4)
        matrix4[:3, :3] = matrix
        np.savetxt(folder / f"intrinsic/intrinsic_{name}.txt", matrix4)
    for path in (folder / "depth").iterdir():
        Image.fromarray(np.full((24, 32), 1500, np.uint16)).save(path)


def test_views_in_natural_order(folder):
    views = load_rgbd(folder)
    assert [view.name for view in views] == ["0", "2", "10"]
    for view, i in zip(views, (0, 2, 10), strict=True):
        assert (view.read_image() == i).all()
        np.testing.assert_allclose(view.read_depth(), (1000 + i) / 1000)
        assert view.camera_to_world[0, 3] == i
        np.testing.assert_array_equal(view.intrinsics, K)


def test_natural_key_counts_digits_as_numbers():
    names = ["frame10", "frame9", "a", "frame-000100", "7", "12"]
    assert sorted(names, key=natural_key) == ["7", "12", "a", "frame9", "frame10", "frame-000100"]


@pytest.mark.parametrize(
    ("limit", "names"),
    [(None, "0 2 10"), (9, "0 2 10"), (3, "0 2 10"), (2, "0 10"), (1, "0")],
)
def test_spread_views(folder, limit, names):
    assert [view.name for view in spread_views(load_rgbd(folder), limit)] == names.split()


def test_nothing_is_read_before_use(folder):
    (folder / "color/2.png").write_text("broken")
    views = load_rgbd(folder)
    assert (views[0].read_image() == 0).all()
    with pytest.raises(ValueError, match=r"2\.png cannot be read as an image"):
        views[1].read_image()


def test_scannet_layout(folder):
    use_scannet_layout(folder)
    (folder / "color/2.png").rename(folder / "color/2.jpg")
    views = load_rgbd(folder)
    np.testing.assert_array_equal(views[0].depth_intrinsics, K * [[0.5], [0.5], [1]])
    prepared = prepare_view(views[0], 32, (12, 16))
    assert prepared.depth.shape == (12, 16)
    np.testing.assert_allclose(prepared.depth, 1.5)


def test_lost_poses_are_skipped(folder, caplog):
    np.savetxt(folder / "pose/2.txt", np.full((4, 4), -np.inf))
    assert [view.name for view in load_rgbd(folder)] == ["0", "10"]
    assert "skipped 1 views without a finite pose: ['2']" in caplog.text


def test_no_finite_pose_rejected(folder):
    for i in (0, 2, 10):
        np.savetxt(folder / f"pose/{i}.txt", np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="none of its 3 views has a finite pose"):
        load_rgbd(folder)


def test_folder_without_depth_warns(folder, caplog):
    for path in (folder / "depth").iterdir():
        path.unlink()
    (folder / "depth").rmdir()
    assert load_rgbd(folder)[0].read_depth() is None
    assert "has no depth/" in caplog.text


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pose/2.txt", r"the pose of view 2 is missing: no file .*2\.txt"),
        ("depth/10.png", "view 10 has no depth"),
        ("intrinsics.txt", "neither intrinsics.txt nor intrinsic/intrinsic_color.txt"),
    ],
)
def test_missing_file_rejected(folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load_rgbd(folder)


def test_missing_folders_rejected(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no RGB-D folder"):
        load_rgbd(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no color/ folder \(it holds 0\.png"):
        load_rgbd(folder / "color")
    for path in (folder / "color").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no \.jpg"):
        load_rgbd(folder)


@pytest.mark.parametrize("content", ["hello\n", "", "1 2 3\n4 5 6\n", "1 0 0 0\n0 1 0\n"])
def test_bad_matrix_rejected(folder, content):
    (folder / "pose/0.txt").write_text(content)
    with pytest.raises(ValueError, match=r"0\.txt: the pose of view 0"):
        load_rgbd(folder)


def test_singular_pose_rejected(folder):
    np.savetxt(folder / "pose/2.txt", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="View 2: camera_to_world is singular"):
        load_rgbd(folder)
