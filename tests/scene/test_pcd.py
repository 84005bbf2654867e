"""PCD files: three encodings, header lines that lack or lie, and packed colours."""

import numpy as np
import pytest
from fuzzing import FUZZ, assert_handled, mutate
from hypothesis import given
from hypothesis import strategies as st

from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.pcd import unpack_lzf

XYZ = np.random.default_rng(7).normal(size=(6, 3)).astype(np.float32)
RGB = np.random.default_rng(8).integers(0, 256, (6, 3), dtype=np.uint8)
RGB[0] = 255
PACKED = (RGB.astype(np.uint32) * [65536, 256, 1]).sum(axis=1).astype(np.uint32)


def pack_lzf(content):
    """An LZF stream of literals, and of one repetition where the content begins with one."""
    out = bytearray()
    run = len(content) - len(content.lstrip(content[:1]))
    if run > 8:
        out += bytes([0, content[0], 7 << 5, run - 10, 0])
        content = content[run:]
    for start in range(0, len(content), 32):
        piece = content[start : start + 32]
        out += bytes([len(piece) - 1]) + piece
    return bytes(out)


def make_pcd(columns, encoding="ascii", changes=(), points=None):
    """A file of columns (field, dtype, values [N] or [N, count])."""
    table = np.zeros(
        len(columns[0][2]),
        [(f"{i}", kind, np.shape(values)[1:]) for i, (_, kind, values) in enumerate(columns)],
    )
    for i, (_, _, values) in enumerate(columns):
        table[f"{i}"] = values
    dtypes = [np.dtype(kind) for _, kind, _ in columns]
    counts = [np.prod(np.shape(values)[1:], dtype=int) for *_, values in columns]
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(name for name, *_ in columns),
        "SIZE": " ".join(str(dtype.itemsize) for dtype in dtypes),
        "TYPE": " ".join(dtype.kind.upper() for dtype in dtypes),
        "COUNT": " ".join(map(str, counts)),
        "WIDTH": str(len(table)),
        "HEIGHT": "1",
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(len(table) if points is None else points),
        "DATA": encoding,
    } | dict(changes)
    if encoding == "binary_compressed":
        plain = b"".join(np.ascontiguousarray(table[f"{i}"]).tobytes() for i in range(len(columns)))
        packed = pack_lzf(plain)
        sizes = np.array([len(packed), len(plain)], "<u4").tobytes()
        body = sizes + packed
    elif encoding == "binary":
        body = table.tobytes()
    else:
        rows = [np.concatenate([np.ravel(cell) for cell in row]) for row in table.tolist()]
        body = "".join(
            " ".join(f"{x:.0f}" if float(x).is_integer() else f"{x:.10g}" for x in row) + "\n"
            for row in rows
        ).encode()
    header = "".join(f"{key} {value}\n" for key, value in lines.items() if value is not None)
    return b"# .PCD v0.7\n" + header.encode() + body


def points(*colors, kind="<f4"):
    return [*((axis, kind, XYZ[:, i]) for i, axis in enumerate("xyz")), *colors]


SEPARATE = [(name, "<u1", RGB[:, i]) for i, name in enumerate("rgb")]
ENCODINGS = ["ascii", "binary", "binary_compressed"]


def load(tmp_path, content):
    (tmp_path / "a.pcd").write_bytes(content)
    return PointCloud.load(tmp_path / "a.pcd")


def assert_read(cloud, notes=()):
    np.testing.assert_allclose(cloud.xyz, XYZ, rtol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, RGB)
    assert cloud.notes == tuple(notes)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["<f4", "<f8"])
@pytest.mark.parametrize(
    "colors",
    [
        [("rgb", "<u4", PACKED)],
        [("rgba", "<u4", PACKED | np.uint32(0xFF000000))],
        [("rgb", "<i4", (PACKED | np.uint32(0xFF000000)).view(np.int32))],
        [("rgb", "<f4", PACKED.view(np.float32))],
        SEPARATE,
        [("normal", "<f4", np.ones((6, 3)) / 3), *SEPARATE, ("_", "<u1", RGB), ("_", "<u1", RGB)],
    ],
    ids=["u4", "rgba", "i4", "bits", "separate", "padding"],
)
def test_colours(tmp_path, encoding, kind, colors):
    if colors[0][1] == "<f4" and encoding == "ascii" and colors[0][0] == "rgb":
        content = make_pcd(points(*SEPARATE, kind=kind), encoding)
        head, _, body = content.partition(b"DATA ascii\n")
        head = head.replace(b"x y z r g b", b"x y z rgb").replace(b" U U U", b" F")
        head = head.replace(b" 1 1 1\nTYPE", b" 4\nTYPE").replace(b"COUNT 1 1 1", b"COUNT 1")
        bits = PACKED.view(np.float32)
        rows = [
            f"{' '.join(row.split()[:3])} {b:.9g}"
            for row, b in zip(body.decode().splitlines(), bits, strict=True)
        ]
        content = head + b"DATA ascii\n" + "\n".join(rows).encode()
    else:
        content = make_pcd(points(*colors, kind=kind), encoding)
    assert_read(load(tmp_path, content))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_whole_numbers_in_a_float_are_the_packed_colour(tmp_path, encoding):
    colors = [("rgb", "<f4", PACKED.astype(np.float32))]
    assert_read(load(tmp_path, make_pcd(points(*colors), encoding)))


