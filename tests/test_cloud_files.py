"""Clouds from disk, and PLY files with properties of any kind in and out."""

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from xmask3d_rt.files import atomic_write, hash_file
from xmask3d_rt.ply import write_labelled_ply
from xmask3d_rt.scene import PointCloud, as_point_cloud

RNG = np.random.default_rng(3)
XYZ = RNG.normal(size=(7, 3)).astype(np.float32)
RGB = RNG.integers(0, 256, (7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 1, 0, 1, 0, 0])
SCORES = np.linspace(0, 1, 7, dtype=np.float32)
CLASS_COLORS = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
NAMES = ["wall", 'stühl; "x"']


def make_vertex(xyz_type="f4", colors=("red", "green", "blue"), color_type="u1", extra=True):
    fields = [(name, xyz_type) for name in "xyz"]
    fields += [("nx", "f8"), ("quality", "i2")] if extra else []
    fields += [(name, color_type) for name in colors]
    vertex = np.zeros(7, fields)
    for i, name in enumerate("xyz"):
        vertex[name] = XYZ[:, i]
    for i, name in enumerate(colors[:3]):
        vertex[name] = RGB[:, i] / 255 if color_type in ("f4", "f8") else RGB[:, i]
    if extra:
        vertex["nx"] = np.arange(7) / 3
        vertex["quality"] = np.arange(7)
    return vertex


def write(path, vertex, *others, text=False, order="<", comments=()):
    elements = [PlyElement.describe(vertex, "vertex"), *others]
    PlyData(elements, text=text, byte_order=order, comments=list(comments)).write(str(path))
    return path


def save_labels(path, cloud):
    colors = CLASS_COLORS[LABELS]
    write_labelled_ply(path, cloud.xyz, cloud.rgb, cloud.source, LABELS, SCORES, colors, NAMES)
    return PlyData.read(str(path))


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("xyz_type", ["f4", "f8"])
def test_ply_encodings(tmp_path, text, order, xyz_type):
    cloud = PointCloud.load(
        write(tmp_path / "a.ply", make_vertex(xyz_type), text=text, order=order)
    )
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, RGB)


@pytest.mark.parametrize(
    ("colors", "kind"),
    [
        (("r", "g", "b"), "u1"),
        (("diffuse_red", "diffuse_green", "diffuse_blue"), "u1"),
        (("red", "green", "blue", "alpha"), "u1"),
        (("red", "green", "blue"), "f4"),
    ],
)
def test_ply_colour_names(tmp_path, colors, kind):
    cloud = PointCloud.load(write(tmp_path / "a.ply", make_vertex(colors=colors, color_type=kind)))
    np.testing.assert_array_equal(cloud.rgb, RGB)


def test_ply_without_colours(tmp_path):
    assert PointCloud.load(write(tmp_path / "a.ply", make_vertex(colors=()))).rgb is None


def test_labelled_ply_keeps_everything(tmp_path):
    faces = np.array([([0, 1, 2],), ([3, 4, 5],)], [("vertex_indices", "O")])
    face_element = PlyElement.describe(faces, "face", val_types={"vertex_indices": "i4"})
    vertex = make_vertex(colors=("red", "green", "blue", "alpha"))
    path = write(tmp_path / "a.ply", vertex, face_element, comments=["made by hand"])
    data = save_labels(tmp_path / "out.ply", PointCloud.load(path))
    out = data["vertex"].data
    for name in ("x", "y", "z", "nx", "quality", "alpha"):
        np.testing.assert_array_equal(out[name], vertex[name])
        assert out[name].dtype == vertex[name].dtype
    for i, name in enumerate(("red", "green", "blue")):
        np.testing.assert_array_equal(out[f"orig_{name}"], RGB[:, i])
        np.testing.assert_array_equal(out[name], CLASS_COLORS[LABELS, i])
        assert out[name].dtype == np.uint8
    np.testing.assert_array_equal(out["label"], LABELS)
    np.testing.assert_array_equal(out["score"], SCORES)
    np.testing.assert_array_equal(data["face"]["vertex_indices"][1], [3, 4, 5])
    assert data.comments[0] == "made by hand"
    assert data.comments[-2:] == [
        'xmask3d class 0 "wall"',
        'xmask3d class 1 "st\\u00fchl; \\"x\\""',
    ]
    assert not data.text
    assert data.byte_order == "<"


def test_labelled_ply_read_again_has_its_own_colours(tmp_path):
    cloud = PointCloud.load(write(tmp_path / "a.ply", make_vertex()))
    first = save_labels(tmp_path / "one.ply", cloud)
    again = PointCloud.load(tmp_path / "one.ply")
    np.testing.assert_array_equal(again.rgb, RGB)
    second = save_labels(tmp_path / "two.ply", again)
    assert second["vertex"].data.dtype == first["vertex"].data.dtype
    np.testing.assert_array_equal(second["vertex"].data, first["vertex"].data)
    assert second.comments == first.comments


def test_foreign_label_is_kept_beside_ours(tmp_path):
    vertex = make_vertex(colors=("label", "red", "green", "blue"), extra=False)
    vertex["label"] = 9
    out = save_labels(tmp_path / "out.ply", PointCloud.load(write(tmp_path / "a.ply", vertex)))
    assert (out["vertex"]["orig_label"] == 9).all()
    np.testing.assert_array_equal(out["vertex"]["label"], LABELS)


