"""Results read back from the files that `Result.save` writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.arrays import ArrayFile, read_arrays
from xmask3d_rt.classes import ClassList, parse_classes
from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.cloud import PointCloud

HEAD_PREFIX = "head_"
CLASS_COMMENT = "xmask3d class "
UNKNOWN = -1  # coverage, in a file that does not say


def read_result(path: Path) -> dict[str, Any]:
    """The fields of a `Result` in a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix than .npz and .ply, a damaged file, or none that `Result.save`
            wrote; the message names it.
    """
    readers = {".npz": _read_npz, ".ply": _read_ply}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"cannot load a result from {path.name!r}; .npz holds all of it, .ply labels and scores"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no result file {one_line(path)}")
    try:
        fields = readers[path.suffix.lower()](path)
        _check_labels(fields)
    except (ValueError, TypeError, KeyError) as error:
        said = one_line(error)
        name = one_line(path)
        raise ValueError(said if name in said else f"{name} is no result: {said}") from error
    return fields


def describe_run(fields: dict[str, Any]) -> np.ndarray:
    """What an .npz holds beside arrays, as JSON in an array of one string."""
    return np.array(json.dumps(fields))


def _read_npz(path: Path) -> dict[str, Any]:
    arrays = read_arrays(path)
    run = _parse_run(arrays) if "run" in arrays else {}
    names = run.get("class_names") or [str(n).split(";") for n in arrays["class_names"]]
    colors = arrays["class_colors"]
    parsed = parse_classes(names, "Result.load")
    if colors.shape != (len(parsed), 3) or colors.dtype != np.uint8:
        raise ValueError(f"class_colors must be uint8 [{len(parsed)}, 3], got {colors.shape}")
    heads = {
        name.removeprefix(HEAD_PREFIX): labels
        for name, labels in arrays.items()
        if name.startswith(HEAD_PREFIX)
    }
    return {
        "cloud": PointCloud(arrays["xyz"], arrays.get("rgb")),
        "classes": ClassList(parsed.names, colors),
        "labels": arrays["labels"],
        "scores": arrays["scores"],
        "heads": heads,
        "coverage": arrays["coverage"],
        "timings": {str(stage): float(t) for stage, t in run.get("timings", {}).items()},
        "views": tuple(map(str, run.get("views", ()))),
        "mode": str(run.get("mode", "unknown")),
        "notes": tuple(map(str, run.get("notes", ()))),
    }


def _parse_run(arrays: ArrayFile) -> dict[str, Any]:
    """The JSON of `describe_run`."""
    run = json.loads(str(arrays["run"]))
    wanted = {"class_names": list, "timings": dict, "views": list, "notes": list}
    for name, kind in wanted.items():
        if not isinstance(run, dict) or not isinstance(run.get(name), kind):
            raise ValueError(f"its run has no {kind.__name__} {name}")
    return run


def _read_ply(path: Path) -> dict[str, Any]:
    cloud = PointCloud.load(path)
    vertex = cloud.source.vertex.numbers
    comments = [line for line in cloud.source.comments if line.startswith(CLASS_COMMENT)]
    if not comments or not {"label", "score"} <= vertex.keys():
        raise ValueError("it has no labels of this package; load it with PointCloud.load")
    # "xmask3d class 3 \"table\""
    titles = [json.loads(line.removeprefix(CLASS_COMMENT).split(" ", 1)[1]) for line in comments]
    classes = parse_classes([[title] for title in titles], "Result.load")
    labels = np.asarray(vertex["label"])
    if not {"red", "green", "blue"} <= vertex.keys():
        raise ValueError("it has no colours of classes")
    present, first = np.unique(labels, return_index=True)
    colors = classes.colors.copy()
    if len(present) and present[0] >= 0 and present[-1] < len(colors):
        colors[present] = np.stack([vertex[name][first] for name in ("red", "green", "blue")], 1)
    return {
        "cloud": cloud,
        "classes": ClassList(classes.names, colors),
        "labels": labels,
        "scores": vertex["score"],
        "heads": {},
        "coverage": np.full(len(cloud), UNKNOWN),
        "mode": "unknown",
        "notes": ("read from a PLY file, which holds labels and scores alone",),
    }


def _check_labels(fields: dict[str, Any]) -> None:
    """Labels are whole numbers of classes."""
    count = len(fields["classes"])
    for name, labels in {"labels": fields["labels"], **fields["heads"]}.items():
        if labels.dtype.kind not in "iu" or (
            labels.size and not (labels.min() >= 0 and labels.max() < count)
        ):
            raise ValueError(f"{name} must be whole numbers from 0 to {count - 1}")
    for name, kinds in {"scores": "f", "coverage": "iu"}.items():
        if fields[name].dtype.kind not in kinds:
            raise ValueError(f"{name} must be numbers, got {fields[name].dtype}")
