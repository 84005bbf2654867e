"""Class lists: every way to write them, every way to get them wrong, colours, base and novel."""

import numpy as np
import pytest
from fuzzing import FUZZ, assert_clear, assert_handled, mutate
from hypothesis import given

from xmask3d_rt.classes import load_class_list, parse_classes, split_base_novel
from xmask3d_rt.config import ClassSplit, get_preset
from xmask3d_rt.viewing.class_colors import choose_colors

# Colours of 401 classes, places 0, 1, 2, 3, 200, 399 and 400, before there were more than 3,226.
RECORDED = [
    [178, 9, 9],
    [9, 178, 54],
    [49, 9, 178],
    [242, 240, 61],
    [9, 161, 178],
    [61, 164, 242],
    [174, 199, 232],
]


def test_names_and_synonyms():
    classes = parse_classes(["wall", ("chair", " arm   chair "), ["table"]])
    assert classes.names == (("wall",), ("chair", "arm chair"), ("table",))
    assert classes.titles == ["wall", "chair", "table"]
    assert classes.flat_names == ["wall", "chair", "arm chair", "table"]
    assert classes.name_class.tolist() == [0, 1, 1, 2]
    assert len(classes) == 3
    assert list(classes) == classes.titles
    assert classes[np.int64(2)] == "table"
    assert parse_classes(classes) is classes


def test_command_line_string():
    classes = parse_classes("wall, floor,chair;armchair ,table")
    assert classes.names == (("wall",), ("floor",), ("chair", "armchair"), ("table",))
    assert parse_classes("chair;armchair").names == (("chair", "armchair"),)
    assert parse_classes("potted plant").names == (("potted plant",),)


@pytest.mark.parametrize(("name", "count"), [("scannet20", 20), ("ScanNet200", 200), ("nyu40", 40)])
def test_lists_of_the_package(name, count):
    classes = parse_classes(name)
    assert len(classes) == count
    assert classes.titles[0] == "wall"
    assert len({tuple(color) for color in classes.colors.tolist()}) == count


def test_preset_names_its_benchmark():
    assert parse_classes("b15n4").titles == list(get_preset("b15n4").split.names)