def test_vertex_lists_survive(tmp_path):
    vertex = np.empty(7, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("seen_by", "O")])
    for i, name in enumerate("xyz"):
        vertex[name] = XYZ[:, i]
    for i in range(7):
        vertex["seen_by"][i] = np.arange(i, dtype=np.float32) / 2
    element = PlyElement.describe(vertex, "vertex", val_types={"seen_by": "f4"})
    PlyData([element]).write(str(tmp_path / "a.ply"))
    out = save_labels(tmp_path / "out.ply", PointCloud.load(tmp_path / "a.ply"))
    np.testing.assert_array_equal(out["vertex"]["seen_by"][3], [0, 0.5, 1])


def test_labelled_ply_of_an_array(tmp_path):
    out = save_labels(tmp_path / "out.ply", as_point_cloud(XYZ))["vertex"].data
    assert out.dtype.names == ("x", "y", "z", "red", "green", "blue", "label", "score")
    out = save_labels(tmp_path / "out.ply", PointCloud(XYZ, RGB))["vertex"].data
    np.testing.assert_array_equal(out["orig_green"], RGB[:, 1])


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", np.hstack([XYZ, RGB]))
    np.savez(tmp_path / "b.npz", points=XYZ, colors=RGB)
    np.savez(tmp_path / "c.npz", xyz=np.hstack([XYZ, RGB]))
    for name in ("a.npy", "b.npz", "c.npz"):
        cloud = PointCloud.load(tmp_path / name)
        np.testing.assert_array_equal(cloud.xyz, XYZ)
        np.testing.assert_array_equal(cloud.rgb, RGB)


@pytest.mark.parametrize("suffix", [".txt", ".xyz", ".csv"])
@pytest.mark.parametrize("heading", ["", "# a comment\n", "x y z r g b\n"])
def test_text_files(tmp_path, suffix, heading):
    gap = "," if suffix == ".csv" else " "
    rows = [
        gap.join(map(repr, [*map(float, p), *map(int, c)])) for p, c in zip(XYZ, RGB, strict=True)
    ]
    (tmp_path / f"a{suffix}").write_text(heading + "\n".join(rows) + "\n")
    cloud = PointCloud.load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    np.testing.assert_array_equal(cloud.rgb, RGB)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_pcd_files(tmp_path, encoding):
    packed = (RGB.astype(np.uint32) * [65536, 256, 1]).sum(axis=1).astype(np.uint32)
    table = np.zeros(8, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    for i, name in enumerate("xyz"):
        table[name][:7] = XYZ[:, i]
    table["rgb"][:7] = packed
    table["x"][7] = np.nan
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\n"
        f"WIDTH 8\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 8\nDATA {encoding}\n"
    )
    rows = "\n".join(" ".join(map(str, row)) for row in table.tolist())
    body = table.tobytes() if encoding == "binary" else rows.encode()
    (tmp_path / "a.pcd").write_bytes(header.encode() + body)
    cloud = PointCloud.load(tmp_path / "a.pcd")
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, RGB)
    (tmp_path / "cut.pcd").write_bytes(header.encode() + body[:40])
    with pytest.raises(ValueError, match=r"cut\.pcd"):
        PointCloud.load(tmp_path / "cut.pcd")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"", "cannot read point clouds from .obj"),
        ("a.ply", b"no ply at all", "cannot be read as PLY"),
        ("a.ply", b"", "cannot be read as PLY"),
        ("a.txt", b"", "holds no points"),
        ("a.txt", b"1 2\n3 4\n", "needs 3 columns"),
        ("a.txt", b"1 2 3\n1 2 x\n", "not a table"),
        ("a.txt", b"1 2 nan\n", r"a\.txt: .*NaN"),
        ("a.npy", b"junk", r"a\.npy"),
        ("a.pcd", b"junk", "no DATA line"),
    ],
)
def test_bad_cloud_file_rejected(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        PointCloud.load(tmp_path / name)


def test_bad_ply_rejected(tmp_path):
    path = write(tmp_path / "a.ply", make_vertex())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"a\.ply cannot be read as PLY"):
        PointCloud.load(path)
    write(tmp_path / "b.ply", np.zeros(2, [("x", "f4"), ("y", "f4")]))
    with pytest.raises(ValueError, match="no vertex element with x, y and z"):
        PointCloud.load(tmp_path / "b.ply")
    write(tmp_path / "c.ply", make_vertex()[:0])
    with pytest.raises(ValueError, match=r"c\.ply: .*the cloud is empty"):
        PointCloud.load(tmp_path / "c.ply")


def test_missing_cloud_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no point cloud file"):
        as_point_cloud(tmp_path / "gone.ply")
    np.savez(tmp_path / "a.npz", weights=XYZ)
    with pytest.raises(ValueError, match="the file holds weights"):
        as_point_cloud(str(tmp_path / "a.npz"))


def write_half(target):
    with atomic_write(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_atomic_write_leaves_nothing_behind(tmp_path):
    target = tmp_path / "deep/out.txt"
    with pytest.raises(KeyboardInterrupt):
        write_half(target)
    assert list(target.parent.iterdir()) == []
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(KeyboardInterrupt):
        write_half(target)
    assert target.read_text() == "whole"
    with pytest.raises(ValueError, match="is a folder"), atomic_write(tmp_path):
        pass


def test_hash_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
