"""Processed ScanNet, once, into scene folders: no pickles, a hash of every file.

    OUT/dataset.json                     label sets, what it was made from
    OUT/<split>/<scene>/scene.safetensors    xyz, rgb, labels [, labels_200]
                        color/ depth/ pose/ label/ [label_200/]   linked, or copied across disks
                        intrinsics.txt captions.json
                        hashes.json      SHA-256 of every file of the folder

A scene is there whole or not at all, so that an interrupted conversion goes on where it stopped.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from xmask3d_rt.data.labels import LABEL_SETS
from xmask3d_rt.data.released import (
    LABEL_FOLDERS,
    ReleasedScene,
    is_released,
    list_scenes,
    read_cloud_file,
)
from xmask3d_rt.data.scene_folders import (
    CAPTIONS_FILE,
    DATASET_FILE,
)
from xmask3d_rt.files import atomic_write, hash_file, replace_folder, stage_beside
from xmask3d_rt.scene.frame_files import list_visible
from xmask3d_rt.scene.text_files import read_json_object

HASHES_FILE = "hashes.json"
FORMAT = "xmask3d scenes 1"
FRAME_FOLDERS = ("color", "depth", "pose", *LABEL_FOLDERS.values())
CONVERTED_SPLITS = ("train", "val")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: scenes written now, and scenes that were there already."""

    written: int
    kept: int


def convert_released(source: Path, out: Path, progress: Progress | None = None) -> Conversion:
    """Convert every scene of the released layout.

    Args:
        source: folder with `scannet_3d`.
        out: folder to fill; scenes that are there are kept.
        progress: called with (scenes done, scenes).

    Raises:
        FileNotFoundError: `source` is not in the released layout or has no scene.
        FileExistsError: `out` holds something else.
        ValueError: a damaged file.
    """
    scenes = [s for split in CONVERTED_SPLITS for s in _list_split(source, split)]
    if not scenes:
        raise FileNotFoundError(
            f"{source} holds no scene of processed ScanNet; expected scannet_3d/train/*.pth"
        )
    _check_target(out)
    label_sets = [name for name in LABEL_SETS if _has_labels(scenes, name)]
    kept = 0
    for done, scene in enumerate(scenes):
        target = out / scene.split / scene.name
        if (target / HASHES_FILE).is_file():
            kept += 1
        else:
            _convert_scene(scene, target, label_sets)
        if progress is not None:
            progress(done + 1, len(scenes))
    description = {"format": FORMAT, "label_sets": label_sets, "source": str(source.resolve())}
    with atomic_write(out / DATASET_FILE) as path:
        path.write_text(json.dumps(description, indent=2) + "\n")
    return Conversion(len(scenes) - kept, kept)


def find_changed_files(scene: Path) -> list[str]:
    """Files of a converted scene that are missing or differ from its hashes.

    Raises:
        ValueError: `hashes.json` is damaged.
    """
    hashes = read_json_object(scene / HASHES_FILE)
    return [
        name
        for name, expected in hashes.items()
        if not (scene / name).is_file() or hash_file(scene / name) != expected
    ]


def _list_split(source: Path, split: str) -> list[ReleasedScene]:
    return list_scenes(source, split) if is_released(source) else []


def _has_labels(scenes: list[ReleasedScene], label_set: str) -> bool:
    """ScanNet200 labels count where every scene has them."""
    return label_set == "scannet20" or all(scene.labels_200_file.is_file() for scene in scenes)


def _check_target(out: Path) -> None:
    """Refuse a folder with something else in it."""
    own = {DATASET_FILE, *CONVERTED_SPLITS}
    foreign = sorted({e.name for e in list_visible(out)} - own) if out.is_dir() else []
    if foreign:
        raise FileExistsError(
            f"will not convert into {out}: it holds {foreign[0]!r}, which is no part of a "
            "converted data set; give a new folder"
        )


def _convert_scene(scene: ReleasedScene, target: Path, label_sets: list[str]) -> None:
    """One scene folder, all of it or nothing."""
    with stage_beside(target) as staging:
        partial = staging / "new"
        partial.mkdir()
        _write_cloud(scene, partial, label_sets)
        _link_frames(scene, partial)
        captions = scene.read_captions()
        if captions:
            text = json.dumps(captions, indent=1, ensure_ascii=False)
            (partial / CAPTIONS_FILE).write_text(text + "\n", encoding="utf-8")
        hashes = {str(path.relative_to(partial)): hash_file(path) for path in _walk(partial)}
        (partial / HASHES_FILE).write_text(json.dumps(hashes, indent=1) + "\n")
        replace_folder(partial, target)


def _write_cloud(scene: ReleasedScene, folder: Path, label_sets: list[str]) -> None:
    xyz, rgb, labels = read_cloud_file(scene.cloud_file)
    tensors = {"xyz": xyz, "rgb": rgb, "labels": labels.astype(np.int16)}
    if "scannet200" in label_sets:
        tensors["labels_200"] = scene.read_labels("scannet200").astype(np.int16)
    save_file(tensors, folder / "scene.safetensors")


def _link_frames(scene: ReleasedScene, folder: Path) -> None:
    """Hard links to the files of the views where the disk allows it, else copies."""
    if not (scene.frames / "color").is_dir():
        return
    for name in FRAME_FOLDERS:
        if not (scene.frames / name).is_dir():
            continue
        (folder / name).mkdir()
        for file in list_visible(scene.frames / name):
            try:
                os.link(file, folder / name / file.name)
            except OSError:
                shutil.copyfile(file, folder / name / file.name)
    np.savetxt(folder / "intrinsics.txt", scene.read_intrinsics(), fmt="%.9f")


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
