"""RGB-D folders: both layouts, the order of views, and every missing piece by name."""

import re
import shutil

import numpy as np
import pytest
from fuzzing import FUZZ, assert_clear, assert_handled, mutate
from hypothesis import given
from PIL import Image

from xmask3d_rt.scene.prepare import prepare_view
from xmask3d_rt.scene.rgbd import load_rgbd, natural_key, read_rgbd, spread_views
from xmask3d_rt.scene.view_reader import list_views

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


KEYED_K = '{"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5%s}'


@pytest.mark.parametrize("size", ["", ', "w": 64', ', "width": 64, "height": 48.0'])
def test_intrinsics_that_state_the_size_of_their_images(folder, size):
    (folder / "intrinsics.txt").write_text(KEYED_K % size)
    np.testing.assert_array_equal(load_rgbd(folder)[0].intrinsics, K)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (', "width": 1296, "height": 968', "width 1296 and height 968"),
        (', "h": 64', "height 64"),
    ],
)
def test_intrinsics_of_images_of_another_size_rejected(folder, size, said):
    (folder / "intrinsics.txt").write_text(KEYED_K % size)
    with pytest.raises(ValueError, match=rf"intrinsics\.txt says .* {said}, but .* is 64x48 .col"):
        load_rgbd(folder)
    (folder / "color/0.png").write_bytes(b"damaged")
    assert len(load_rgbd(folder)) == 3


def test_depth_intrinsics_of_another_size_rejected(folder):
    use_scannet_layout(folder)
    text = '{"fx": 30, "fy": 30, "cx": 16, "cy": 12, "width": 640, "height": 480}'
    (folder / "intrinsic/intrinsic_depth.txt").write_text(text)
    with pytest.raises(ValueError, match=r"intrinsic_depth\.txt says .*width 640 .* is 32x24 "):
        load_rgbd(folder)


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


LOST = np.full((4, 4), -np.inf)


def write_matrix(path, matrix):
    np.savetxt(path, matrix)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda pose: write_matrix(pose, LOST), r"1 whose pose is not finite \(2\)"),
        (lambda pose: pose.unlink(), r"1 without pose file \(2\)"),
        (lambda pose: pose.write_text(""), r"1 with empty pose file \(2\)"),
        (lambda pose: pose.write_text("# nothing\n"), "2; the first: .*2.txt.* the file is empty"),
        (lambda pose: pose.write_text("hello\n"), "2.txt: .* not a matrix of numbers: .*hello"),
        (lambda pose: pose.write_text("1 2 3\n4 5 6\n"), "2.txt: .* has 6 numbers in 2 lines"),
        (lambda pose: pose.write_text("0 0 1 0 0 0 1"), "2.txt: .* seem to be tx ty tz qx qy"),
        (lambda pose: write_matrix(pose, np.zeros((4, 4))), "1 with a damaged pose .* singular"),
        (lambda pose: write_matrix(pose, np.diag([1, 1, -1, 1])), "an axis is mirrored"),
        (lambda pose: write_matrix(pose, np.eye(4) * 1e300), "damaged pose .* rigid motion"),
        (lambda pose: pose.rename(pose.with_suffix(".npy")), "whose pose is a .npy file"),
        (lambda pose: get_depth(pose).unlink(), r"1 without depth file \(2\)"),
        (lambda pose: get_depth(pose).write_bytes(b""), "1 with empty depth file"),
        (
            lambda pose: get_depth(pose).rename(get_depth(pose).with_suffix(".exr")),
            r"1 whose depth is a .exr file \(2; the first: .*2.exr: convert it to 16-bit .png",
        ),
        (lambda pose: get_color(pose).unlink(), r"1 without image file \(2\)"),
        (lambda pose: get_color(pose).write_bytes(b""), "1 with empty image file"),
        (
            lambda pose: get_color(pose).rename(get_color(pose).with_suffix(".heic")),
            "1 whose image is a .heic file .*convert it to .png or .jpg",
        ),
    ],
)
def test_bad_frames_are_left_out_with_one_note(folder, caplog, damage, reason):
    damage(folder / "pose/2.txt")
    found = read_rgbd(folder)
    assert [view.name for view in found.views] == ["0", "10"]
    (note,) = found.notes
    assert note.startswith(f"{folder}: left out 1 of 3 frames: 1 w")
    assert re.search(reason, note), note
    assert_clear(ValueError(note))
    assert caplog.messages == [note]
    assert found.spread(1).notes == found.notes
    assert list(found) == found.views
    assert len(found) == 2
    assert [view.name for view in load_rgbd(folder)] == ["0", "10"]


def get_depth(pose):
    return pose.parents[1] / "depth" / f"{pose.stem}.png"


def get_color(pose):
    return pose.parents[1] / "color" / f"{pose.stem}.png"