def test_bits_with_opacity(tmp_path):
    bits = (PACKED | np.uint32(0xFF000000)).view(np.float32)  # NaN where red is above 127
    assert_read(load(tmp_path, make_pcd(points(("rgb", "<f4", bits)), "binary")))


@pytest.mark.parametrize(
    "changes",
    [
        {"POINTS": None},
        {"COUNT": None},
        {"TYPE": "f f f u u u"},
        {"FIELDS": "X Y Z R G B"},
        {"FIELDS": None, "COLUMNS": "x y z r g b"},
        {"VERSION": None, "VIEWPOINT": None, "HEIGHT": None},
        {"WIDTH": "3", "HEIGHT": "2", "POINTS": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_harmless_variants_of_the_header(tmp_path, changes, encoding):
    content = make_pcd(points(*SEPARATE), encoding, {"VERSION": "0.7", **changes})
    if "COLUMNS" in changes:
        data = f"DATA {encoding}\n".encode()
        line = b"COLUMNS x y z r g b\n"
        content = content.replace(line, b"").replace(data, line + data)
    assert_read(load(tmp_path, b"\xef\xbb\xbf" + content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"POINTS": "9"}, "header says 9 points"),
        ({"POINTS": "4"}, "header says 4 points"),
        ({"POINTS": "-6"}, "POINTS must be a whole number >= 0, got '-6'"),
        ({"POINTS": "6.5"}, "POINTS must be a whole number"),
        ({"POINTS": ""}, "POINTS must be a whole number"),
        ({"POINTS": "999999999999"}, "header says 999999999999 "),
        ({"POINTS": "0"}, "header says 0 "),
        ({"POINTS": None, "WIDTH": None}, "neither a POINTS line nor WIDTH"),
        ({"FIELDS": None}, "no FIELDS line"),
        ({"FIELDS": "a b c r g b"}, r"no columns x, y and z \(it has a, b, c, r, g, b\)"),
        ({"FIELDS": "x x y z g b"}, "several columns are called x"),
        ({"SIZE": None}, "SIZE line must have a value for each of the 6 FIELDS .* got none"),
        ({"TYPE": "F F F"}, "TYPE line must .* got F F F"),
        ({"COUNT": "1 1"}, "COUNT line must .* got 1 1"),
        ({"TYPE": "F F F U U Q"}, "field b has TYPE Q and SIZE 1; known are F with 4"),
        ({"SIZE": "4 4 4 1 1 3"}, "field b has TYPE U and SIZE 3"),
        ({"COUNT": "1 1 1 1 1 0"}, "field b has COUNT 0"),
        ({"COUNT": "1 1 1 1 1 99999999999"}, ""),
        ({"DATA": "zipped"}, "DATA is 'zipped'; it must be one of ascii, binary, binary_comp"),
        ({"DATA": None}, "no DATA line"),
    ],
    ids=str,
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_header_that_does_not_fit_rejected(tmp_path, encoding, changes, message):
    with pytest.raises(ValueError, match=rf"a\.pcd: .*{message}") as caught:
        load(tmp_path, make_pcd(points(*SEPARATE), encoding, changes))
    assert "\n" not in str(caught.value)


def test_ascii_rows_that_do_not_fit_rejected(tmp_path):
    content = make_pcd(points(*SEPARATE))
    with pytest.raises(ValueError, match=r"a\.pcd: not a table of numbers: row 6 has 5 columns"):
        load(tmp_path, content.rstrip().rpartition(b" ")[0])
    with pytest.raises(ValueError, match="rows have 6 columns, FIELDS and COUNT say 7"):
        load(tmp_path, content.replace(b"COUNT 1 1 1 1 1 1", b"COUNT 1 1 1 1 1 2"))
    with pytest.raises(ValueError, match="not a table of numbers: could not convert"):
        load(tmp_path, content.replace(b"255 255 255", b"255 \xff 255"))
    with pytest.raises(ValueError, match=r"0\.\.255, got values from"):
        load(tmp_path, content.replace(b"255 255 255", b"255 300 255"))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("<f4", PACKED + 0.5, "neither the whole number 0xRRGGBB nor the bits"),
        ("<u1", RGB[:, 0], "packed rgb is uint8, which cannot hold three bytes"),
    ],
)
def test_packed_colours_that_are_none_rejected(tmp_path, kind, values, message):
    with pytest.raises(ValueError, match=rf"a\.pcd: .*{message}"):
        load(tmp_path, make_pcd(points(("rgb", kind, values // 2 + values % 1))))


def test_packed_colours_of_six_digits_rejected(tmp_path):
    header = make_pcd(points(("rgb", "<f4", PACKED.astype(np.float32))), "ascii")
    start, _, _ = header.partition(b"DATA ascii\n")
    values = np.random.default_rng(3).integers(10**7, 1 << 24, 20)
    rows = "".join(f"1 2 3 {value:.5e}\n" for value in values)
    start = start.replace(b"POINTS 6", b"POINTS 20").replace(b"WIDTH 6", b"WIDTH 20")
    with pytest.raises(ValueError, match=r"a\.pcd: its packed rgb was rounded .* end in 00"):
        load(tmp_path, start + b"DATA ascii\n" + rows.encode())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_points_without_position_or_colour_are_left_out(tmp_path, encoding):
    xyz, rgb = XYZ.copy(), RGB.astype(np.float32)
    xyz[1, 2], rgb[3, 0] = np.nan, np.inf
    columns = [(axis, "<f4", xyz[:, i]) for i, axis in enumerate("xyz")]
    columns += [(name, "<f4", rgb[:, i]) for i, name in enumerate("rgb")]
    cloud = load(tmp_path, make_pcd(columns, encoding))
    np.testing.assert_array_equal(cloud.rgb, np.delete(RGB, [1, 3], axis=0))
    assert cloud.notes == ("2 of 6 points are NaN or infinite: left out",)


def test_missing_packed_colour_is_left_out(tmp_path):
    bits = PACKED.view(np.float32).copy()
    bits[2] = np.nan
    for encoding in ("binary", "binary_compressed"):
        cloud = load(tmp_path, make_pcd(points(("rgb", "<f4", bits)), encoding))
        assert len(cloud) == 5, encoding
    numbers = PACKED.astype(np.float32)
    numbers[2] = np.nan
    cloud = load(tmp_path, make_pcd(points(("rgb", "<f4", numbers))))
    np.testing.assert_array_equal(cloud.rgb, np.delete(RGB, 2, axis=0))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_16_bit_colours(tmp_path, encoding):
    colors = [(name, "<u2", RGB[:, i] * np.uint16(257)) for i, name in enumerate("rgb")]
    cloud = load(tmp_path, make_pcd(points(*colors), encoding))
    assert_read(cloud, ["16-bit colours (up to 65535) were divided by 257"])


def test_lzf():
    assert unpack_lzf(b"\x02abc", 3) == b"abc"
    assert unpack_lzf(b"\x01ab\x40\x01", 6) == b"ababab"[:2] + b"abab"
    assert unpack_lzf(b"\x00a\xe0\x01\x00", 11) == b"a" * 11
    with pytest.raises(ValueError, match="ends too early"):
        unpack_lzf(b"\x00a\xe0", 11)
    with pytest.raises(ValueError, match="points before its start"):
        unpack_lzf(b"\x00a\x20\x09", 4)
    with pytest.raises(ValueError, match="1 bytes in place of 4"):
        unpack_lzf(b"\x00a", 4)


def test_compressed_data_that_claims_too_much_rejected(tmp_path):
    content = make_pcd(points(*SEPARATE), "binary_compressed")
    start = content.index(b"DATA binary_compressed\n") + 23
    for packed, unpacked in ((1 << 31, 90), (93, 91), (0, 90)):
        sizes = np.array([packed, unpacked], "<u4").tobytes()
        with pytest.raises(ValueError, match="header says 6 points of 15 bytes, its data"):
            load(tmp_path, content[:start] + sizes + content[start + 8 :])
    with pytest.raises(ValueError, match="the file holds 0"):
        load(tmp_path, content[: start + 7])


SEEDS = [
    make_pcd(points(("rgb", "<u4", PACKED), ("_", "<u1", RGB)), "ascii"),
    make_pcd(points(("rgb", "<f4", PACKED.view(np.float32))), "binary"),
    make_pcd(points(*SEPARATE), "binary_compressed"),
    make_pcd(points(*SEPARATE), "ascii"),
]


@pytest.mark.fuzz
@FUZZ
@given(content=mutate(SEEDS))
def test_broken_pcd_is_handled(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "broken.pcd"
    path.write_bytes(content)
    assert_handled(lambda: PointCloud.load(path), path)


@pytest.mark.fuzz
@FUZZ
@given(packed=st.binary(max_size=64), size=st.integers(0, 5000))
def test_broken_lzf_is_handled(packed, size):
    out = assert_handled(lambda: unpack_lzf(packed, size))
    assert out is None or len(out) == size