def test_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("# my room\nwall\n\nchair; armchair   # seats\n")
    for source in (path, str(path)):
        assert parse_classes(source).names == (("wall",), ("chair", "armchair"))


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ([], ValueError, "run: no classes"),
        ("", ValueError, "run: no classes"),
        ("  ", ValueError, "run: no classes"),
        (["wall", " "], ValueError, "class 1 has a blank name"),
        ("wall,,floor", ValueError, "class 1 has a blank name"),
        ("wall,floor,", ValueError, "class 2 has a blank name"),
        (["wall", []], ValueError, "class 1 has a blank name"),
        (["wall", "Wall "], ValueError, "duplicate class name 'Wall' in classes 0 and 1"),
        ("chair;seat,table,SEAT", ValueError, "'SEAT' in classes 0 and 2"),
        ([["chair", "chair"]], ValueError, "class 0 lists a name twice"),
        (["wall", 3], TypeError, "class 1 must be a name"),
        ([["wall", None]], TypeError, "not a string: None"),
        (7, TypeError, "classes must be names, got int"),
        ("scannet21", ValueError, "unknown class list 'scannet21'; known lists: scannet20, "),
        ("scanet", ValueError, "unknown class list 'scanet'"),
        ("nowhere/classes.txt", FileNotFoundError, "no class file nowhere/classes.txt"),
    ],
)
def test_bad_classes_rejected(classes, error, message):
    with pytest.raises(error, match=message):
        parse_classes(classes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.txt", b"wall\r\nfloor\r\nchair;seat\r\n"),
        ("bom.txt", b"\xef\xbb\xbfwall\nfloor\nchair;seat"),
        ("utf16.txt", "wall\nfloor\nchair;seat".encode("utf-16")),
        ("quoted.txt", b'"wall"\n\'floor\'\nchair;"seat"'),
        ("commas.txt", b"wall,\nfloor,\nchair;seat"),
        ("quoted_commas.txt", b'"wall",\n"floor",\n"chair;seat",\n'),
        ("row.txt", b"wall, floor, chair;seat\n"),
        ("quoted_row.txt", b"'wall', \"floor\", chair;seat\n"),
        ("numbered.txt", b"0 wall\n1 floor\n2 chair;seat\n"),
        ("from_one.txt", b"1 wall\n2 floor\n39 chair;seat\n"),
        ("dots.txt", b"1. wall\n2. floor\n10. chair;seat\n"),
        ("tight_dots.txt", b"1.wall\n2.floor\n3.chair;seat\n"),
        ("letters.txt", b"a) wall\nb) floor\nc) chair;seat\n"),
        ("capitals.txt", b"A. wall\nB. floor\nC. chair;seat\n"),
        ("roman.txt", b"(i) wall\n(ii) floor\n(iii) chair;seat\n"),
        ("wide_dots.txt", "１．wall\n２．floor\n３．chair;seat\n".encode()),
        ("numbered_row.txt", b"1. wall, 2. floor, 3. chair;seat\n"),
        ("lettered_row.txt", b"a) wall, b) floor, c) chair;seat\n"),
        ("brackets.txt", b"1) wall\n2) floor\n3) chair;seat\n"),
        ("colons.txt", b"7: wall\n3: floor\n255: chair;seat\n"),
        ("tabs.txt", b"0\twall\n1\tfloor\n2\tchair;seat\n"),
        ("pairs.csv", b"1,wall\n2,floor\n5,chair;seat\n"),
        ("table.csv", b"id,name\n1,wall\n2,floor\n5,chair;seat\n"),
        ("wide.csv", b"Class,R,G,B\nwall,1,2,3\nfloor,0,0,0\nchair;seat,1,1,1\n"),
        ("two.csv", b"id,name,group\n1,wall,a\n2,floor,a\n5,chair;seat,b\n"),
        ("column.csv", b"name\nwall\nfloor\nchair;seat\n"),
        ("table.tsv", b"id\tclass name\n1\twall\n2\tfloor\n5\tchair;seat\n"),
        ("list.json", b'["wall", "floor", ["chair", "seat"]]'),
        ("nested.json", b'{"version": 1, "classes": ["wall", "floor", ["chair", "seat"]]}'),
        ("list.yaml", b"- wall\n- floor\n- chair;seat\n"),
        ("names.yaml", b"---\nnames:\n  - wall  # painted\n  - 'floor'\n  - chair;seat\n"),
        ("yolo.yaml", b"names:\n  0: wall\n  1: floor\n  2: chair;seat\n"),
        ("flow.yaml", b"classes: [wall, 'floor', \"chair;seat\"]\n"),
        ("python.txt", b"['wall', 'floor', 'chair;seat']"),
    ],
)
def test_files_of_every_form(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert parse_classes(tmp_path / name).names == (("wall",), ("floor",), ("chair", "seat"))


@pytest.mark.parametrize(
    ("content", "titles"),
    [
        ('[{"id": 4, "name": "wall"}, {"id": 2, "name": "floor"}]', ["wall", "floor"]),
        ('{"categories": [{"id": 4, "name": "wall"}]}', ["wall"]),
        ('{"10": "wall", "9": "floor"}', ["floor", "wall"]),
        ('{"wall": 1, "floor": 0}', ["floor", "wall"]),
        ("3d printer\n2 seater sofa\n", ["3d printer", "2 seater sofa"]),
        ("wall\n2 seater sofa\n", ["wall", "2 seater sofa"]),
        ("2 seater sofa", ["2 seater sofa"]),
        ("lamp 1\nlamp 2", ["lamp 1", "lamp 2"]),
        ("t. rex\ne. coli", ["t. rex", "e. coli"]),
        ('"a) wall", "b) floor"', ["a) wall", "b) floor"]),
        ('"a) wall b) floor"', ["a) wall b) floor"]),
        ("2 seater, 3 seater", ["2 seater", "3 seater"]),
        ("label\nbottle", ["label", "bottle"]),
        ("5\" pipe\nchild's bed", ['5" pipe', "child's bed"]),
        ("'chest, painted'\nwall", ["chest, painted", "wall"]),
    ],
)
def test_other_contents(tmp_path, content, titles):
    (tmp_path / "classes").write_text(content)
    assert parse_classes(tmp_path / "classes").titles == titles


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"canap\xe9\nmur\n", r"is not UTF-8 text \(byte 0xe9 in line 1; Latin-1"),
        (b"\x00\x01\x02wall\n", "control character U\\+0000"),
        (b"\xffPNG", "is not UTF-8 text"),
        (b'["wall", "floor"', "starts like JSON but is not"),
        (b"[" * 100_000, "starts like JSON but is not"),
        (b'{"wall": {"id": 1}}', "this JSON is no list of names"),
        (b'["wall", 3]', "this JSON is no list of names"),
        (b"- wall\nfloor\n", "some lines start with a bullet, others do not"),
        (b"- name: wall\n- name: floor\n", "'name: wall' starts with a key"),
        (b"train: x\nnames:\n  0: wall\n", "'train: x' starts with a key"),
        (b"2 seater sofa\n3 door wardrobe\n", "every line starts with a number"),
        (b"1 wall\n1 floor\n", "every line starts with a number"),
        (b"a) wall\nc) floor\n", "every line starts with a letter .'a. wall'."),
        (b"a) wall b) floor\n", "'a. wall b. floor' is one name that reads like a list"),
        (b"1. wall 2. floor\n", "'1. wall 2. floor' is one name that reads like a list"),
        (b"wall 0\nfloor 1\n", "every line ends with a number"),
        (b"wall, floor\nchair, table\n", "looks like a table with 2 columns of text"),
        (b"wall\nchair, armchair\n", "class 2 .'chair, armchair'. holds a comma; write one class"),
        (b"wall\nchair\tseat\n", "holds a tab"),
        (b"1,2\n3,4\n", "looks like a table with 0 columns of text"),
        (b"wall\nfloor\nwall\n", "duplicate class name 'wall' in classes 0 and 2"),
        (b"x" * 2000, "has a name of 2,000 characters .*1,000 at most"),
    ],
)
def test_unclear_files_rejected(tmp_path, content, message):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"classes\.txt.*{message}") as error:
        parse_classes(path)
    assert_clear(error.value, path)


