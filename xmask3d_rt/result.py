"""What a run returns: labels and scores of every point, where they come from, and files of it."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.classes import ClassList
from xmask3d_rt.files import atomic_write
from xmask3d_rt.ply import write_labelled_ply
from xmask3d_rt.scene import PointCloud
from xmask3d_rt.version import __version__

SUFFIXES = (".ply", ".npz", ".json", ".png")
LEGEND_CLASSES = 40  # most frequent classes named in a picture


def check_output(path: str | os.PathLike[str]) -> Path:
    """The path, if `Result.save` can write there: asked before a long run, not after it.

    Raises:
        ValueError: a suffix without a format, or a folder.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot write a result to {target.name!r}; use one of the suffixes "
            f"{', '.join(SUFFIXES)}"
        )
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder; give a file name")
    return target


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
            label is copied from.
        heads: labels [N] int64 of each head: "fused" (equal to `labels`), "2d" (masks alone),
            "3d" (points alone); "3d" only where no view was used.
        coverage: [N] int32 number of views that saw each point.
        timings: seconds spent per stage.
        views: names of the views that voted.
        mode: "views" for given views, "virtual" for rendered ones, "3d" without any.
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
            ValueError: an array whose length is not the number of points.
        """
        wanted = {"labels": np.int64, "scores": np.float32, "coverage": np.int32}
        for name, dtype in wanted.items():
            self._set(name, self._check(name, getattr(self, name), dtype))
        heads = {k: self._check(f"heads[{k!r}]", v, np.int64) for k, v in self.heads.items()}
        self._set("heads", heads)

    def __len__(self) -> int:
        return len(self.labels)

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
            notes and the version of the package.
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
            "seen_share": round(float((self.coverage > 0).mean()), 6),
            "classes": rows,
            "timings": {stage: round(seconds, 6) for stage, seconds in self.timings.items()},
            "notes": list(self.notes),
            "version": __version__,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result in the format of the suffix; the file is whole or absent.

        `.ply`: every property, element and comment of the cloud's own PLY, vertex `label` and
        `score`, and the class colour as `red green blue`; colours that were there move to
        `orig_red orig_green orig_blue`. `.npz`: `labels`, `scores`, `coverage`,
        `head_fused` ..., `xyz`, `rgb`, `class_names`, `class_colors`. `.json`: points per class
        and timings (`summarize`). `.png`: a picture of the labelled cloud with a legend.

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
        }
        arrays |= {f"head_{name}": labels for name, labels in self.heads.items()}
        if self.cloud.rgb is not None:
            arrays["rgb"] = self.cloud.rgb
        with path.open("wb") as stream:  # given a name, savez would add its own suffix
            np.savez_compressed(stream, **arrays)

    def _save_json(self, path: Path) -> None:
        path.write_text(json.dumps(self.summarize(), indent=2, ensure_ascii=False) + "\n")

    def _save_png(self, path: Path) -> None:
        from PIL import Image

        from xmask3d_rt.preview import draw_legend, render_preview

        picture = render_preview(self.cloud.xyz, self.point_colors)
        present = np.argsort(-self.counts, kind="stable")[: np.count_nonzero(self.counts)]
        listed = present[:LEGEND_CLASSES]
        names = [self.classes[index] for index in listed]
        # Shares are of the whole cloud, so classes left out are a row of their own.
        counts = self.counts[listed].tolist()
        colors = self.colors[listed]
        if len(listed) < len(present):
            names.append(f"{len(present) - len(listed)} more")
            counts.append(len(self) - sum(counts))
            colors = np.vstack([colors, np.full((1, 3), 255, np.uint8)])
        Image.fromarray(draw_legend(picture, names, colors, counts)).save(path, "PNG")

    def _check(self, name: str, values: np.ndarray, dtype: type) -> np.ndarray:
        values = np.asarray(values)
        if values.shape != (len(self.cloud),):
            raise ValueError(
                f"Result: {name} must have shape [{len(self.cloud)}] like the points, "
                f"got {list(values.shape)}"
            )
        return values.astype(dtype, copy=False)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