def test_left_out_frames_are_counted_by_reason(folder):
    (folder / "pose/0.txt").write_text("")
    write_matrix(folder / "pose/10.txt", LOST)
    found = read_rgbd(folder)
    assert [view.name for view in found.views] == ["2"]
    assert found.notes == (
        f"{folder}: left out 2 of 3 frames: 1 with empty pose file (0); "
        "1 whose pose is not finite (10)",
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda pose: write_matrix(pose, LOST), "3 whose pose is not finite"),
        (
            lambda pose: pose.rename(pose.with_name(f"pose_{pose.name}")),
            "3 without pose file .*; pose/ holds pose_0.txt, pose_10.txt, pose_2.txt",
        ),
        (lambda pose: pose.write_text("0 0 1 0 0 0 1"), r"0.txt: .* tx ty tz qx qy qz qw"),
        (
            lambda pose: get_depth(pose).rename(get_depth(pose).with_suffix(".exr")),
            r"3 whose depth is a .exr file \(0, 2, 10; the first: .*0.exr: convert it to 16-bit",
        ),
        (
            lambda pose: get_depth(pose).rename(get_depth(pose).with_suffix(".JPG")),
            "3 whose depth is a .JPG file .*0.JPG: JPEG keeps 8 bits and not exactly; export depth",
        ),
        (lambda pose: get_depth(pose).unlink(), "3 without depth file.* depth/ holds nothing"),
    ],
)
def test_no_usable_frame_rejected(folder, damage, message):
    for i in (0, 2, 10):
        damage(folder / f"pose/{i}.txt")
    with pytest.raises(ValueError, match=f"none of its 3 frames can be used: .*{message}") as error:
        load_rgbd(folder)
    assert_clear(error.value, folder)


def test_hidden_files_are_skipped(folder, caplog):
    for path in ("color/._0.jpg", "color/.DS_Store", "depth/._0.png", "pose/._0.txt"):
        (folder / path).write_bytes(b"\0\5\26\7" + bytes(60))
    assert [view.name for view in load_rgbd(folder)] == ["0", "2", "10"]
    assert not caplog.messages


def test_one_image_of_a_frame_votes(folder):
    Image.fromarray(np.full((48, 64, 3), 77, np.uint8)).save(folder / "color/2.jpg")
    np.save(folder / "depth/10.npy", np.ones((48, 64)))
    found = read_rgbd(folder)
    assert [view.name for view in found.views] == ["0", "2", "10"]
    assert found.views[1].image.name == "2.jpg"
    assert found.views[2].depth.name == "10.png"
    (note,) = found.notes
    assert "2 files lie beside another of the same frame and were not used: 2.png, 10.npy" in note


@pytest.mark.parametrize("name", ["²5", "٣", "x\ny", "a\x1b[31mb", "\udce9"])
def test_odd_names_of_frames(folder, name):
    (folder / "color/2.png").rename(folder / f"color/{name}.png")
    note = read_rgbd(folder).notes[0]
    assert "left out 2 of 4 frames: 1 without pose file" in note
    assert_clear(ValueError(note))
    (folder / "depth/2.png").rename(folder / f"depth/{name}.png")
    (folder / "pose/2.txt").rename(folder / f"pose/{name}.txt")
    (view,) = (view for view in load_rgbd(folder) if view.name not in ("0", "10"))
    assert view.name.isprintable()
    (folder / f"color/{name}.png").write_text("broken")
    with pytest.raises(ValueError, match="cannot be read as an image") as error:
        view.read_image()
    assert_clear(error.value)


def test_case_of_names_does_not_count(folder):
    use_scannet_layout(folder)
    (folder / "intrinsic/intrinsic_color.txt").rename(folder / "intrinsic/Intrinsic_Color.TXT")
    for old, new, suffix in (("color", "Color", ".PNG"), ("depth", "DEPTH", ".Png")):
        for path in list((folder / old).iterdir()):
            path.rename(path.with_suffix(suffix))
        (folder / old).rename(folder / new)
    (folder / "pose/2.txt").rename(folder / "pose/2.TXT")
    found = read_rgbd(folder)
    assert [view.name for view in found.views] == ["0", "2", "10"]
    assert not found.notes
    assert found.views[0].read_depth().shape == (24, 32)


def test_folder_without_depth_warns(folder, caplog):
    (folder / "depth").rename(folder / "depth_maps")
    found = read_rgbd(folder)
    assert found.views[0].read_depth() is None
    (note,) = found.notes
    assert "has no depth/: every point in front of a camera counts as seen" in note
    assert "there is depth_maps/: rename a folder of depth images to depth/" in note
    assert note in caplog.text


@pytest.mark.parametrize(
    ("missing", "there", "message"),
    [
        ("pose", "poses", r"has no pose/ folder; .*\(there is poses/: rename"),
        ("pose", "traj.txt", r"has no pose/ folder; .*\(there is traj.txt: .*each pose"),
        ("pose", "groundtruth.txt", r"there is groundtruth.txt: .*tx ty tz qx qy qz qw"),
        ("color", "rgb", r"has no color/ folder .*\(there is rgb/: rename the images' folder"),
        ("color", "inner/color", r"has no color/ folder .*\(there is inner: pass that folder"),
        ("intrinsics.txt", "intrinsics.json", r"neither intrinsics.txt .*is intrinsics.json: take"),
        ("intrinsics.txt", "intrinsic.txt", r"neither intrinsics.txt .*there is intrinsic.txt: "),
        ("intrinsics.txt", "cam_params.json", r"neither intrinsics.txt .*there is cam_params.json"),
        (
            "intrinsics.txt",
            "intrinsic/intrinsic_depth.txt",
            r"neither intrinsics.txt .*there is intrinsic/intrinsic_depth.txt: ",
        ),
    ],
)
def test_near_match_of_a_missing_entry_is_named(folder, missing, there, message):
    (folder / there).parent.mkdir(exist_ok=True)
    source = folder / missing
    if missing == "pose" and there.endswith(".txt"):
        shutil.move(source / "0.txt", folder / there)
        shutil.rmtree(source)
    else:
        source.rename(folder / there)
    with pytest.raises(FileNotFoundError, match=message) as error:
        load_rgbd(folder)
    assert_clear(error.value, folder)


