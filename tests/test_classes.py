"""Class lists: every way to write them, every way to get them wrong, colours, base and novel."""

import numpy as np
import pytest

from xmask3d_rt.classes import load_class_list, parse_classes, split_base_novel
from xmask3d_rt.config import ClassSplit, get_preset


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


@pytest.mark.parametrize("count", [1, 19, 400, 2000])
def test_generated_colours_are_distinct_and_stable(count):
    names = [f"thing {i}" for i in range(count)] + ["wall", "floor"]
    colors = parse_classes(names).colors
    assert colors.dtype == np.uint8
    assert len({tuple(color) for color in colors.tolist()}) == count + 2
    np.testing.assert_array_equal(colors, parse_classes(names).colors)


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
