"""Text clouds: headings, separators, counts, and columns that could mean two things."""

import codecs

import numpy as np
import pytest
from fuzzing import FUZZ, assert_handled, mutate
from hypothesis import given

from xmask3d_rt.scene.cloud import PointCloud

XYZ = np.random.default_rng(7).normal(size=(9, 3)).round(4)
RGB = np.random.default_rng(8).integers(0, 256, (9, 3))
RGB[0] = 255
EXTRA = np.random.default_rng(9).integers(0, 200, 9)


def write_rows(path, form, heading="", **columns):
    """Rows of `form` with x y z r g b, i (a whole number) and n (the row's number)."""
    rows = [
        form.format(x=x, y=y, z=z, r=r, g=g, b=b, i=EXTRA[n], n=n, **columns)
        for n, ((x, y, z), (r, g, b)) in enumerate(zip(XYZ, RGB, strict=True))
    ]
    path.write_text(heading + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def assert_read(path, *notes, colors=True):
    cloud = PointCloud.load(path)
    np.testing.assert_allclose(cloud.xyz, XYZ, atol=1e-6)
    if colors:
        np.testing.assert_array_equal(cloud.rgb, RGB)
    else:
        assert cloud.rgb is None
    assert len(cloud.notes) == len(notes), cloud.notes
    for note, wanted in zip(cloud.notes, notes, strict=True):
        assert wanted in note


@pytest.mark.parametrize(
    ("heading", "form"),
    [
        ("x y z r g b", "{x} {y} {z} {r} {g} {b}"),
        ("//X Y Z R G B", "{x} {y} {z} {r} {g} {b}"),
        ("# x y z red green blue", "{x} {y} {z} {r} {g} {b}"),
        ("# Columns: x y z r g b", "{x} {y} {z} {r} {g} {b}"),
        ('"X","Y","Z","Red","Green","Blue"', "{x},{y},{z},{r},{g},{b}"),
        ("X [m];Y [m];Z [m];R (8 bit);G (8 bit);B (8 bit)", "{x};{y};{z};{r};{g};{b}"),
        ("X\tY\tZ\tR\tG\tB", "{x}\t{y}\t{z}\t{r}\t{g}\t{b}"),
    ],
)
def test_heading_that_changes_nothing(tmp_path, heading, form):
    assert_read(write_rows(tmp_path / "a.csv", form, heading + "\n"))


@pytest.mark.parametrize(
    ("heading", "form"),
    [
        ("x y z intensity r g b", "{x} {y} {z} {i} {r} {g} {b}"),
        (
            "X,Y,Z,Intensity,ReturnNumber,NumberOfReturns,Red,Green,Blue",
            "{x},{y},{z},{i},1,1,{r},{g},{b}",
        ),
        ("id,x,y,z,r,g,b", "{n},{x},{y},{z},{r},{g},{b}"),
        ("r,g,b,x,y,z", "{r},{g},{b},{x},{y},{z}"),
        ("x,y,z,r,g,b,class", "{x},{y},{z},{r},{g},{b},office chair"),
        ("x,y,z,,r,g,b", "{x},{y},{z},,{r},{g},{b}"),
        ("x,y,z,i,r,g,b", "{x},{y},{z},,{r},{g},{b}"),
        ("x\ty\tz\ti\tr\tg\tb", "{x}\t{y}\t{z}\t\t{r}\t{g}\t{b}"),
        ("//X Y Z Rf Gf Bf R G B", "{x} {y} {z} 0.5 0.5 0.5 {r} {g} {b}"),
        ("Points:0,Points:1,Points:2,a,red,green,blue", "{x},{y},{z},0,{r},{g},{b}"),
        ("RGB:0,RGB:1,RGB:2,Points:0,Points:1,Points:2", "{r},{g},{b},{x},{y},{z}"),
        ("scalar_R;scalar_G;scalar_B;X;Y;Z;N", "{r};{g};{b};{x};{y};{z};7"),
    ],
)
def test_heading_names_the_columns(tmp_path, heading, form):
    assert_read(write_rows(tmp_path / "a.csv", form, heading + "\n"), "of the columns")


@pytest.mark.parametrize("heading", ["index,x,y,z\n", "\n"])
def test_numbered_points(tmp_path, heading):
    note = "of the columns" if heading.strip() else "column 1 numbers the points"
    assert_read(write_rows(tmp_path / "a.csv", "{n},{x},{y},{z}", heading), note, colors=False)


def test_columns_that_pandas_numbers(tmp_path):
    write_rows(tmp_path / "a.csv", "{x},{y},{z},{r},{g},{b}", "0,1,2,3,4,5\n")
    assert_read(tmp_path / "a.csv", "first line numbers the columns", "columns 4 to 6")
    write_rows(tmp_path / "b.csv", "{n},{x},{y},{z},{r},{g},{b}", ",0,1,2,3,4,5\n")
    assert_read(tmp_path / "b.csv", "column 1 numbers the points", "columns 4 to 6")


@pytest.mark.parametrize("suffix", [".txt", ".xyz", ".csv", ".asc", ".pts"])
@pytest.mark.parametrize(
    ("form", "note"),
    [
        ("{x} {y} {z} {r} {g} {b}", "columns 4 to 6"),
        ("{x} {y} {z} {i} {r} {g} {b}", "columns 5 to 7"),
        ("{x} {y} {z} {r} {g} {b} 0.25", "columns 4 to 6"),
        ("{x} {y} {z} {r} {g} {b} 0.1 0.9 -0.3", "columns 4 to 6"),
        ("{x} {y} {z} 0.1 0.9 -0.3 {r} {g} {b}", "columns 7 to 9"),
        ("{x} {y} {z} {r} {g} {b} 3 4", "columns 4 to 6"),
    ],
)
def test_columns_without_heading(tmp_path, suffix, form, note):
    assert_read(write_rows(tmp_path / f"a{suffix}", form), note)


@pytest.mark.parametrize("colors", [False, True])
def test_points_numbered_with_gaps(tmp_path, colors):
    path = tmp_path / "a.txt"
    numbers = np.random.default_rng(5).permutation(9)[:, None] * 37 + 12
    fixed = np.where(XYZ % 1, XYZ, XYZ + 0.25)
    np.savetxt(path, np.hstack([numbers, fixed, *([RGB] if colors else [])]), "%.12g")
    cloud = PointCloud.load(path)
    np.testing.assert_allclose(cloud.xyz, fixed, atol=1e-6)
    assert cloud.notes[0] == "column 1 numbers the points and was not read"
    assert (cloud.rgb is not None) == colors


@pytest.mark.parametrize("last", [np.arange(200) % 20, np.arange(200) + 7], ids=["label", "number"])
def test_a_last_column_that_is_no_colour_rejected(tmp_path, last):
    random = np.random.default_rng(6)
    points, colors = random.normal(size=(200, 3)).round(4), random.integers(0, 256, (200, 3))
    np.savetxt(tmp_path / "a.txt", np.hstack([points, colors, last[:, None]]), "%.12g")
    with pytest.raises(ValueError, match="several triples of its 7 columns can be colours"):
        PointCloud.load(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("{x} {y} {z} 0.60 0.64 0.48", "columns 4 to 6 .* from 0.48 to 0.64: normals"),
        ("{x} {y} {z} -0.60 0.64 0.48", "columns 4 to 6 .* normals"),
        ("{r} {g} {b} {x} {y} {z}", "columns 4 to 6 .* coordinates"),
        ("{x} {y} {z} {r} {g} {b} 255", "several triples of its 7 columns"),
        ("{x} {y} {z} 0.1 0.2 0.3 0.4", "none of its 7 columns"),
        ("{x} {y} {z} {i} {i} {i} {r} {g} {b}", "several triples of its 9 columns"),
        ("1,5,0,052,-0,7", "commas may belong to numbers"),
        ("{x} 1,5 {z};{r} {g} {b}", "commas may belong to numbers"),
        ("1,234.5 2,345.6 3,456.7", "commas may belong to numbers"),
    ],
)
def test_ambiguous_columns_rejected(tmp_path, form, message):
    with pytest.raises(ValueError, match=rf"a\.txt: .*{message}"):
        PointCloud.load(write_rows(tmp_path / "a.txt", form))


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("a b c d e f", "names no x, y and z: a, b, c, d, e, f"),
        ("x y z r g", "names 5 columns .x, y, z, r, g., its rows have 6"),
        ("//X Y Z R G B Scalar field", "names 8 columns"),
        ("x x y z g b", "several columns are called x: x, x, y, z, g, b"),
        ("a\n" * 21, "not a table of numbers: 'a'"),
        ("1.0x 2 3 4 5 6", "not a table of numbers: line 1 begins with '1.0x'"),
    ],
)
def test_heading_that_does_not_fit_rejected(tmp_path, heading, message):
    path = write_rows(tmp_path / "a.txt", "{x} {y} {z} {r} {g} {b}", heading + "\n")
    with pytest.raises(ValueError, match=rf"a\.txt: .*{message}"):
        PointCloud.load(path)


