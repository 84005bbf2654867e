"""What a data folder holds, what is missing, and how to get it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.convert import HASHES_FILE, find_changed_files
from xmask3d_rt.data.labelled import LabelledScene, SceneCollection
from xmask3d_rt.data.labels import LABEL_SETS
from xmask3d_rt.data.released import (
    CAPTIONS,
    CLOUDS,
    CLOUDS_200,
    FRAMES,
    LABEL_FOLDERS,
    is_released,
    list_scenes,
)
from xmask3d_rt.data.scene_folders import FolderScene, list_splits
from xmask3d_rt.errors import join_names

ARCHIVES = (
    "accept ScanNet's terms of use (www.scan-net.org), then run the download script of the "
    "released code (github.com/wangzy22/XMask3D) for the archive {archive}"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `needed` for training and evaluation, or only useful."""

    what: str
    fix: str
    needed: bool = True


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split."""

    split: str
    scenes: int
    views: int
    label_images: int
    captions: int


@dataclass(frozen=True)
class DataReport:
    """Outcome of a check.

    Attributes:
        layout: in words.
        label_sets: what labels it has.
        splits: counts per split.
        findings: what is missing or broken.
    """

    layout: str
    label_sets: tuple[str, ...]
    splits: tuple[SplitSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that training or evaluation needs is missing."""
        return not any(finding.needed for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"ok": self.ok}

    def describe(self) -> str:
        """Lines for people."""
        lines = [f"layout  {self.layout}", f"labels  {', '.join(self.label_sets) or 'none'}"]
        lines += [
            f"{s.split or 'all':<7} {s.scenes} scenes, {s.views} views, {s.label_images} label "
            f"images, {s.captions} captions"
            for s in self.splits
        ]
        for finding in self.findings:
            kind = "missing" if finding.needed else "note   "
            lines.append(f"{kind} {finding.what}\n        to do: {finding.fix}")
        lines.append("ready" if self.ok else "not complete")
        return "\n".join(lines)


def check_data(folder: Path, full: bool = False) -> DataReport:
    """Look through a data folder.

    Args:
        folder: in any layout.
        full: read every cloud and every view too, and compare converted scenes with their
            hashes; else names are listed and the first scene of each split is read.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder {folder}")
    layout, splits, findings = _find_splits(folder)
    collections = []
    for split in splits:
        try:
            collections.append(open_collection(folder, split))
        except (FileNotFoundError, ValueError) as error:
            findings.append(Finding(str(error), "correct or remove what the line names"))
    summaries = []
    for collection in collections:
        if is_released(folder):
            findings += _list_missing_parts(folder, collection)
        summaries.append(_count(collection, findings))
        findings += _read_scenes(collection, full)
    sets = collections[0].label_sets if collections else ()
    own = collections and collections[0].own_source
    named = (f"own, {len(own.points)} classes",) if own else sets
    return DataReport(layout, named, tuple(summaries), tuple(findings))


def _find_splits(folder: Path) -> tuple[str, Sequence[str], list[Finding]]:
    """Layout in words, splits to open, and what is missing as a whole."""
    if is_released(folder):
        findings = []
        for split in ("train", "val"):
            if not list_scenes(folder, split):
                fix = ARCHIVES.format(archive=CLOUDS)
                findings.append(Finding(f"no point clouds in {folder / CLOUDS / split}", fix))
        for name, needed in ((FRAMES, True), (CLOUDS_200, False), (CAPTIONS, False)):
            if not (folder / name).is_dir():
                uses = {
                    FRAMES: "views",
                    CLOUDS_200: "only the presets of 200 classes need it",
                    CAPTIONS: "training without it has no caption losses; evaluation needs none",
                }[name]
                fix = ARCHIVES.format(archive=name)
                findings.append(Finding(f"no folder {folder / name} ({uses})", fix, needed))
        splits = [split for split in ("train", "val") if list_scenes(folder, split)]
        return "processed ScanNet as released", splits, findings
    splits = list_splits(folder)
    return "folder of scene folders", splits or [""], []


def _list_missing_parts(folder: Path, collection: SceneCollection) -> list[Finding]:
    """Scenes of the released layout that lack a part which other scenes have."""
    scenes = list_scenes(folder, collection.split)
    parts = {
        f"{FRAMES}/<scene>/{name}": [s.name for s in scenes if not (s.frames / name).is_dir()]
        for name in ("color", "depth", "pose", LABEL_FOLDERS["scannet20"])
        if (folder / FRAMES).is_dir()
    }
    if (folder / CLOUDS_200).is_dir():
        lacking = [s.name for s in scenes if not s.labels_200_file.is_file()]
        parts[f"{CLOUDS_200}/{collection.split}/<scene>.txt"] = lacking
    return [
        Finding(
            f"{len(names)} of {len(scenes)} {collection.split} scenes have no {part}: "
            + join_names(names),
            ARCHIVES.format(archive=part.split("/")[0]),
            needed=part.split("/")[0] == FRAMES and LABEL_FOLDERS["scannet20"] not in part,
        )
        for part, names in parts.items()
        if names
    ]


def _count(collection: SceneCollection, findings: list[Finding]) -> SplitSummary:
    """Count views, label images and captions by name; scenes that cannot be listed are found."""
    views = label_images = captions = 0
    without: list[str] = []
    for scene in collection.scenes:
        try:
            listed = scene.list_views()
            told: Mapping[str, str] = scene.read_captions()
        except (ValueError, OSError) as error:
            findings.append(Finding(f"scene {scene.name}: {error}", "get or convert it again"))
            continue
        if not listed:
            without.append(scene.name)
        views += len(listed)
        captions += sum(view.name in told for view in listed)
        label_images += sum(
            scene.label_image_path(view.name, LABEL_SETS[0]) is not None for view in listed
        )
    if without and not is_released(collection.root):
        what = f"{len(without)} scenes have no views: {join_names(without)}"
        findings.append(Finding(what, "add color/ depth/ pose/ and intrinsics.txt"))
    return SplitSummary(collection.split, len(collection), views, label_images, captions)


def _read_scenes(collection: SceneCollection, full: bool) -> Iterator[Finding]:
    """Read the first scene, or all, and say what cannot be read."""
    for scene in collection.scenes if full else collection.scenes[:1]:
        try:
            _read_scene(scene, collection, full)
        except (ValueError, TypeError, OSError) as error:
            yield Finding(f"scene {scene.name}: {error}", "get or convert it again")


def _read_scene(scene: LabelledScene, collection: SceneCollection, full: bool) -> None:
    """Read points, labels and views.

    Raises:
        ValueError, TypeError, OSError: something is damaged, missing or changed.
    """
    points = len(scene.read_cloud())
    for label_set in collection.label_sets or ("own",):
        if len(scene.read_labels(label_set)) != points:
            raise ValueError(f"{scene.cloud_file}: labels and points differ in number")
    for view in scene.list_views()[: None if full else 1]:
        image, depth = view.read_image(), view.read_depth()
        view.check_sizes(image.shape[1::-1], None if depth is None else depth.shape)
    if full and isinstance(scene, FolderScene) and (scene.root / HASHES_FILE).is_file():
        changed = find_changed_files(scene.root)
        if changed:
            raise ValueError(
                f"{len(changed)} files changed since conversion, the first {changed[0]}"
            )
