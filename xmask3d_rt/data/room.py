"""Generated rooms: seeded furniture, posed RGB-D views by exact ray casting, a labelled cloud.

Everything is known exactly, so a room serves as demo input, as a test scene and as training
data. The world is in metres with z up; cameras have x right, y down, z forward.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

from xmask3d_rt.data.boxes import BoxArrays, Lamp, cast_view, make_lamp, shade, stack_boxes
from xmask3d_rt.data.layout import PLACEABLE, Layout, furnish_room
from xmask3d_rt.data.parts import ROOM_CLASSES
from xmask3d_rt.rgbd_writer import atomic_folder, write_views
from xmask3d_rt.scene import View

CONTACT = 1e-3  # metres; a face this close to another box is hidden
CAPTION_SHARE = 0.01  # of a view that a class must cover to be named in its caption
EDGE = 1e-6  # metres; a point this close to a face lies on it
FOCAL = 0.8125  # focal length over image width: 520 px at 640, as of common depth cameras


@dataclass(frozen=True)
class Room:
    """A generated room.

    `labels` index into `classes` (ScanNet's 20 benchmark classes); `view_labels` are the same
    per pixel of each view, -1 where a ray hits no class (the ceiling, which the cloud leaves
    out) or nothing.
    """

    points: np.ndarray  # [N, 3] float32 metres, z up
    rgb: np.ndarray  # [N, 3] uint8
    labels: np.ndarray  # [N] int64
    classes: list[str]
    views: list[View]
    view_labels: list[np.ndarray]  # V times [H, W] int16


def generate_room(
    seed: int = 0,
    views: int = 8,
    image_size: tuple[int, int] = (480, 640),
    point_spacing: float = 0.02,
    furniture: Sequence[str] | None = None,
    ceiling: bool = True,
) -> Room:
    """Build a furnished room, look at it from `views` places and sample its surfaces.

    Args:
        seed: decides size, furniture, colours, places and cameras; equal seeds, equal rooms.
        views: number of posed RGB-D views; 0 is legal.
        image_size: (rows, columns) of every view.
        point_spacing: edge of the voxels that hold one point each, metres.
        furniture: pieces wanted, names from `layout.PLACEABLE`, repeats allowed; what does
            not fit is left out. None draws a set.
        ceiling: whether views see one.

    Raises:
        ValueError: a negative count, an empty image, a spacing <= 0 or an unknown piece.
    """
    _check_request(views, image_size, point_spacing, furniture)
    rng = np.random.default_rng(seed)
    layout = furnish_room(rng, furniture, ceiling)
    boxes = stack_boxes(layout.boxes)
    lamp_at = (layout.width * rng.uniform(0.4, 0.6), layout.depth * rng.uniform(0.4, 0.6))
    lamp = make_lamp(boxes, (*lamp_at, layout.height - 0.3))

    intrinsics = default_intrinsics(image_size)
    rendered, view_labels = [], []
    for camera_to_world in _place_cameras(layout, boxes, rng, views):
        view, labels = _render(boxes, lamp, intrinsics, camera_to_world, image_size)
        rendered.append(view)
        view_labels.append(labels)
    points, box = _sample_surfaces(boxes, (layout.width, layout.depth), rng, point_spacing)
    return Room(
        points=points.astype(np.float32),
        rgb=shade(boxes, lamp, points, box),
        labels=boxes.label[box],
        classes=list(ROOM_CLASSES),
        views=rendered,
        view_labels=view_labels,
    )


def _check_request(
    views: int,
    image_size: tuple[int, int],
    point_spacing: float,
    furniture: Sequence[str] | None,
) -> None:
    """Refuse what cannot be generated."""
    if views < 0:
        raise ValueError(f"generate_room: views must be >= 0, got {views}")
    if len(image_size) != 2 or min(image_size) < 2:
        raise ValueError(
            f"generate_room: image_size must be (rows, columns) of at least 2, got {image_size}"
        )
    if not point_spacing > 0:
        raise ValueError(f"generate_room: point_spacing must be > 0 metres, got {point_spacing}")
    unknown = sorted(set(furniture or ()) - set(PLACEABLE))
    if unknown:
        raise ValueError(
            f"generate_room: unknown furniture {unknown[0]!r}; known pieces: {', '.join(PLACEABLE)}"
        )


def default_intrinsics(image_size: tuple[int, int]) -> np.ndarray:
    """K [3, 3] of a usual indoor camera: 63 degrees wide, centred."""
    height, width = image_size
    focal = FOCAL * width
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """camera_to_world [4, 4] of an upright camera at `eye` looking at `target` (z is up)."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    camera_to_world[:3, 3] = eye
    return camera_to_world


def _place_cameras(
    layout: Layout, boxes: BoxArrays, rng: np.random.Generator, count: int
) -> list[np.ndarray]:
    """Cameras on a ring at standing height, looking across the room; never inside furniture."""
    center = np.array([layout.width, layout.depth]) / 2
    start = rng.uniform(0, 2 * np.pi)
    poses = []
    for index in range(count):
        angle = start + 2 * np.pi * index / max(count, 1)
        out = np.array([np.cos(angle), np.sin(angle)])
        for shrink in np.linspace(0.8, 0.1, 15):
            reach = shrink * rng.uniform(0.85, 1.0)
            eye = np.array([*(center + reach * out * center), rng.uniform(1.45, 1.75)])
            if _is_free(boxes, eye, 0.3):
                break
        across = center - 0.35 * out * center + rng.uniform(-0.5, 0.5, 2)
        poses.append(look_at(eye, np.array([*across, rng.uniform(0.5, 0.95)])))
    return poses


def _is_free(boxes: BoxArrays, point: np.ndarray, clearance: float) -> bool:
    """Whether a point keeps `clearance` metres from every box."""
    rows = np.arange(len(boxes.center))
    local = boxes.to_local(np.broadcast_to(point, (len(rows), 3)), rows)
    return bool((np.abs(local) > boxes.half + clearance).any(axis=1).all())


def _render(
    boxes: BoxArrays,
    lamp: Lamp,
    intrinsics: np.ndarray,
    camera_to_world: np.ndarray,
    image_size: tuple[int, int],
) -> tuple[View, np.ndarray]:
    """One view with its label image [H, W] int16."""
    depth, hit = cast_view(boxes, intrinsics, camera_to_world, image_size)
    row, col = np.nonzero(hit >= 0)
    z = depth[row, col].astype(np.float64)
    ray = np.stack([col, row, np.ones_like(col)], axis=1) @ np.linalg.inv(intrinsics).T
    points = (ray * z[:, None]) @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]
    image = np.zeros((*image_size, 3), dtype=np.uint8)
    image[row, col] = shade(boxes, lamp, points, hit[row, col])
    labels = np.full(image_size, -1, dtype=np.int16)
    labels[row, col] = boxes.label[hit[row, col]]
    return View(image, depth, intrinsics, camera_to_world), labels