def test_missing_folders_rejected(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no RGB-D folder"):
        load_rgbd(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no color/ folder \(it holds 0\.png"):
        load_rgbd(folder / "color")
    for path in (folder / "color").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(FileNotFoundError, match=r"holds no \.jpg.* \(it holds 0.heic, 10.heic"):
        load_rgbd(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 0 0\n0 0 0\n0 0 1", "positive focal lengths"),
        ("60 5 31\n0 60 23\n0 0 1", "skew of 5 px"),
        ("60 60 31.5 23.5", "seem to be fx fy cx cy; as 3x3 matrix: 60 0 31.5 / 0 60 23.5 / 0 0"),
        ("", "the camera matrix is missing: the file is empty"),
    ],
)
def test_bad_intrinsics_rejected(folder, content, message):
    (folder / "intrinsics.txt").write_text(content)
    with pytest.raises(ValueError, match=rf"intrinsics\.txt: .*{message}"):
        load_rgbd(folder)


def test_a_second_camera_matrix_is_noted(folder):
    (folder / "intrinsic").mkdir()
    np.savetxt(folder / "intrinsic/intrinsic_color.txt", K)
    assert read_rgbd(folder).notes == ()
    np.savetxt(folder / "intrinsic/intrinsic_color.txt", K * 2 - np.diag([0, 0, 1]))
    note = "intrinsics.txt was used; intrinsic/intrinsic_color.txt has another camera matrix"
    assert read_rgbd(folder).notes == (f"{folder}: {note}",)
    assert read_rgbd(folder, K).notes == ()


def test_views_of_every_kind_are_listed(folder):
    found = read_rgbd(folder)
    assert list_views(found) is found
    assert [view.name for view in list_views(str(folder)).views] == ["0", "2", "10"]
    assert list_views(found.views[0]).views == found.views[:1]
    assert list_views(iter(found.views)).views == found.views


@pytest.mark.parametrize(
    ("views", "error", "message"),
    [
        ([], ValueError, "views is empty"),
        ([np.eye(4)], TypeError, "must be View objects .* got ndarray"),
        (7, TypeError, "must be View objects .* got int"),
    ],
)
def test_bad_views_rejected(views, error, message):
    with pytest.raises(error, match=message):
        list_views(views)


PARTS = (
    b"0.909 0.273 -0.314 -0.313\n-0.272 0.961 0.045 0.008\n0.314 0.044 0.948 0.306\n0 0 0 1\n",
    b"[[1, 0, 0, 0.5],\n [0, 1, 0, 0],\n [0, 0, 1, 2e-1]]  # 3x4\n",
    b"0 0 1 0 0 0 1\n",
)
CAMERAS = (
    b"60 0 31.5\n0 60 23.5\n0 0 1\n",
    b'{"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "width": 64}',
    b"60 0 31.5 0\n0 60 23.5 0\n0 0 1 0\n0 0 0 1\n",
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A folder of two frames, of which a test changes files."""
    root = tmp_path_factory.mktemp("fuzzed")
    for name in ("color", "depth", "pose"):
        (root / name).mkdir()
    for i in (0, 1):
        (root / f"color/{i}.jpg").write_bytes(b"x")
        (root / f"depth/{i}.png").write_bytes(b"x")
        np.savetxt(root / f"pose/{i}.txt", np.eye(4))
    return root


@pytest.mark.fuzz
@FUZZ
@given(mutate(PARTS))
def test_broken_pose_files(fuzzed, content):
    np.savetxt(fuzzed / "intrinsics.txt", K)
    (fuzzed / "pose/1.txt").write_bytes(content)
    found = read_rgbd(fuzzed)
    for view in found.views:
        rotation = view.camera_to_world[:3, :3]
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=0.02)
    for note in found.notes:
        assert "left out 1 of 2 frames: 1 w" in note
        assert_clear(ValueError(note))


@pytest.mark.fuzz
@FUZZ
@given(mutate(CAMERAS))
def test_broken_intrinsics_files(fuzzed, content):
    path = fuzzed / "intrinsics.txt"
    np.savetxt(fuzzed / "pose/1.txt", np.eye(4))
    path.write_bytes(content)
    found = assert_handled(lambda: read_rgbd(fuzzed), path)
    if found is not None:
        assert found.views[0].intrinsics[0, 0] >= 1