def test_very_wide_tables_rejected(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x " * 4097 + "\n" + "1 " * 4097)
    with pytest.raises(ValueError, match=r"a\.txt: it has 4097 columns, more than 4096"):
        PointCloud.load(path)
    np.savetxt(path, np.zeros((2, 33)))
    with pytest.raises(ValueError, match=r"a\.txt: no heading for its 33 columns; name the"):
        PointCloud.load(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**6,
        "(" * 10**6,
        " " * 10**6 + "x",
        "x " * 10**6,
        "# x y z a\n" * 10**5,
        "nan(" * 10**5,
    ],
    ids=["brackets", "parentheses", "blanks", "names", "comments", "nan"],
)
def test_long_lines_take_no_time(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text + "\n1 2 3\n")
    assert_handled(lambda: PointCloud.load(path), path)


def test_comments_are_free_text(tmp_path):
    comments = "# scan of x, y and z\n# Büro\n\n// by hand\nExported by Hand 3\n"
    path = write_rows(tmp_path / "a.txt", "{x} {y} {z} {r} {g} {b} # good", comments)
    assert_read(path, "columns 4 to 6")
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    assert_read(path, "columns 4 to 6")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
@pytest.mark.parametrize("heading", ["", "x y z r g b\n"])
def test_byte_order_mark(tmp_path, mark, encoding, heading):
    path = write_rows(tmp_path / "a.txt", "{x} {y} {z} {r} {g} {b}", heading)
    path.write_bytes(mark + path.read_text().encode(encoding))
    assert_read(path, *(() if heading else ("columns 4 to 6",)))


