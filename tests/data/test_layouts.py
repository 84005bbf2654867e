"""Data folders: the released layout, scene folders, conversion and the check."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from miniature import make_room, write_miniature
from plyfile import PlyData, PlyElement
from safetensors.numpy import save_file

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.data.check import check_data
from xmask3d_rt.data.collection import open_collection, read_label_image
from xmask3d_rt.data.convert import convert_released, find_changed_files
from xmask3d_rt.data.labels import preset_label_space
from xmask3d_rt.data.released import INTRINSICS, read_caption_files, read_cloud_file
from xmask3d_rt.data.room import write_room
from xmask3d_rt.data.scene_folders import FolderScene, list_scene_folders, read_tensors
from xmask3d_rt.scene.prepare import scale_intrinsics

LIST_LABELS = """ply
format ascii 1.0
element vertex 1
property float x
property float y
property float z
property list uchar int label
end_header
0 0 0 2 5 6
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def converted(released, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "scannet"
    outcome = convert_released(released, out)
    assert (outcome.written, outcome.kept) == (4, 0)
    return out


def same_scenes(one, other):
    """Whether two collections hold the same points, labels, views and captions."""
    assert [s.name for s in one.scenes] == [s.name for s in other.scenes]
    assert one.label_sets == other.label_sets
    for a, b in zip(one.scenes, other.scenes, strict=True):
        np.testing.assert_array_equal(a.read_cloud().xyz, b.read_cloud().xyz)
        np.testing.assert_array_equal(a.read_cloud().rgb, b.read_cloud().rgb)
        for label_set in one.label_sets:
            np.testing.assert_array_equal(a.read_labels(label_set), b.read_labels(label_set))
        assert a.read_captions() == b.read_captions()
        for x, y in zip(a.list_views(), b.list_views(), strict=True):
            assert x.name == y.name
            np.testing.assert_array_equal(x.read_image(), y.read_image())
            np.testing.assert_array_equal(x.read_depth(), y.read_depth())
            np.testing.assert_array_equal(x.camera_to_world, y.camera_to_world)
            np.testing.assert_allclose(x.intrinsics, y.intrinsics, atol=1e-8)
            for label_set in one.label_sets:
                first, second = (s.label_image_path(x.name, label_set) for s in (a, b))
                np.testing.assert_array_equal(read_label_image(first), read_label_image(second))


def test_released_layout_reads_what_was_written(released):
    collection = open_collection(released, "val")
    assert [scene.name for scene in collection.scenes] == ["scene0002_00", "scene0003_00"]
    assert collection.label_sets == ("scannet20", "scannet200")
    scene, room = collection.scenes[0], make_room(2)
    np.testing.assert_array_equal(scene.read_cloud().xyz, room.points)
    np.testing.assert_array_equal(scene.read_cloud().rgb, room.rgb)
    labels = preset_label_space("b15n4").read_points(scene.read_labels("scannet20"))
    labelled = np.arange(len(labels)) % 50 > 0
    np.testing.assert_array_equal(labels[labelled], room.labels[labelled])
    assert (labels[~labelled] == 20).all()
    view = scene.list_views()[1]
    expected = scale_intrinsics(INTRINSICS, (640, 480), (160, 120))
    np.testing.assert_allclose(view.intrinsics, expected)
    np.testing.assert_allclose(view.intrinsics, room.views[1].intrinsics)
    image = read_label_image(scene.label_image_path("1", "scannet20"))
    classes = preset_label_space("b15n4").read_image(image)
    np.testing.assert_array_equal(classes, room.view_labels[1])
    assert scene.read_captions()["1"] == "view 1 of a room"


def test_conversion_keeps_every_value(released, converted):
    for split in ("train", "val"):
        same_scenes(open_collection(released, split), open_collection(converted, split))
    scene = converted / "val" / "scene0002_00"
    assert find_changed_files(scene) == []
    again = convert_released(released, converted)
    assert (again.written, again.kept) == (0, 4)


def test_hidden_files_are_no_data(released, converted, tmp_path):
    """Copying to and from a Mac leaves a ._NAME beside every file."""
    data = tmp_path / "data"
    shutil.copytree(released, data)
    for path in [path for path in data.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    read_caption_files.cache_clear()
    for split in ("train", "val"):
        same_scenes(open_collection(released, split), open_collection(data, split))
    out = tmp_path / "out"
    out.mkdir()
    (out / ".DS_Store").write_bytes(b"Mac OS X")
    assert convert_released(data, out).written == 4
    same_scenes(open_collection(converted, "val"), open_collection(out, "val"))
    assert not list(out.rglob("._*"))


def test_a_scene_without_an_image_is_rejected(released, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(released, data)
    scene = open_collection(data, "val").scenes[0]
    for path in (scene.frames / "color").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"color holds no \.jpg"):
        scene.list_views()


def test_an_interrupted_conversion_goes_on(released, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total):
        assert total == 4
        if done == 2:
            raise Stopped

    out = tmp_path / "out"
    with pytest.raises(Stopped):
        convert_released(released, out, stop)
    outcome = convert_released(released, out)
    assert (outcome.written, outcome.kept) == (2, 2)
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]
    same_scenes(open_collection(released, "val"), open_collection(out, "val"))


def test_rooms_are_scenes_of_their_own_classes(tmp_path):
    for seed in range(2):
        write_room(make_room(seed), tmp_path / f"room{seed}")
    collection = open_collection(tmp_path, "val")
    assert collection.split == ""
    assert len(collection) == 2
    source = collection.pick_source(parse_classes("b15n4"))
    assert source.points[19] == "otherfurniture"
    scene = collection.scenes[1]
    np.testing.assert_array_equal(scene.read_labels("classes.txt"), make_room(1).labels)
    assert "office" in scene.read_captions()["0"]
    assert check_data(tmp_path).ok
    (tmp_path / "room0" / "classes.txt").write_text("wall\n")
    with pytest.raises(ValueError, match="differ; the scenes of a folder must share classes"):
        open_collection(tmp_path, "val")
    for scene in collection.scenes:
        (scene.root / "classes.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"nothing says what the labels of .* mean"):
        open_collection(tmp_path, "val")


def test_labels_may_lie_in_a_text_file(tmp_path):
    write_room(make_room(0), tmp_path / "room")
    room = make_room(0)
    cloud = tmp_path / "room" / "scene.ply"
    vertex = PlyData.read(str(cloud))["vertex"].data
    kept = np.array(vertex[[n for n in vertex.dtype.names if n != "label"]])
    plain = np.empty(len(kept), [(n, kept.dtype[n]) for n in kept.dtype.names])
    for name in plain.dtype.names:
        plain[name] = kept[name]
    PlyData([PlyElement.describe(plain, "vertex")]).write(str(cloud))
    scene = open_collection(tmp_path, "val").scenes[0]
    with pytest.raises(FileNotFoundError, match="no vertex property `label`"):
        scene.read_labels("classes.txt")
    lines = tmp_path / "room" / "labels.txt"
    np.savetxt(lines, room.labels, fmt="%d")
    np.testing.assert_array_equal(scene.read_labels("classes.txt"), room.labels)
    lines.write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"labels\.txt: expected a number for each of .*\[2\]"):
        scene.read_labels("classes.txt")
    lines.write_text("wall\n")
    with pytest.raises(ValueError, match="not one integer per line"):
        scene.read_labels("classes.txt")


class Payload:
    """Pickled, it would create a file when read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_labels_of_another_number_name_their_file(tmp_path):
    tensors, ply = tmp_path / "scene.safetensors", tmp_path / "scene.ply"
    xyz = np.zeros((3, 3), np.float32)
    save_file({"xyz": xyz, "rgb": xyz, "labels": np.zeros(2, np.int64)}, tensors)
    with pytest.raises(ValueError, match=r"scene\.safetensors: .* each of 3 points .*\[2\]"):
        FolderScene(tmp_path, tensors).read_labels("scannet20")
    ply.write_text(LIST_LABELS)
    with pytest.raises(ValueError, match=r"scene\.ply: expected a number .*got lists"):
        FolderScene(tmp_path, ply).read_labels("classes.txt")


@pytest.mark.parametrize("value", ["1.5", "nan"])
def test_labels_that_are_no_whole_numbers_rejected(tmp_path, value):
    ply = tmp_path / "scene.ply"
    ply.write_text(
        LIST_LABELS.replace("list uchar int", "float").replace("0 0 0 2 5 6", f"0 0 0 {value}")
    )
    with pytest.raises(ValueError, match=rf"scene\.ply: labels must be whole .* got {value}"):
        FolderScene(tmp_path, ply).read_labels("classes.txt")


def test_no_code_of_a_pickle_is_run(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "scene_vh_clean_2.pth"
    arrays = np.zeros((2, 3)), np.zeros((2, 3))
    torch.save((*arrays, Payload(str(marker))), path)
    with pytest.raises(ValueError, match="could run code"):
        read_cloud_file(path)
    path.write_bytes(pickle.dumps((*arrays, Payload(str(marker)))))
    with pytest.raises(ValueError, match="could run code"):
        read_cloud_file(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((np.zeros((2, 3)), np.zeros((2, 3))), r"expected \(xyz, rgb, labels\), got tuple"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)), r"got shapes \[2, 2\]"),
        ((np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(3)), r"\[2, 3\] and \[3\]"),
        ({"xyz": 1}, "got dict"),
    ],
)
def test_other_content_rejected(tmp_path, content, message):
    path = tmp_path / "scene.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_cloud_file(path)


def test_a_scan_without_colours_is_black_and_no_number_is_no_label(tmp_path):
    path = tmp_path / "scene.pth"
    torch.save((np.ones((2, 3), np.float32), 0, np.array([3.0, np.nan])), path)
    xyz, rgb, labels = read_cloud_file(path)
    assert xyz.tolist() == [[1, 1, 1]] * 2
    assert rgb.tolist() == [[0, 0, 0]] * 2
    assert labels.tolist() == [3, 255]


def test_missing_and_damaged_files_rejected(released, tmp_path):
    with pytest.raises(FileNotFoundError, match="no data folder"):
        open_collection(tmp_path / "nothing", "val")
    with pytest.raises(FileNotFoundError, match="neither processed ScanNet"):
        open_collection(tmp_path, "val")
    with pytest.raises(FileNotFoundError, match=r"holds no \*_vh_clean_2.pth"):
        open_collection(released, "test")
    with pytest.raises(FileNotFoundError, match="no point cloud file"):
        read_cloud_file(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError, match="holds no scene of processed ScanNet"):
        convert_released(tmp_path, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match=r"it holds 'thesis.tex'"):
        convert_released(released, tmp_path / "full")
    (tmp_path / "scene.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged safetensors file"):
        read_tensors(tmp_path / "scene.safetensors")
    (tmp_path / "caption").mkdir()
    (tmp_path / "caption" / "all.json").write_text('{"scene": 3}')
    with pytest.raises(ValueError, match=r"expected \{scene: \{view: caption\}\}"):
        read_caption_files(tmp_path / "caption")


def test_labels_of_200_classes_are_checked(tmp_path):
    root = write_miniature(tmp_path / "mini", train=0, val=1, views=1)
    scene = open_collection(root, "val").scenes[0]
    scene.labels_200_file.write_text("1\n2\n")
    with pytest.raises(ValueError, match="2 labels for"):
        scene.read_labels("scannet200")
    scene.labels_200_file.write_text("chair\n")
    with pytest.raises(ValueError, match="not one integer per line"):
        scene.read_labels("scannet200")
    scene.labels_200_file.unlink()
    with pytest.raises(FileNotFoundError, match="has no ScanNet200 labels"):
        scene.read_labels("scannet200")
    assert open_collection(root, "val").label_sets == ("scannet20",)
    convert_released(root, tmp_path / "out")
    collection = open_collection(tmp_path / "out", "val")
    assert collection.label_sets == ("scannet20",)
    with pytest.raises(FileNotFoundError, match="has no labels of scannet200"):
        collection.scenes[0].read_labels("scannet200")


def test_check_says_what_is_there(released, converted):
    report = check_data(released, full=True)
    assert report.ok
    assert report.layout == "processed ScanNet as released"
    assert [(s.split, s.scenes, s.views, s.label_images, s.captions) for s in report.splits] == [
        ("train", 2, 4, 4, 4),
        ("val", 2, 4, 4, 4),
    ]
    assert report.findings == ()
    assert "ready" in report.describe()
    assert check_data(converted, full=True).splits == report.splits


def test_check_says_what_is_missing_and_how_to_get_it(released, tmp_path):
    root = tmp_path / "mini"
    shutil.copytree(released, root)
    shutil.rmtree(root / "scannet_3d_200")
    shutil.rmtree(root / "caption")
    report = check_data(root)
    assert report.ok  # 19 classes without caption losses need neither
    assert len(report.findings) == 2
    assert "only the presets of 200 classes" in report.describe()
    shutil.rmtree(root / "scannet_2d" / "scene0003_00")
    shutil.rmtree(root / "scannet_3d" / "train")
    report = check_data(root)
    assert not report.ok
    text = report.describe()
    assert "no point clouds in" in text
    assert "1 of 2 val scenes have no scannet_2d/<scene>/color: scene0003_00" in text
    assert "download script of the released code" in text
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False


def test_full_check_finds_damage(converted, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(converted, root)
    (root / "val" / "scene0003_00" / "color" / "1.jpg").write_bytes(b"no image")
    assert check_data(root).ok  # not looked at
    report = check_data(root, full=True)
    assert "scene0003_00" in report.findings[0].what
    (root / "val" / "scene0002_00" / "label" / "0.png").unlink()
    changed = find_changed_files(root / "val" / "scene0002_00")
    assert changed == ["label/0.png"]
    scene = list_scene_folders(root / "val")[1]
    (scene.root / "captions.json").write_text("[]")
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        scene.read_captions()
    assert "expected a JSON object" in check_data(root).describe()
    with pytest.raises(FileNotFoundError, match="no data folder"):
        check_data(tmp_path / "nothing")


def test_a_split_that_is_not_there_is_named(converted):
    with pytest.raises(FileNotFoundError, match=r"has no test/ \(it has train, val\)"):
        open_collection(converted, "test")
