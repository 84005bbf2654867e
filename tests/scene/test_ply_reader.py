"""The PLY reader: what plyfile reads it reads alike, and what it claims is checked first."""

import io
import tracemalloc

import numpy as np
import pytest
from fuzzing import FUZZ, assert_handled, mutate
from hypothesis import given
from plyfile import PlyData, PlyElement

from xmask3d_rt.scene import ply_elements, ply_reader
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.ply_elements import write_elements
from xmask3d_rt.scene.ply_reader import TYPES, read_elements

RNG = np.random.default_rng(11)
TRIANGLES = [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
POLYGONS = [[0, 1, 2, 3], [], [4, 5, 6]]


def make_vertex(count=7):
    vertex = np.zeros(
        count,
        [(axis, "f8" if axis == "z" else "f4") for axis in "xyz"]
        + [("red", "u1"), ("green", "u1"), ("blue", "u1")]
        + [("i1", "i1"), ("u2", "u2"), ("i2", "i2"), ("u4", "u4"), ("i4", "i4")],
    )
    for axis in "xyz":
        vertex[axis] = RNG.normal(size=count)
    for name in vertex.dtype.names[3:]:
        limits = np.iinfo(vertex.dtype[name])
        vertex[name] = RNG.integers(limits.min, limits.max, count, endpoint=True)
    return vertex


def make_faces(lists, len_type="u1", val_type="i4"):
    faces = np.empty(len(lists), [("flags", "u1"), ("vertex_indices", "O"), ("weights", "O")])
    for index, values in enumerate(lists):
        faces[index] = (index, np.array(values, val_type), np.array(values, "f4") / 3)
    return PlyElement.describe(
        faces,
        "face",
        len_types={"vertex_indices": len_type, "weights": "u2"},
        val_types={"vertex_indices": val_type, "weights": "f4"},
        comments=["of the mesh"],
    )


def make_ply(*others, vertex=None, **options):
    vertex = PlyElement.describe(make_vertex() if vertex is None else vertex, "vertex")
    stream = io.BytesIO()
    options = {"comments": ["made by hand", "twice"], "obj_info": ["a b", "c"]} | options
    PlyData([vertex, *others], **options).write(stream)
    return stream.getvalue()


def load(tmp_path, content):
    (tmp_path / "a.ply").write_bytes(content)
    return PointCloud.load(tmp_path / "a.ply")


ENCODINGS = [{"text": True}, {"byte_order": "<"}, {"byte_order": ">"}]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("lists", [TRIANGLES, POLYGONS, [[]], [], [[5]]], ids=str)
@pytest.mark.parametrize("len_type", ["u1", "i4"])
def test_everything_is_read_as_plyfile_does(tmp_path, encoding, lists, len_type):
    empty = PlyElement.describe(np.zeros(0, [("a", "f4")]), "empty")
    last = PlyElement.describe(np.arange(3).astype([("n", "i2")]), "last")
    path = tmp_path / "a.ply"
    path.write_bytes(make_ply(empty, make_faces(lists, len_type), last, **encoding))
    found, wanted = read_elements(path), PlyData.read(str(path))
    assert found.comments == tuple(wanted.comments)
    assert found.obj_info == tuple(wanted.obj_info)
    assert found.notes == ()
    for mine, theirs in zip(found.elements, wanted.elements, strict=True):
        assert mine.name == theirs.name
        assert mine.comments == theirs.comments
        assert [item.describe() for item in mine.properties] == list(map(str, theirs.properties))
        for name, column in mine.columns.items():
            for one, other in zip(column, theirs.data[name], strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("lists", [TRIANGLES, POLYGONS], ids=str)
def test_elements_are_read_and_written_block_by_block(tmp_path, monkeypatch, encoding, lists):
    monkeypatch.setattr(ply_reader, "BLOCK_LINES", 2)
    monkeypatch.setattr(ply_elements, "BLOCK_BYTES", 60)
    lists = [*lists, list(range(40)), *lists, []]  # one row longer than a block
    path = tmp_path / "a.ply"
    path.write_bytes(make_ply(make_faces(lists), vertex=make_vertex(31), **encoding))
    content = read_elements(path)
    write_elements(tmp_path / "b.ply", content.elements, content.comments, content.obj_info)
    found, wanted = PlyData.read(str(tmp_path / "b.ply")), PlyData.read(str(path))
    assert found.header.replace("little", "") == (
        wanted.header.replace("ascii", "binary__endian")
        .replace("little", "")
        .replace("binary_big_endian", "binary__endian")
    )
    np.testing.assert_array_equal(found["vertex"].data, wanted["vertex"].data)
    for name in ("flags", "vertex_indices", "weights"):
        for one, other in zip(found["face"][name], wanted["face"][name], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("last", [[], [7]], ids=["alike", "different"])
def test_lists_take_their_size_and_no_more(tmp_path, monkeypatch, form, last):
    count = 40_000
    monkeypatch.setattr(ply_reader, "HEADER_LIMIT", 1000)
    header = (
        f"ply\nformat {form} 1.0\nelement vertex 0\nproperty float x\nelement face {count}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    text = b"0\n" * (count - 1) + (b"1 7\n" if last else b"0\n")
    binary = bytes(count - 1) + (b"\1\7\0\0\0" if last else b"\0")
    path = tmp_path / "a.ply"
    path.write_bytes(header.encode() + (text if form == "ascii" else binary))
    tracemalloc.start()
    try:
        faces = read_elements(path).elements[1].columns["vertex_indices"]
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(faces[count - 1]) == last
    assert held < 3 * count  # an object each took 120 bytes
    assert most < 120 * count


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("form", ["ascii", "binary_big_endian"])
def test_every_name_of_a_type(tmp_path, name, form):
    header = f"ply\nformat {form} 1.0\nelement vertex 1\nproperty {name} x\nend_header\n"
    path = tmp_path / "a.ply"
    body = b"5\n" if form == "ascii" else np.array(5).astype(">" + TYPES[name]).tobytes()
    path.write_bytes(header.encode() + body)
    (mine,), (theirs,) = read_elements(path).elements, PlyData.read(str(path)).elements
    assert mine.columns["x"][0] == 5
    assert mine.columns["x"].dtype == theirs.data["x"].dtype


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_harmless_variants(tmp_path, encoding):
    vertex = make_vertex()
    content = make_ply(make_faces(TRIANGLES), vertex=vertex, **encoding)
    header, end, body = content.partition(b"end_header\n")
    variants = [
        b"\xef\xbb\xbf" + content,
        content.replace(b"by hand", "Büro 3 °C".encode()),
        content.replace(b"by hand", "Büro 3 °C".encode("latin-1")),
        content.replace(b"element", b"\ncomment\nelement"),
        header.replace(b"\n", b"\r\n") + b"end_header\r\n" + body,
        header.replace(b"\n", b"\r") + b"end_header\r" + body,
        header + b"end_header  \n" + body,
        b"PLY" + content[3:],
        header.replace(b"element vertex", b"element Vertex") + end + body,
    ]
    if encoding.get("text"):
        variants += [
            content.replace(end, end + b"\n \n"),
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            header + end + body.replace(b"\n", b"\n\n"),
        ]
    for variant in variants:
        cloud = load(tmp_path, variant)
        np.testing.assert_array_equal(cloud.xyz[:, 1], vertex["y"])
        np.testing.assert_array_equal(cloud.rgb[:, 1], vertex["green"])
        np.testing.assert_array_equal(
            cloud.source.others[0].columns["vertex_indices"][2], [4, 5, 6]
        )


def test_other_letters_in_comments_are_escaped(tmp_path):
    content = make_ply().replace(b"by hand", "Büro".encode("latin-1"))
    assert load(tmp_path, content).source.comments == ("made B\\xfcro", "twice")


def test_what_follows_the_last_element_is_noted(tmp_path):
    assert load(tmp_path, make_ply() + b"junk").notes == (
        "4 bytes behind the last element were not read",
    )
    assert load(tmp_path, make_ply(text=True) + b"1 2\n\n3\n").notes == (
        "2 lines behind the last element were not read",
    )


HEADER = "ply\nformat {form} 1.0\nelement vertex {count}\n{properties}end_header\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ("", b"", "does not begin with a line 'ply'"),
        ("plyx\n", b"", "does not begin with a line 'ply'"),
        ("ply\nformat ascii 1.0\n", b"", "no line 'end_header'"),
        ("ply\nelement vertex 0\nend_header\n", b"", "'element vertex 0' is not one of a PLY"),
        ("ply\ncomment\nend_header\n", b"", "no line 'format'"),
        ("ply\nformat morse 1.0\nend_header\n", b"", "'format morse 1.0' is not one"),
        ("ply\nformat ascii 1.0\nproperty int x\nend_header\n", b"", "'property int x' is not one"),
        (HEADER.format(form="ascii", count="-1", properties=XYZ), b"", "'-1' rows"),
        (HEADER.format(form="ascii", count="9" * 20, properties=XYZ), b"", "rows, which is no"),
        (HEADER.format(form="ascii", count=1, properties=""), b"1\n", "vertex has no properties"),
        (HEADER.format(form="ascii", count=1, properties=XYZ + XYZ), b"", "one name twice: x, y"),
        (HEADER.format(form="ascii", count=1, properties="property real x\n"), b"", "'real x'"),
        (HEADER.format(form="ascii", count=1, properties="property\n"), b"", "property '' is not"),
        (
            HEADER.format(form="ascii", count=1, properties="property list float int x\n"),
            b"",
            "lengths of type float",
        ),
        (
            HEADER.format(form="ascii", count=2, properties=XYZ),
            b"1 2 3\n",
            "has 2 rows, the file",
        ),
        (HEADER.format(form="ascii", count=2, properties=XYZ), b"1 2 3\n4 5\n", "row 2 has 2 col"),
        (HEADER.format(form="ascii", count=1, properties=XYZ), b"1 2\n", "ends before property z"),
        (HEADER.format(form="ascii", count=1, properties=XYZ), b"1 2 3 4\n", "row has 4 values"),
        (HEADER.format(form="ascii", count=1, properties=XYZ), b"1 2 x\n", "vertex: not a table"),
        (
            HEADER.format(form="ascii", count=1, properties="property uchar red\n"),
            b"300\n",
            "element vertex: property red is uint8, which cannot be 300",
        ),
        (
            HEADER.format(form="ascii", count=2, properties="property short n\n"),
            b"1\n1.5\n",
            "property n is int16, which cannot be 1.5",
        ),
        (
            HEADER.format(form="ascii", count=2, properties="property list uchar short n\n"),
            b"1 4\n2 5 70000\n",
            "property n is int16, which cannot be 70000",
        ),
        (
            HEADER.format(form="ascii", count=1, properties="property list char int n\n"),
            b"-2 4\n",
            "ends before property n",
        ),
        (
            HEADER.format(form="ascii", count=1, properties="property list int int n\n"),
            b"999999999 4\n",
            "ends before property n",
        ),
        (
            HEADER.format(form="binary_little_endian", count=999999999, properties=XYZ),
            bytes(24),
            "truncated: 999999999 rows of element vertex need at least 11999999988 bytes, the file"
            " holds 24",
        ),
        (
            HEADER.format(
                form="binary_little_endian", count=1, properties="property list int int n\n"
            ),
            b"\xff\xff\xff\x7f" + bytes(9),
            "needs 2147483647 values at byte 4",
        ),
        (
            HEADER.format(
                form="binary_little_endian", count=2, properties="property list char double n\n"
            ),
            b"\x00\xff" + bytes(90),
            "needs -1 values",
        ),
    ],
)
def test_broken_file_rejected(tmp_path, header, body, message):
    with pytest.raises(ValueError, match=rf"a\.ply cannot be read as PLY: .*{message}") as caught:
        load(tmp_path, header.encode() + body)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_a_float_are_infinite(tmp_path):
    header = HEADER.format(form="ascii", count=2, properties=XYZ)
    cloud = load(tmp_path, header.encode() + b"1 2 1e300\n1 2 3\n")
    assert cloud.notes[-1] == "1 of 2 points are NaN or infinite: left out"


SEEDS = [
    make_ply(make_faces(TRIANGLES), text=True),
    make_ply(make_faces(POLYGONS), text=True),
    make_ply(make_faces(TRIANGLES), byte_order="<"),
    make_ply(make_faces(POLYGONS, "i4"), byte_order=">"),
]


@pytest.mark.fuzz
@FUZZ
@given(content=mutate(SEEDS))
def test_broken_ply_is_handled(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "broken.ply"
    path.write_bytes(content)
    assert_handled(lambda: PointCloud.load(path), path)