@pytest.mark.parametrize(
    "form",
    [
        "{x};{y};{z};{r};{g};{b}",
        "{x} {y} {z} {r} {g} {b}",
        "{x}\t{y}\t{z}\t{r}\t{g}\t{b}",
        '"{x}";"{y}";"{z}";"{r}";"{g}";"{b}"',
    ],
)
def test_decimal_commas(tmp_path, form):
    path = write_rows(tmp_path / "a.csv", form)
    path.write_text(path.read_text().replace(".", ","))
    assert_read(path, "commas were read as decimal points", "columns 4 to 6")


@pytest.mark.parametrize(
    "form",
    [
        "{x}, {y}, {z}, {r}, {g}, {b}",
        "{x} {y} {z}, {r} {g} {b}",
        "  {x}   {y} \t{z}  {r} {g} {b}",
        "{x},{y},{z},{r},{g},{b},",
        "{x};{y};{z};{r};{g};{b};",
        "{x}\t\t{y}\t{z}\t{r}\t{g}\t{b}",
    ],
)
def test_separators(tmp_path, form):
    path = write_rows(tmp_path / "a.txt", form)
    path.write_text("\n\n" + path.read_text().replace("\n", "\r\n\r\n"))
    assert_read(path, "columns 4 to 6")


def test_count_before_the_points(tmp_path):
    form = "{x} {y} {z} {i} {r} {g} {b}"
    assert_read(write_rows(tmp_path / "a.pts", form, "9\n"), "columns 5 to 7")
    announced = "the file announces 12 points and holds 9"
    assert_read(write_rows(tmp_path / "b.pts", form, "12\n"), announced, "columns 5 to 7")
    lines = write_rows(tmp_path / "c.pts", form).read_text().splitlines()
    (tmp_path / "c.pts").write_text("\n".join(["4", *lines[:4], "5", *lines[4:]]))
    assert_read(tmp_path / "c.pts", "columns 5 to 7")
    (tmp_path / "d.pts").write_text("\n".join([*lines, "1"]))
    with pytest.raises(ValueError, match=r"d\.pts: .*row 10 has 1 columns, the first 7: '1'"):
        PointCloud.load(tmp_path / "d.pts")
    (tmp_path / "e.pts").write_text("9\n")
    with pytest.raises(ValueError, match=r"e\.pts: needs 3 columns"):
        PointCloud.load(tmp_path / "e.pts")


