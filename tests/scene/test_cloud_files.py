"""Clouds from disk, and PLY files with properties of any kind in and out."""

import io
import os

import numpy as np
import pytest
from fuzzing import FUZZ, assert_clear, assert_handled, mutate
from hypothesis import given
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement

from xmask3d_rt.files import atomic_write, hash_file
from xmask3d_rt.scene.cloud import PointCloud, as_point_cloud
from xmask3d_rt.scene.ply import write_labelled_ply

RNG = np.random.default_rng(3)
XYZ = RNG.normal(size=(7, 3)).astype(np.float32)
RGB = RNG.integers(0, 256, (7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 1, 0, 1, 0, 0])
SCORES = np.linspace(0, 1, 7, dtype=np.float32)
CLASS_COLORS = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
NAMES = ["wall", 'stühl; "x"']


def make_bytes(save, *args, **arrays):
    stream = io.BytesIO()
    save(stream, *args, **arrays)
    return stream.getvalue()


NUMPY_SEEDS = {
    ".npy": [
        make_bytes(np.save, np.hstack([XYZ, RGB])),
        make_bytes(np.save, XYZ.T.copy().T),
        make_bytes(np.save, np.zeros(4, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("rgb", "u4")])),
    ],
    ".npz": [
        make_bytes(np.savez, xyz=XYZ, rgb=RGB),
        make_bytes(np.savez_compressed, points=XYZ, colors=RGB, label=LABELS),
    ],
}


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
    np.savez(tmp_path / "d.npz", XYZ=XYZ, Colors=RGB, label=np.array([{}], dtype=object))
    for name in ("a.npy", "b.npz", "c.npz", "d.npz"):
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


def test_what_is_no_file_rejected(tmp_path):
    (tmp_path / "a.ply").symlink_to("nowhere")
    with pytest.raises(
        ValueError, match=r"a\.ply is a link to nowhere; copy the cloud into a file"
    ):
        PointCloud.load(tmp_path / "a.ply")
    os.mkfifo(tmp_path / "b.ply")
    with pytest.raises(ValueError, match=r"b\.ply is no regular file; copy the cloud"):
        PointCloud.load(tmp_path / "b.ply")


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


@pytest.mark.parametrize(
    ("positions", "colors"),
    [
        (("X", "Y", "Z"), ("Red", "Green", "Blue")),
        (("x", "y", "z"), ("scalar_R", "scalar_G", "scalar_B")),
        (("x", "y", "z"), ("RED", "GREEN", "BLUE")),
        (("x", "y", "z"), ("Diffuse_Red", "diffuse_green", "diffuse_blue")),
    ],
)
def test_ply_names_in_any_case(tmp_path, positions, colors):
    vertex = make_vertex(colors=colors, extra=False)
    vertex.dtype.names = (*positions, *colors)
    cloud = PointCloud.load(write(tmp_path / "a.ply", vertex))
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    np.testing.assert_array_equal(cloud.rgb, RGB)
    out = save_labels(tmp_path / "out.ply", cloud)["vertex"].data
    np.testing.assert_array_equal(out[positions[0]], XYZ[:, 0])
    np.testing.assert_array_equal(out["orig_green"], RGB[:, 1])
    np.testing.assert_array_equal(out["green"], CLASS_COLORS[LABELS, 1])
    lower = [name.lower() for name in out.dtype.names]
    assert len(set(lower)) == len(lower)
    np.testing.assert_array_equal(PointCloud.load(tmp_path / "out.ply").rgb, RGB)


def test_ply_names_that_differ_in_case_alone(tmp_path):
    colors = ("red", "green", "blue", "Red")
    vertex = make_vertex(colors=colors, extra=False)
    vertex["Red"] = 9
    cloud = PointCloud.load(write(tmp_path / "a.ply", vertex))
    np.testing.assert_array_equal(cloud.rgb, RGB)
    out = save_labels(tmp_path / "out.ply", cloud)["vertex"].data
    assert (out["Red"] == 9).all()
    np.testing.assert_array_equal(out["orig_red"], RGB[:, 0])