def _sample_surfaces(
    boxes: BoxArrays,
    room_size: tuple[float, float],
    rng: np.random.Generator,
    spacing: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] float64 on everything that can be seen, one per voxel, and their boxes [N].

    Every labelled face carries a jittered grid; points inside another box, touching one or
    outside the room are dropped, then the first point of every voxel is kept.
    """
    points, outside, box = [], [], []
    for b in np.flatnonzero(boxes.label >= 0):
        local, outward = _sample_faces(boxes.half[b], rng, spacing)
        rows = np.full(len(local), b)
        points.append(boxes.to_world(local, rows) + boxes.center[b])
        outside.append(points[-1] + CONTACT * boxes.to_world(outward, rows))
        box.append(rows)
    xyz, owner = np.concatenate(points), np.concatenate(box)
    probe = np.concatenate(outside)
    inside = (xyz >= -EDGE).all(axis=1) & (xyz[:, :2] <= np.add(room_size, EDGE)).all(axis=1)
    xyz, owner, probe = xyz[inside], owner[inside], probe[inside]
    order = np.argsort(probe[:, 0], kind="stable")
    xyz, owner, probe = xyz[order], owner[order], probe[order]
    seen = ~_find_covered(boxes, probe, owner)
    order = rng.permutation(np.flatnonzero(seen))
    # Rounded, all points of a wall at 0 share a voxel layer; as computed, some lie at -1e-19.
    xyz = xyz.round(5).astype(np.float32).astype(np.float64) + 0.0
    cell = np.floor(xyz[order] / spacing).astype(np.int64)
    cell -= cell.min(axis=0)
    span = cell.max(axis=0) + 1
    _, first = np.unique(np.ravel_multi_index(tuple(cell.T), span), return_index=True)
    return xyz[order[first]], owner[order[first]]


def _find_covered(boxes: BoxArrays, xyz: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Which points [N] bool lie inside a box other than their own; `xyz` is sorted by x."""
    covered = np.zeros(len(xyz), dtype=bool)
    for b in range(len(boxes.center)):
        reach = np.hypot(*boxes.half[b, :2])
        low, high = np.searchsorted(xyz[:, 0], boxes.center[b, 0] + np.array([-reach, reach]))
        offset = np.abs(xyz[low:high, 1:] - boxes.center[b, 1:])
        near = low + np.flatnonzero((offset[:, 0] < reach) & (offset[:, 1] < boxes.half[b, 2]))
        local = boxes.to_local(xyz[near], np.full(len(near), b))
        inside = (np.abs(local) < boxes.half[b]).all(axis=1) & (owner[near] != b)
        covered[near[inside]] = True
    return covered


