"""What a run returns: labels and scores of every point, where they come from, and files of it."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmask3d_rt.arrays import check_finite, to_numpy
from xmask3d_rt.classes import ClassList, parse_classes
from xmask3d_rt.errors import one_line
from xmask3d_rt.files import atomic_write, check_target
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.ply import write_labelled_ply
from xmask3d_rt.scene.result_files import HEAD_PREFIX, describe_run, read_result
from xmask3d_rt.text.other_class import DEFAULT_TITLE, append_class, check_min_score
from xmask3d_rt.version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from xmask3d_rt.viewing.legend import LegendRow

SUFFIXES = (".ply", ".npz", ".json", ".png")
COVERAGE = (-1, np.iinfo(np.int32).max)
LEGEND_CLASSES = 40  # most frequent classes named in a picture
REPR_CLASSES = 4
HTML_PANEL = (330, 440)  # rows, columns of a picture in a notebook
PNG_LEVEL = 3  # twice as fast as PIL's 6, a tenth larger
SOURCES = {
    "views": "from {} views",
    "virtual": "from {} rendered views",
    "3d": "by the 3D head alone",
}


def check_output(path: str | os.PathLike[str]) -> Path:
    """The path, if `Result.save` can write there: asked before a long run, not after it.

    Raises:
        ValueError: a suffix without a format, or a folder.
        OSError: no file can be made there.
    """
    target = Path(path)
    check_suffix(target.suffix, target.name)
    check_target(target)
    return target


def check_suffix(suffix: str, name: str = "") -> None:
    """Refuse a suffix that is no format of results.

    Raises:
        ValueError: its message has the name of the file, or else the suffix.
    """
    if suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot write a result to {name or suffix!r}; use one of the suffixes "
            f"{', '.join(SUFFIXES)}"
        )


@dataclass(frozen=True, eq=False)
class Result:
    """Labels of a cloud.

    Attributes:
        cloud: the labelled points.
        classes: what labels index; `classes[label]` is a class's first name.
        labels: [N] int64 class of every point.
        scores: [N] float32 in [0, 1]: softmax probability of the label among the classes the
            point may take, summed over the views that voted for it and divided by the number of
            views that saw the point. A point that no view saw has the score of the point its
            label is copied from; a point of the class that `min_score` makes has that of the
            class it would have had.
        heads: labels [N] int64 of each head: "fused" (equal to `labels`), "2d" (masks alone),
            "3d" (points alone); "3d" only where no view was used.
        coverage: [N] int32 number of views that saw each point; -1 where a file does not say.
        timings: seconds spent per stage.
        views: names of the views that voted.
        mode: "views" for given views, "virtual" for rendered ones, "3d" without any, "unknown"
            where a file does not say.
        notes: what a user should know about this run, one sentence each.
    """

    cloud: PointCloud
    classes: ClassList
    labels: np.ndarray  # [N] int64
    scores: np.ndarray  # [N] float32
    heads: dict[str, np.ndarray]  # name → [N] int64
    coverage: np.ndarray  # [N] int32
    timings: dict[str, float] = field(default_factory=dict)
    views: tuple[str, ...] = ()
    mode: str = "views"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Bring the arrays to their dtypes.

        Raises:
            ValueError: an array whose length is not the number of points, labels that are no whole
                numbers of classes, or scores that are NaN or infinite.
            TypeError: an array that holds no numbers.
        """
        last = len(self.classes) - 1
        self._set("labels", self._check_whole("labels", self.labels, np.int64, (0, last)))
        self._set("coverage", self._check_whole("coverage", self.coverage, np.int32, COVERAGE))
        scores = self._check("scores", self.scores)
        if scores.size:
            check_finite(scores, "Result: scores")
        self._set("scores", scores.astype(np.float32, copy=False))
        heads = {
            str(k): self._check_whole(f"heads[{k!r}]", v, np.int64, (0, last))
            for k, v in self.heads.items()
        }
        self._set("heads", heads)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        order = self._order_classes()
        parts = [f"{self.classes[i]} {self._share(i):.0%}" for i in order[:REPR_CLASSES]]
        if len(order) > REPR_CLASSES:
            parts.append(f"{len(order) - REPR_CLASSES} more")
        return f"Result({self.describe()}: {', '.join(parts)})"

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from xmask3d_rt.viewing.html import render_html

        panels = self.draw_panels(HTML_PANEL)
        return render_html(self.describe(), panels, self.summarize()["classes"], self.notes)

    def describe(self) -> str:
        """The run in a few words: "150,995 points, 19 classes, from 4 views"."""
        source = SOURCES.get(self.mode, "").format(len(self.views))
        count = len(self.classes)
        parts = [f"{len(self):,} points", f"{count} class{'es' if count > 1 else ''}", source]
        return ", ".join(part for part in parts if part)

    @property
    def colors(self) -> np.ndarray:
        """Colour of every class, [C, 3] uint8."""
        return self.classes.colors

    @property
    def point_colors(self) -> np.ndarray:
        """Colour of every point's class, [N, 3] uint8."""
        return self.classes.colors[self.labels]

    @cached_property
    def counts(self) -> np.ndarray:
        """Points per class, [C] int64."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def summarize(self) -> dict[str, Any]:
        """The run in plain values: what `save("….json")` writes.

        Returns:
            Points, mode, views, share of points a view saw, per class its names, colour, points,
            share of the points and mean score (None where it has no point), seconds per stage,
            notes and the version of the package. The share of seen points is None where a file
            did not say.
        """
        total = np.bincount(self.labels, weights=self.scores, minlength=len(self.classes))
        rows = [
            {
                "label": index,
                "names": list(names),
                "color": self.colors[index].tolist(),
                "points": int(count),
                "share": round(int(count) / len(self), 6),
                "mean_score": round(float(total[index]) / int(count), 6) if count else None,
            }
            for index, (names, count) in enumerate(
                zip(self.classes.names, self.counts, strict=True)
            )
        ]
        return {
            "points": len(self),
            "mode": self.mode,
            "views": list(self.views),
            "seen_share": self._seen_share(),
            "classes": rows,
            "timings": {stage: round(seconds, 6) for stage, seconds in self.timings.items()},
            "notes": list(self.notes),
            "version": __version__,
        }

    def points_of(self, name: str) -> np.ndarray:
        """Indices of the points of a class, ascending: `result.cloud.xyz[result.points_of("bed")]`.

        Args:
            name: one of the names of the class; case does not count.

        Returns:
            [n] int64.

        Raises:
            ValueError: no class has that name.
        """
        index = self.classes.find(name) if isinstance(name, str) else None
        if index is None:
            known = one_line("; ".join(",".join(names) for names in self.classes.names))
            raise ValueError(f"points_of: no class {name!r}; the classes are {known}")
        return np.flatnonzero(self.labels == index)

    def apply_min_score(self, min_score: float, other: str = DEFAULT_TITLE) -> "Result":
        """The result with uncertain points in a class of their own; scores stay as they are.

        Args:
            min_score: points of a lower score lose their class.
            other: the class they go to; it is added where no class has this name.

        Returns:
            The new result; `labels` and the head they come from change, and a note says so.

        Raises:
            ValueError: a score outside [0, 1], or a name that no class may have.
            TypeError: a name that is no string.
        """
        if not isinstance(other, str):
            raise TypeError(f"apply_min_score: other must be a name, got {type(other).__name__}")
        other = parse_classes([other], "apply_min_score: other")[0]
        least = check_min_score(min_score, "apply_min_score")
        index = self.classes.find(other)
        classes = append_class(self.classes, other) if index is None else self.classes
        target = len(self.classes) if index is None else index
        uncertain = self.scores < least
        labels = np.where(uncertain, target, self.labels)
        head = "fused" if "fused" in self.heads else "3d"
        heads = {**self.heads, head: labels} if head in self.heads else self.heads
        note = (
            f"{int(uncertain.sum()):,} points score below {least:g} and are of class "
            f"{classes[target]!r}"
        )
        notes = (*self.notes, note)
        return replace(self, classes=classes, labels=labels, heads=heads, notes=notes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Result":
        """Read a result that `save` wrote as .npz or .ply.

        An .npz gives everything back but the further properties of the cloud's own PLY file. A
        .ply gives those too, but of the run labels and scores alone: no heads, no coverage
        (-1), the first name of every class.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another suffix, a damaged file, or none that `save` wrote.
        """
        return cls(**read_result(Path(path)))

    def draw_panels(
        self, size: tuple[int, int], others: Mapping[str, np.ndarray] | None = None
    ) -> list[tuple[str, np.ndarray]]:
        """Captions and pictures [H, W, 3] of the cloud, first in its colours if it has any.

        Args:
            size: (rows, columns) of each.
            others: by caption, further labels [N] of the same points and classes.
        """
        from xmask3d_rt.viewing.preview import render_previews

        colorings = {"labels": self.point_colors}
        if self.cloud.rgb is not None:
            colorings = {"colours": self.cloud.rgb} | colorings
        for caption, labels in (others or {}).items():
            colorings[caption] = self.colors[labels]
        images = render_previews(self.cloud.xyz, list(colorings.values()), size)
        return list(zip(colorings, images, strict=True))

    def picture(self) -> "Image.Image":
        """The cloud in its colours beside its labels, with a legend: what "….png" holds."""
        from xmask3d_rt.viewing.picture import PANEL, draw_picture

        return draw_picture(self.describe(), self.draw_panels(PANEL), self.list_rows())

    def show(self) -> None:
        """Show the picture: in a notebook below the cell, else in the system's viewer.

        Raises:
            OSError: there is no viewer.
        """
        picture = self.picture()
        # Only notebooks have loaded it; asking would import it.
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if hasattr(shell, "kernel"):
            from IPython.display import display

            display(picture)
            return
        from PIL import ImageShow

        if not ImageShow.show(picture, "xmask3d"):
            raise OSError("show: no program to view pictures was found; use result.save('….png')")

    def to_open3d(self) -> Any:
        """The points in the colours of their classes, as `open3d.geometry.PointCloud`.

        Raises:
            ImportError: Open3D is not installed.
        """
        try:
            import open3d
        except ImportError as error:
            raise ImportError("to_open3d needs Open3D; pip install open3d") from error
        cloud = open3d.geometry.PointCloud()
        cloud.points = open3d.utility.Vector3dVector(self.cloud.xyz.astype(np.float64))
        cloud.colors = open3d.utility.Vector3dVector(self.point_colors / 255)
        return cloud

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result in the format of the suffix; the file is whole or absent.

        `.ply`: every property, element and comment of the cloud's own PLY, vertex `label` and
        `score`, and the class colour as `red green blue`; colours that were there move to
        `orig_red orig_green orig_blue`. `.npz`: `labels`, `scores`, `coverage`,
        `head_fused` ..., `xyz`, `rgb`, `class_names`, `class_colors`, and `run`, a JSON string
        of what else there is. `.json`: points per class and timings (`summarize`). `.png`: the
        cloud in its colours beside its labels, with a legend (`picture`).

        Args:
            path: file to write; missing folders are made.

        Returns:
            The path.

        Raises:
            ValueError: another suffix, or `path` is a folder.
        """
        target = check_output(path)
        writers: dict[str, Callable[[Path], None]] = {
            ".ply": self._save_ply,
            ".npz": self._save_npz,
            ".json": self._save_json,
            ".png": self._save_png,
        }
        with atomic_write(target) as temporary:
            writers[target.suffix.lower()](temporary)
        return target

    def _save_ply(self, path: Path) -> None:
        write_labelled_ply(
            path,
            self.cloud.xyz,
            self.cloud.rgb,
            self.cloud.source,
            self.labels,
            self.scores,
            self.point_colors,
            self.classes.titles,
        )

    def _save_npz(self, path: Path) -> None:
        arrays: dict[str, Any] = {
            "labels": self.labels,
            "scores": self.scores,
            "coverage": self.coverage,
            "xyz": self.cloud.xyz,
            "class_names": np.array([";".join(names) for names in self.classes.names]),
            "class_colors": self.colors,
            "run": describe_run(
                {
                    "class_names": self.classes.names,
                    "timings": self.timings,
                    "views": self.views,
                    "mode": self.mode,
                    "notes": self.notes,
                }
            ),
        }
        arrays |= {HEAD_PREFIX + name: labels for name, labels in self.heads.items()}
        if self.cloud.rgb is not None:
            arrays["rgb"] = self.cloud.rgb
        with path.open("wb") as stream:  # given a name, savez would add its own suffix
            np.savez_compressed(stream, **arrays)

    def _save_json(self, path: Path) -> None:
        path.write_text(
            json.dumps(self.summarize(), indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # half a character becomes its escape in JSON
        )

    def _save_png(self, path: Path) -> None:
        self.picture().save(path, "PNG", compress_level=PNG_LEVEL)

    def list_rows(self) -> "list[LegendRow]":
        """Rows of a legend, the most frequent class first."""
        from xmask3d_rt.viewing.legend import list_rows

        order = self._order_classes()
        names = [self.classes[index] for index in order]
        return list_rows(names, self.colors[order], self.counts[order], LEGEND_CLASSES)

    def _order_classes(self) -> np.ndarray:
        """Classes that have points, the most frequent first."""
        return np.argsort(-self.counts, kind="stable")[: np.count_nonzero(self.counts)]

    def _share(self, index: int) -> float:
        """Share of the points that are of a class."""
        return int(self.counts[index]) / len(self)

    def _seen_share(self) -> float | None:
        """Share of the points that a view saw; None where that is not known."""
        if (self.coverage < 0).any():
            return None
        return round(float((self.coverage > 0).mean()), 6)

    def _check_whole(
        self, name: str, values: np.ndarray, dtype: type, limits: tuple[int, int]
    ) -> np.ndarray:
        """Whole numbers within limits, whatever their type."""
        numbers = self._check(name, values)
        bad = ~((numbers >= limits[0]) & (numbers <= limits[1]) & (numbers == np.rint(numbers)))
        if bad.any():
            raise ValueError(
                f"Result: {name} must be whole numbers from {limits[0]} to {limits[1]}, got "
                f"{numbers[bad][0]:g}"
            )
        return numbers.astype(dtype, copy=False)

    def _check(self, name: str, values: np.ndarray) -> np.ndarray:
        values = to_numpy(values, f"Result: {name}")
        if values.shape != (len(self.cloud),):
            raise ValueError(
                f"Result: {name} must have shape [{len(self.cloud)}] like the points, "
                f"got {list(values.shape)}"
            )
        return values

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