def test_ply_without_positions_lists_what_is_there(tmp_path):
    path = write(tmp_path / "a.ply", np.zeros(2, [("lat", "f4"), ("lon", "f4"), ("Rouge", "u1")]))
    with pytest.raises(ValueError, match="it holds vertex, and vertex has lat, lon, Rouge"):
        PointCloud.load(path)
    vertex = make_vertex(colors=("Rouge", "Vert", "Bleu"), extra=False)
    cloud = PointCloud.load(write(tmp_path / "b.ply", vertex))
    with pytest.raises(ValueError, match=r"no colours .*: x, y, z, Rouge, Vert, Bleu"):
        cloud.require_rgb()
    PlyData([PlyElement.describe(vertex, "points")]).write(str(tmp_path / "c.ply"))
    with pytest.raises(ValueError, match=r"no vertex element with x, y and z \(it holds points"):
        PointCloud.load(tmp_path / "c.ply")


def test_obj_info_is_kept(tmp_path):
    elements = [PlyElement.describe(make_vertex(), "vertex")]
    PlyData(elements, obj_info=["num_cols 512"]).write(str(tmp_path / "a.ply"))
    out = save_labels(tmp_path / "out.ply", PointCloud.load(tmp_path / "a.ply"))
    assert out.obj_info == ["num_cols 512"]


@pytest.mark.parametrize("text", [False, True])
def test_points_left_out_of_a_ply_take_their_properties_along(tmp_path, text):
    vertex = np.concatenate([make_vertex(), make_vertex()[:2]])
    vertex["y"][7] = np.nan
    vertex["z"][8] = np.inf
    vertex = np.roll(vertex, 1)
    seen_by = np.empty(9, [*vertex.dtype.descr, ("seen_by", "O")])
    for name in vertex.dtype.names:
        seen_by[name] = vertex[name]
    for i in range(9):
        seen_by["seen_by"][i] = np.arange(i, dtype=np.float32)
    described = PlyElement.describe(seen_by, "vertex", val_types={"seen_by": "f4"})
    faces = np.array([([0, 1, 2],)], [("vertex_indices", "O")])
    faces = PlyElement.describe(faces, "face", val_types={"vertex_indices": "i4"})
    camera = PlyElement.describe(np.zeros(1, [("view_px", "f4")]), "camera")
    PlyData([described, faces, camera], text=text).write(str(tmp_path / "a.ply"))
    cloud = PointCloud.load(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    np.testing.assert_array_equal(cloud.rgb, RGB)
    assert cloud.notes == (
        "2 of 9 points are NaN or infinite: left out",
        "without these points face was not kept",
    )
    out = save_labels(tmp_path / "out.ply", cloud)
    np.testing.assert_array_equal(out["vertex"]["quality"], np.arange(7))
    np.testing.assert_array_equal(out["vertex"]["seen_by"][2], [0, 1, 2])
    assert [element.name for element in out.elements] == ["vertex", "camera"]


def test_cloud_without_a_finite_point_rejected(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match=r"a\.npy: all 3 points have NaN or infinite values"):
        PointCloud.load(tmp_path / "a.npy")


def test_arrays_of_files_with_missing_values_and_other_ranges(tmp_path):
    table = np.hstack([XYZ, RGB]).astype(np.float64)
    table[2, 1] = table[4, 5] = np.nan
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "b.npz", xyz=table[:, :3], rgb=table[:, 3:])
    for name in ("a.npy", "b.npz"):
        cloud = PointCloud.load(tmp_path / name)
        np.testing.assert_array_equal(cloud.rgb, np.delete(RGB, [2, 4], axis=0))
        assert cloud.notes == ("2 of 7 points are NaN or infinite: left out",)
    with pytest.raises(ValueError, match="has 1 NaN or infinite values"):
        as_point_cloud(table)
    np.savez(tmp_path / "c.npz", xyz=XYZ, rgb=RGB.astype(np.uint16) * 257)
    cloud = PointCloud.load(tmp_path / "c.npz")
    np.testing.assert_array_equal(cloud.rgb, RGB)
    assert "divided by 257" in cloud.notes[0]
    np.savez(tmp_path / "d.npz", xyz=XYZ, rgb=RGB / 255)
    np.testing.assert_array_equal(PointCloud.load(tmp_path / "d.npz").rgb, RGB)