def _sample_faces(
    half: np.ndarray, rng: np.random.Generator, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Jittered grid on the six faces of a box [P, 3] and their normals, in its own frame."""
    faces, normals = [], []
    for axis in range(3):
        a, b = (k for k in range(3) if k != axis)
        steps = [max(int(np.ceil(2 * half[k] / (0.7 * spacing))), 1) for k in (a, b)]
        grid = np.stack(np.meshgrid(*(np.arange(s) for s in steps)), axis=-1).reshape(-1, 2)
        for sign in (-1, 1):
            place = (grid + rng.uniform(0.1, 0.9, grid.shape)) / steps  # in (0, 1)
            face = np.empty((len(grid), 3))
            face[:, axis] = sign * half[axis]
            face[:, a] = (2 * place[:, 0] - 1) * half[a]
            face[:, b] = (2 * place[:, 1] - 1) * half[b]
            faces.append(face)
            normals.append(np.broadcast_to(sign * np.eye(3)[axis], face.shape))
    return np.concatenate(faces), np.concatenate(normals)


def write_room(room: Room, folder: str | os.PathLike[str]) -> Path:
    """Write a room as an RGB-D folder with its cloud: all of it or nothing.

    Beside the files of `rgbd_writer.write_rgbd`: `label/N.png` (uint8 class index, 255 = none),
    `scene.ply` with a vertex property `label` (class index), `classes.txt` (a name per line) and
    `captions.json` (a sentence per view, of what covers most of it).

    Args:
        room: what to write.
        folder: target; an RGB-D folder that is there is replaced.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder holds anything that is no part of an RGB-D folder.
    """
    with atomic_folder(folder) as partial:
        write_views(room.views, partial)
        (partial / "label").mkdir()
        for index, labels in enumerate(room.view_labels):
            # -1 becomes 255
            Image.fromarray(labels.astype(np.uint8)).save(partial / "label" / f"{index}.png")
        _write_ply(partial / "scene.ply", room)
        (partial / "classes.txt").write_text("\n".join(room.classes) + "\n", encoding="utf-8")
        captions = {
            str(n): describe_view(labels, room) for n, labels in enumerate(room.view_labels)
        }
        (partial / "captions.json").write_text(json.dumps(captions, indent=1) + "\n")
    return Path(folder)


def describe_view(labels: np.ndarray, room: Room) -> str:
    """A caption of a view: its classes that cover a hundredth of it, the largest first."""
    counts = np.bincount(labels[labels >= 0], minlength=len(room.classes))
    order = np.argsort(-counts, kind="stable")
    shown = [room.classes[k] for k in order if counts[k] >= CAPTION_SHARE * labels.size]
    return "a room with " + (", ".join(f"a {name}" for name in shown) or "nothing in it")


def _write_ply(path: Path, room: Room) -> None:
    """Binary PLY with x y z red green blue label."""
    names = ("red", "green", "blue")
    kinds = [*((k, "f4") for k in "xyz"), *((k, "u1") for k in names), ("label", "i4")]
    rows = np.empty(len(room.points), dtype=kinds)
    for k in range(3):
        rows["xyz"[k]] = room.points[:, k]
        rows[names[k]] = room.rgb[:, k]
    rows["label"] = room.labels
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(path))
