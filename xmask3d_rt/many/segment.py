"""Labelling many scenes: a list of clouds and RGB-D folders in, a file per scene out."""

import hashlib
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmask3d_rt.classes import ClassList
from xmask3d_rt.many.jobs import Job
from xmask3d_rt.many.sources import SegmenterSource
from xmask3d_rt.many.workers import Work
from xmask3d_rt.scene.cloud import PointCloud
from xmask3d_rt.scene.cloud_files import READERS
from xmask3d_rt.scene.frame_files import list_visible
from xmask3d_rt.scene.rgbd import read_rgbd
from xmask3d_rt.scene.text_files import read_text

if TYPE_CHECKING:
    from xmask3d_rt.segmenter import Segmenter

SCENE_CLOUD = "scene.ply"


@dataclass(frozen=True)
class SceneFiles:
    """A scene to label: its cloud and, where there is one, its RGB-D folder."""

    name: str
    cloud: Path
    rgbd: Path | None = None


@dataclass(frozen=True)
class SegmentScenes:
    """Opens workers that label scenes and save the results.

    Attributes:
        source: of the segmenter.
        classes: to tell apart.
        out: folder for the results.
        suffixes: of the files per scene.
        views_limit: most views used of a scene.
        virtual_views: rendered where a scene has no RGB-D folder; 0: the 3D head alone.
    """

    source: SegmenterSource
    classes: ClassList
    out: Path
    suffixes: tuple[str, ...] = (".ply",)
    views_limit: int | None = None
    virtual_views: int = 8

    def __call__(self, number: int) -> Work:
        """The worker of a slot."""
        return partial(self.label_scene, self.source.open(number))

    def label_scene(self, segmenter: "Segmenter", scene: SceneFiles) -> dict[str, Any]:
        """Label a scene and save it.

        Returns:
            `files` with their sizes, `points` and `views`, for the log.
        """
        views: Any = None if self.virtual_views else "none"
        if scene.rgbd is not None:
            views = read_rgbd(scene.rgbd).spread(self.views_limit)
        result = segmenter.run(
            PointCloud.load(scene.cloud),
            self.classes,
            views=views,
            virtual_views=max(self.virtual_views, 1),
        )
        saved = [result.save(self.out / f"{scene.name}{suffix}") for suffix in self.suffixes]
        files = {path.name: path.stat().st_size for path in saved}
        return {"files": files, "points": len(result), "views": len(result.views)}

    def make_jobs(self, scenes: list[SceneFiles]) -> list[Job]:
        """A job per scene, done anew when engines, classes, options or the cloud change."""
        shared = (self.source.fingerprint(), self.classes.names, self.suffixes)
        options = (self.views_limit, self.virtual_views)
        jobs = []
        for scene in scenes:
            stat = scene.cloud.stat()
            cloud = (str(scene.cloud), stat.st_size, stat.st_mtime_ns, str(scene.rgbd))
            key = hashlib.sha256(repr((shared, options, cloud)).encode()).hexdigest()[:16]
            jobs.append(Job(scene.name, scene, key))
        return jobs


def read_scene_list(path: Path) -> list[SceneFiles]:
    """The scenes of a list file, or of a folder.

    A list has a scene per line: a cloud and, after a space, its RGB-D folder; or a folder with
    `scene.ply` and perhaps `color/`. Paths are relative to the list's folder and may be quoted; `#`
    starts a comment. A folder gives the scene folders inside it, else its clouds.

    Raises:
        FileNotFoundError: the list or something it names is missing.
        ValueError: no scene, another encoding than UTF-8, a line that is none, or a name that
            occurs twice.
    """
    if path.is_dir():
        scenes = _list_folder(path.resolve())
    elif path.is_file():
        lines = enumerate(read_text(path).splitlines(), 1)
        scenes = [
            _parse_line(words, path.resolve().parent, f"{path}, line {number}")
            for number, line in lines
            if (words := _split_line(line, f"{path}, line {number}"))
        ]
    else:
        raise FileNotFoundError(f"no scene list {path}")
    if not scenes:
        raise ValueError(f"{path} names no scene; write a cloud or a scene folder per line")
    seen: dict[str, SceneFiles] = {}
    for scene in scenes:
        if (first := seen.setdefault(scene.name, scene)) is not scene:
            raise ValueError(
                f"{path}: {first.cloud} and {scene.cloud} are both called {scene.name!r}; rename "
                "one, results are saved under this name"
            )
    return scenes


def _list_folder(folder: Path) -> list[SceneFiles]:
    entries = list_visible(folder)
    folders = [entry for entry in entries if (entry / SCENE_CLOUD).is_file()]
    if folders:
        return [_open_scene_folder(entry) for entry in folders]
    clouds = [entry for entry in entries if entry.suffix.lower() in READERS]
    return [SceneFiles(cloud.stem, cloud) for cloud in clouds]


def _open_scene_folder(folder: Path) -> SceneFiles:
    rgbd = folder if (folder / "color").is_dir() else None
    return SceneFiles(folder.name, folder / SCENE_CLOUD, rgbd)


def _split_line(line: str, where: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise ValueError(f"{where}: {error}: {line!r}") from error


def _parse_line(words: list[str], base: Path, where: str) -> SceneFiles:
    paths = [base / word for word in words]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{where}: no {path}")
    if len(paths) > 2:
        raise ValueError(
            f"{where}: expected a cloud and at most one RGB-D folder, got {len(paths)} words; "
            "quote paths with spaces"
        )
    if not paths[0].is_dir():
        return SceneFiles(paths[0].stem, paths[0], *paths[1:])
    if len(paths) == 2 or not (paths[0] / SCENE_CLOUD).is_file():
        raise ValueError(f"{where}: {paths[0]} is a folder without {SCENE_CLOUD}; name the cloud")
    return _open_scene_folder(paths[0])