def test_records_in_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", make_vertex(colors=("R", "G", "B")))
    cloud = PointCloud.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    np.testing.assert_array_equal(cloud.rgb, RGB)


@pytest.mark.parametrize("kind", ["u2", "i4", "u4", "f4"])
def test_ply_16_bit_colours(tmp_path, kind):
    vertex = make_vertex(color_type=kind)
    for name in ("red", "green", "blue"):
        vertex[name] = vertex[name] * 257 if kind != "f4" else np.rint(vertex[name] * 255) * 257
    cloud = PointCloud.load(write(tmp_path / "a.ply", vertex))
    np.testing.assert_array_equal(cloud.rgb, RGB)
    assert "were divided by 257" in cloud.notes[0]
    save_labels(tmp_path / "out.ply", cloud)
    np.testing.assert_array_equal(PointCloud.load(tmp_path / "out.ply").rgb, RGB)


@pytest.mark.parametrize("kind", ["u2", "i4"])
def test_ply_8_bit_colours_in_wider_types_stay(tmp_path, kind):
    cloud = PointCloud.load(write(tmp_path / "a.ply", make_vertex(color_type=kind)))
    np.testing.assert_array_equal(cloud.rgb, RGB)
    assert cloud.notes == ()


def test_folder_names_the_cloud_inside(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder, not a point cloud file; pass a \.ply, "):
        PointCloud.load(tmp_path)
    for name in ("scene.ply", "._scene.ply", "classes.json"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"; pass .*/scene\.ply$"):
        as_point_cloud(tmp_path)
    (tmp_path / "more.pcd").touch()
    with pytest.raises(ValueError, match=r"; pass .*/more\.pcd or .*/scene\.ply$"):
        as_point_cloud(str(tmp_path))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["clouds-6074.ply", "clouds-902.npy"])
def test_headers_that_claim_gigabytes_rejected(shared, name):
    path = shared / "field" / "fuzz" / name
    with pytest.raises(ValueError, match="the file holds") as caught:
        PointCloud.load(path)
    assert_clear(caught.value, path)


def test_near_miss_is_named(tmp_path):
    (tmp_path / "Scene.PLY").touch()
    with pytest.raises(FileNotFoundError, match=r"file .*/scene\.ply; there is .*Scene\.PLY"):
        PointCloud.load(tmp_path / "scene.ply")


def test_errors_name_the_file_once_in_one_line(tmp_path):
    np.save(tmp_path / "a.npy", np.array(["a\nb"]))
    np.save(tmp_path / "c.npy", np.zeros((3, 3), complex))
    (tmp_path / "d.txt").write_bytes(b"1 2 3\n4 5 \x1b[31m\n")
    (tmp_path / "e\x1b.txt").write_text("1 2\n")
    for name in ("e\x1b.txt", "e\x1b.ply"):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            PointCloud.load(tmp_path / name)
        assert_clear(caught.value)
    for name in ("a.npy", "c.npy", "d.txt"):
        with pytest.raises((ValueError, TypeError)) as caught:
            PointCloud.load(tmp_path / name)
        assert_clear(caught.value, tmp_path / name)
        assert str(caught.value).count(name) == 1


@pytest.mark.fuzz
@FUZZ
@given(st.data())
def test_broken_numpy_cloud_is_handled(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    suffix = data.draw(st.sampled_from([".npy", ".npz"]))
    path = folder / f"broken{suffix}"
    path.write_bytes(data.draw(mutate(NUMPY_SEEDS[suffix])))
    assert_handled(lambda: PointCloud.load(path), path)


def test_hash_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