def test_empty_columns_do_not_shift_the_others(tmp_path):
    path = write_rows(tmp_path / "a.csv", "{x},{y},{z},{r},{g},{b}")
    lines = path.read_text().splitlines()
    lines[4] = ",".join([*lines[4].split(",")[:3], "", "1", "2"])
    path.write_text("\n".join(lines))
    cloud = PointCloud.load(path)
    np.testing.assert_array_equal(cloud.rgb, np.delete(RGB, 4, axis=0))
    assert "1 of 9 points are NaN or infinite" in cloud.notes[-1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "-nan(ind)", "1.#QNAN", "-1.#IND00"])
@pytest.mark.parametrize("heading", ["", "x y z r g b\n"])
def test_points_without_position_are_left_out(tmp_path, text, heading):
    path = write_rows(tmp_path / "a.txt", "{x} {y} {z} {r} {g} {b}", heading)
    path.write_text(path.read_text() + f"{text} {text} {text} 1 2 3\n1 2 3 {text} 5 6\n")
    assert_read(
        path,
        *(() if heading else ("columns 4 to 6",)),
        "2 of 11 points are NaN or infinite: left out",
    )


def test_colours_of_other_ranges(tmp_path):
    path = tmp_path / "a.txt"
    np.savetxt(path, np.hstack([XYZ, RGB * 257]), "%.4f")
    assert_read(path, "columns 4 to 6", "16-bit colours (up to 65535) were divided by 257")
    np.savetxt(path, np.hstack([XYZ, RGB / 255]), header="x y z r g b")
    assert_read(path, "colours from 0 to 1 were multiplied by 255")
    np.savetxt(path, np.hstack([XYZ, RGB / 254]), header="x y z r g b")
    with pytest.raises(ValueError, match=r"to 1\.00394, which is neither 0 to 1 nor 0 to 255"):
        PointCloud.load(path)
    np.savetxt(path, np.hstack([XYZ, RGB + 45]), "%.4f")
    with pytest.raises(ValueError, match=r"0\.\.255, got .* to 300; divide 16-bit colours by 257"):
        PointCloud.load(path)


SEEDS = [
    b"x y z intensity r g b\n1.5 2.5 3.5 7 1 2 3\n4 5 6 8 40 50 60\n",
    b'"X","Y","Z","Red","Green","Blue"\n1.5,2.5,3.5,1,2,3\n-4,5,6,40,50,60\n',
    b"3\n1.5 2.5 3.5 7 1 2 3\n4 5 6 8 40 50 60\n7 8 9.5 1 2 255 9\n",
    b"\xef\xbb\xbf1,5;2,5;3,0;1;2;3\n4,5;5,5;6,0;40;50;60\n",
    b"//X Y Z R G B\n1.5 2.5 3.5 1 2 3\n4 5 6 40 50 nan\n",
    b"1.5\t2.5\t3.5\n4\t5\t6\n",
]


@pytest.mark.fuzz
@FUZZ
@given(content=mutate(SEEDS))
def test_broken_text_is_handled(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "broken.csv"
    path.write_bytes(content)
    assert_handled(lambda: PointCloud.load(path), path)