def test_lines_of_an_option():
    expected = (("wall",), ("floor",), ("chair", "seat"))
    for text in (
        "wall\nfloor\nchair;seat",
        "\nwall\r\n\r\nfloor\r\nchair;seat\n",
        "wall,\nfloor,\nchair;seat,\n",
        "wall, floor,\n  chair;seat",
        "- wall\n- floor\n- chair;seat",
        "0 wall\n1 floor\n2 chair;seat",
        '["wall", "floor", ["chair", "seat"]]',
        "'wall',\"floor\",chair;seat",
    ):
        assert parse_classes(text).names == expected, text


@pytest.mark.parametrize(
    "name", ["3d printer", "7up", "wd40", "ps5", "tin", "iphone 15", "2x4", "a.b", "st. bernard"]
)
def test_single_names_with_digits(name):
    assert parse_classes(name).titles == [name]
    assert parse_classes([name]).titles == [name]


@pytest.mark.parametrize(
    "name",
    [
        *("classes.json", "missing.csv", "LIST.YAML", "a\\b", "my classes.txt", "dir/list"),
        *("wall,classes.txt", "~/x"),
    ],
)
def test_path_without_a_file_rejected(name):
    with pytest.raises(FileNotFoundError, match="--classes: no class file"):
        parse_classes(name, "--classes")


def test_path_object_without_a_file_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such class file"):
        parse_classes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is no file; give a file"):
        parse_classes(tmp_path)


@pytest.mark.parametrize(
    "char", ["\0", "\x1b", "\x7f", "\x9b", "\ud800", "\ufeff", "\u200b", "\u202e"]
)
def test_control_characters_rejected(char):
    message = rf"class 1 has a name with the control character U\+{ord(char):04X}: 'ch.*air'"
    for classes in (["wall", f"ch{char}air"], f"wall,ch{char}air", f"wall\nch{char}air"):
        with pytest.raises(ValueError, match=message) as error:
            parse_classes(classes)
        assert_clear(error.value)


def test_joiners_and_spaces_are_text():
    names = ["\u0645\u06cc\u200c\u0632", "\u0915\u094d\u200d\u0937"]
    assert parse_classes(names).titles == names
    assert parse_classes(["potted\u00a0plant\u2028x"]).titles == ["potted plant x"]


def test_empty_file_rejected(tmp_path):
    (tmp_path / "none.txt").write_text("# nothing\n\n")
    with pytest.raises(ValueError, match="holds no classes"):
        parse_classes(tmp_path / "none.txt")


def test_unknown_list_rejected():
    with pytest.raises(ValueError, match="known lists: scannet20, scannet200, nyu40"):
        load_class_list("ade20k")


def test_colours_are_scannets_where_known():
    classes = parse_classes(["robot arm", ["seat cover", "Chair"], "wall"])
    known = dict(load_class_list("scannet20"))
    assert tuple(classes.colors[1]) == known["chair"]
    assert tuple(classes.colors[2]) == known["wall"]
    assert tuple(classes.colors[0]) not in known.values()


@pytest.mark.parametrize("count", [1, 19, 400, 2000, 3300, 100_000])
def test_generated_colours_are_distinct_and_stable(count):
    names = [f"thing {i}" for i in range(count)] + ["wall", "floor"]
    colors = parse_classes(names).colors
    assert colors.dtype == np.uint8
    assert len({tuple(color) for color in colors.tolist()}) == count + 2
    np.testing.assert_array_equal(colors, parse_classes(names).colors)


