"""Generated rooms in the layout of processed ScanNet: a data set of a few megabytes."""

import json
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

import xmask3d_rt.data.room as room_module
from xmask3d_rt.data.labels import known_label_source
from xmask3d_rt.data.released import INTRINSICS, INTRINSICS_SIZE
from xmask3d_rt.data.room import Room, generate_room
from xmask3d_rt.scene.rgbd_writer import write_views

SIZE = (120, 160)
NYU40_OF_20 = list(known_label_source("scannet20").images)


@cache
def make_room(seed: int, views: int = 2, spacing: float = 0.06) -> Room:
    """A room seen by ScanNet's camera, whose intrinsics the layout takes for granted."""
    with patch.object(room_module, "FOCAL", INTRINSICS[0, 0] / INTRINSICS_SIZE[0]):
        return generate_room(seed=seed, views=views, image_size=SIZE, point_spacing=spacing)


def ids_of_200(room: Room) -> np.ndarray:
    """ScanNet200 id of each of the room's classes; 0 where it has none."""
    ids = {name: i for i, name in known_label_source("scannet200").points.items()}
    ids["sofa"] = ids["couch"]
    return np.array([ids.get(name, 0) for name in room.classes])


def write_miniature(
    root: Path, train: int = 2, val: int = 2, views: int = 2, spacing: float = 0.06
) -> Path:
    """Rooms as `train` and `val` scenes of the released layout."""
    captions = {}
    for index in range(train + val):
        split = "train" if index < train else "val"
        name = f"scene{index:04d}_00"
        room = make_room(index, views, spacing)
        _write_cloud(root, split, name, room)
        _write_frames(root / "scannet_2d" / name, room)
        captions[name] = {str(n): f"view {n} of a room" for n in range(views)}
    folder = root / "caption"
    folder.mkdir()
    file = folder / "caption_view_scannet_vit-gpt2-image-captioning_.json"
    file.write_text(json.dumps(captions))
    return root


def _write_cloud(root: Path, split: str, name: str, room: Room) -> None:
    labels = room.labels.astype(np.float64)
    labels[::50] = -100
    cloud = root / "scannet_3d" / split / f"{name}_vh_clean_2.pth"
    cloud.parent.mkdir(parents=True, exist_ok=True)
    torch.save((room.points, room.rgb.astype(np.float32) / 127.5 - 1, labels), cloud)
    file = root / "scannet_3d_200" / split / f"{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(file, ids_of_200(room)[room.labels], fmt="%d")


def _write_frames(folder: Path, room: Room) -> None:
    """Colour, depth, pose and both kinds of label images; intrinsics are no part of the layout."""
    folder.mkdir(parents=True)
    write_views(room.views, folder)
    (folder / "intrinsics.txt").unlink()
    tables = {"label": np.array([*NYU40_OF_20, 0]), "label_200": np.append(ids_of_200(room), 0)}
    for kind, table in tables.items():
        (folder / kind).mkdir()
        for n, image in enumerate(room.view_labels):
            ids = table[image].astype(np.uint8 if table.max() < 256 else np.uint16)
            Image.fromarray(ids).save(folder / kind / f"{n}.png")