def test_generated_colours_stay_what_they_were():
    colors = parse_classes([f"thing {i}" for i in range(400)] + ["wall"]).colors
    assert colors[[0, 1, 2, 3, 200, 399, 400]].tolist() == RECORDED


def test_more_classes_than_colours_rejected():
    with pytest.raises(ValueError, match="16777217 classes; there are 16777216 distinct colours"):
        choose_colors([None] * (2**24 + 1))


def test_few_generated_colours_lie_far_apart():
    colors = parse_classes([f"thing {i}" for i in range(12)]).colors.astype(int)
    gaps = np.abs(colors[:, None] - colors[None]).sum(axis=-1)
    assert gaps[~np.eye(12, dtype=bool)].min() > 90


def test_base_and_novel():
    split = ClassSplit(names=("wall", "shower curtain", "sink"), novel=(2,))
    classes = parse_classes(["Sink", ["barrier", "WALL"], "shower  curtain", "lamp"])
    assert split_base_novel(classes, split).tolist() == [False, True, True, False]


def test_benchmark_split():
    config = get_preset("b12n7")
    is_base = split_base_novel(parse_classes("b12n7"), config.split)
    assert np.flatnonzero(~is_base).tolist() == sorted(config.split.novel)


FILES = {
    "txt": (
        b'# my room\nwall\n\nchair; armchair   # seats\n"coffee table"\n',
        b"0 wall\n1 floor\n2 chair;seat\n",
        b"names:\n  - wall\n  - 'floor'\n",
        "\ufeffstół\nкресло\n椅子\n".encode(),
    ),
    "json": (
        b'["wall", "floor", ["chair", "seat"]]',
        b'{"classes": [{"name": "wall", "id": 1}, {"name": "floor", "id": 2}]}',
        b'{"0": "wall", "1": "floor"}',
    ),
    "csv": (
        b"id,name\n1,wall\n2,floor\n",
        b'name,r,g,b\n"wall",1,2,3\nfloor,4,5,6\n',
        b"1;wall\n2;floor\n",
    ),
}


@pytest.mark.fuzz
@pytest.mark.parametrize("suffix", FILES)
def test_broken_class_files(tmp_path, suffix):
    path = tmp_path / f"classes.{suffix}"

    @FUZZ
    @given(mutate(FILES[suffix]))
    def check(content):
        path.write_bytes(content)
        check_names(assert_handled(lambda: parse_classes(path), path))

    check()


@pytest.mark.fuzz
@FUZZ
@given(mutate([b"wall,floor,chair;armchair", b"3d printer", b"scannet20", b"a\nb\nc", b"x/y.txt"]))
def test_broken_class_strings(content):
    text = content.decode(errors="surrogateescape")
    check_names(assert_handled(lambda: parse_classes(text)))


def check_names(classes):
    """Names of classes are text of one line that a JSON file can hold."""
    for name in [] if classes is None else classes.flat_names:
        assert name == " ".join(name.split())
        assert "\ufeff" not in name
        name.encode()


@pytest.mark.parametrize("text", ["'wall, white',floor", '"wall, white", floor'])
def test_quoted_names_on_the_command_line_may_hold_commas(text):
    assert parse_classes(text).titles == ["wall, white", "floor"]


@pytest.mark.parametrize("mark", ["|", "，", "、", "；"])
def test_other_separators_do_not_make_one_class(mark):
    with pytest.raises(ValueError, match=rf"is one name with '\{mark}'; write ',' between classes"):
        parse_classes(f"wall{mark}floor")
    assert parse_classes(f"'wall{mark}floor'").titles == [f"wall{mark}floor"]


@pytest.mark.parametrize("classes", [{"wall", "floor"}, {"sofa": ["couch"]}, frozenset(["wall"])])
def test_names_without_order_rejected(classes):
    with pytest.raises(TypeError, match="run: classes must be names in an order, got"):
        parse_classes(classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wall 255 0 0\nfloor 0 255 0", "every line ends with a number"),
        ("wall=0\nfloor=1", "every line ends with a number"),
        ("wall|0\nfloor|1", "every line ends with a number"),
        ('{"0": "wall", "0": "floor"}', "key '0' is there twice"),
    ],
)
def test_files_that_are_no_plain_list_rejected(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_classes(tmp_path / "a.txt")


def test_dashes_of_any_length_are_bullets(tmp_path):
    (tmp_path / "a.txt").write_text("– wall\n— floor", encoding="utf-8")
    assert parse_classes(tmp_path / "a.txt").titles == ["wall", "floor"]
