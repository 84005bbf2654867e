"""Generated rooms: seeded furniture, posed RGB-D views by exact ray casting, a labelled cloud.

Everything is known exactly, so a room serves as demo input, as a test scene and as training
data. The world is in metres with z up; cameras have x right, y down, z forward.
"""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

from xmask3d_rt.data.boxes import BoxArrays, stack_boxes
from xmask3d_rt.data.layout import PLACEABLE, furnish_room
from xmask3d_rt.data.rooms.cameras import disturb_pose, pixel_rays, place_cameras
from xmask3d_rt.data.rooms.captions import describe_view
from xmask3d_rt.data.rooms.casting import cast_view
from xmask3d_rt.data.rooms.draws import Draw
from xmask3d_rt.data.rooms.floor_plan import Layout
from xmask3d_rt.data.rooms.kinds import KINDS, OTHER_FURNITURE, list_classes
from xmask3d_rt.data.rooms.lighting import Lamp, find_surface, light_surface, make_lamp, shade
from xmask3d_rt.data.rooms.sampling import sample_surfaces
from xmask3d_rt.data.rooms.sensor import ExactView, measure_depth, take_image
from xmask3d_rt.scene.rgbd_writer import atomic_folder, write_views
from xmask3d_rt.scene.view import View

FOCAL = 0.8125  # focal length over image width: 520 px at 640, as of common depth cameras
POINT_NOISE = 0.002  # metres, standard deviation of a point's coordinates at usual noise
TRAINING_SIZE = (240, 320)
TRAINING_SPACING = 0.03  # metres: a view then sees fewer points than training takes of one


@dataclass(frozen=True)
class Room:
    """A generated room.

    `labels` index into `classes`; `view_labels` are the same per pixel of each view, -1 where a
    ray hits no class (the ceiling, which the cloud leaves out) or nothing. `instances` and
    `view_instances` number the objects of the room likewise.
    """

    points: np.ndarray  # [N, 3] float32 metres, z up
    rgb: np.ndarray  # [N, 3] uint8
    labels: np.ndarray  # [N] int64
    classes: list[str]
    views: list[View]
    view_labels: list[np.ndarray]  # V times [H, W] int16
    instances: np.ndarray  # [N] int64
    view_instances: list[np.ndarray]  # V times [H, W] int16
    captions: list[str] = field(default_factory=list)  # one per view
    room_type: str = "room"


def generate_room(
    seed: int = 0,
    views: int = 8,
    image_size: tuple[int, int] = (480, 640),
    point_spacing: float = 0.02,
    furniture: Sequence[str] | None = None,
    ceiling: bool = True,
    label_set: str = "scannet20",
    noise: float = 0.0,
    unnamed: Collection[str] = (),
) -> Room:
    """Build a furnished room, look at it from `views` places and sample its surfaces.

    Args:
        seed: decides size, furniture, colours, places and cameras; equal seeds, equal rooms.
            Seeds from `rooms.draws.HELD_OUT_FROM` on share no parameter with those below.
        views: number of posed RGB-D views; 0 is legal.
        image_size: (rows, columns) of every view.
        point_spacing: edge of the voxels that hold one point each, metres.
        furniture: pieces wanted, names from `layout.PLACEABLE`, repeats allowed; what does
            not fit is left out. None draws what a room of a drawn type usually holds.
        ceiling: whether views see one.
        label_set: `scannet20`, or `kinds` to tell every kind of object apart.
        noise: of depth, poses, colours and points: 0 none, 1 as of a usual camera, 2 twice
            that.
        unnamed: kinds that captions do not name.

    Raises:
        ValueError: a negative count or noise, an empty image, a spacing <= 0, an unknown piece
            or label set.
    """
    _check_request(views, image_size, point_spacing, furniture, noise)
    classes = list_classes(label_set)
    draw = Draw.of_seed(seed)
    layout = furnish_room(draw, furniture, ceiling)
    boxes = stack_boxes(layout.boxes)
    lamp = _light(layout, draw)
    poses = place_cameras(layout, boxes, draw.rng, views)
    camera = _Camera(boxes, lamp, image_size, noise, draw.rng)
    shots = [camera.take(pose) for pose in poses]
    size = (layout.width, layout.depth)
    jitter = POINT_NOISE * noise
    exact, points, box = sample_surfaces(boxes, size, draw.rng, point_spacing, jitter)
    captions = [
        describe_view(kinds, numbers, view.read_image(), layout.room_type, draw.rng, unnamed)
        for view, kinds, numbers in shots
    ]
    highest = len(classes) - 1 if label_set == "kinds" else OTHER_FURNITURE
    return Room(
        points=points.astype(np.float32),
        rgb=shade(boxes, lamp, exact, box),
        labels=np.minimum(boxes.label[box], highest),
        classes=classes,
        views=[view for view, _, _ in shots],
        view_labels=[np.minimum(kinds, highest) for _, kinds, _ in shots],
        instances=boxes.instance[box],
        view_instances=[numbers for _, _, numbers in shots],
        captions=captions,
        room_type=layout.room_type,
    )


def generate_training_room(
    seed: int,
    views: int = 8,
    image_size: tuple[int, int] = TRAINING_SIZE,
    point_spacing: float = TRAINING_SPACING,
    noise: float = 1.0,
    unnamed: Collection[str] = (),
) -> Room:
    """A room of the kind that a model is trained and judged on: every kind, usual noise.

    Arguments and errors as for `generate_room`.
    """
    return generate_room(
        seed, views, image_size, point_spacing, label_set="kinds", noise=noise, unnamed=unnamed
    )


def _check_request(
    views: int,
    image_size: tuple[int, int],
    point_spacing: float,
    furniture: Sequence[str] | None,
    noise: float,
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
    if not noise >= 0:
        raise ValueError(f"generate_room: noise must be >= 0, got {noise}; 1 is usual")
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


def _light(layout: Layout, draw: Draw) -> Lamp:
    """A lamp near the middle of the room, warm or cold, bright or dim."""
    place = (layout.width * draw.uniform(0.35, 0.65), layout.depth * draw.uniform(0.35, 0.65))
    warmth = draw.uniform(-0.06, 0.06)
    # The light would hang beside its own lamp, whose shadow would fill a wall.
    shading = stack_boxes([b for b in layout.boxes if b.label != KINDS.index("ceiling lamp")])
    return make_lamp(
        shading,
        (*place, layout.height - 0.3),
        (1 + warmth, 1.0, 1 - warmth),
        draw.uniform(0.42, 0.58),
        draw.uniform(0.4, 0.75),
    )


@dataclass(frozen=True)
class _Camera:
    """Takes views of a room."""

    boxes: BoxArrays
    lamp: Lamp
    image_size: tuple[int, int]
    noise: float
    rng: np.random.Generator

    def take(self, camera_to_world: np.ndarray) -> tuple[View, np.ndarray, np.ndarray]:
        """One view with its kinds and instances [H, W] int16, -1 where there are none."""
        boxes = self.boxes
        intrinsics = default_intrinsics(self.image_size)
        depth, hit = cast_view(boxes, intrinsics, camera_to_world, self.image_size)
        row, col = np.nonzero(hit >= 0)
        box = hit[row, col]
        ray = pixel_rays(intrinsics, row, col) @ camera_to_world[:3, :3].T
        points = ray * depth[row, col].astype(np.float64)[:, None] + camera_to_world[:3, 3]
        image = np.zeros((*self.image_size, 3), dtype=np.uint8)
        normal, surface = find_surface(boxes, points, box)
        image[row, col] = light_surface(boxes, self.lamp, points, box, normal, surface)
        kinds = np.full(self.image_size, -1, dtype=np.int16)
        kinds[row, col] = boxes.label[box]
        numbers = np.full(self.image_size, -1, dtype=np.int16)
        numbers[row, col] = np.where(boxes.label[box] >= 0, boxes.instance[box], -1)
        if self.noise:
            cosine = np.zeros(self.image_size, dtype=np.float32)
            cosine[row, col] = np.abs((normal * ray).sum(axis=1)) / np.linalg.norm(ray, axis=1)
            texture = np.where(hit >= 0, boxes.texture[hit], -1)
            exact = ExactView(image, depth, cosine, texture)
            depth = measure_depth(exact, self.rng, self.noise)
            image = take_image(image, self.rng)
            camera_to_world = disturb_pose(camera_to_world, self.rng, self.noise)
        return View(image, depth, intrinsics, camera_to_world), kinds, numbers


def write_room(room: Room, folder: str | os.PathLike[str]) -> Path:
    """Write a room as an RGB-D folder with its cloud: all of it or nothing.

    Beside the files of `rgbd_writer.write_rgbd`: `label/N.png` (uint8 class index, 255 = none),
    `instance/N.png` (uint16, 65535 = none), `scene.ply` with vertex properties `label` (class
    index) and `instance`, `classes.txt` (a name per line) and `captions.json` (a sentence per
    view, of what covers most of it).

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
        # -1 becomes the highest value
        _write_label_images(room.view_labels, partial / "label", np.uint8)
        _write_label_images(room.view_instances, partial / "instance", np.uint16)
        _write_ply(partial / "scene.ply", room)
        (partial / "classes.txt").write_text("\n".join(room.classes) + "\n", encoding="utf-8")
        captions = {str(n): caption for n, caption in enumerate(room.captions)}
        (partial / "captions.json").write_text(json.dumps(captions, indent=1) + "\n")
    return Path(folder)


def _write_label_images(images: list[np.ndarray], folder: Path, dtype: type) -> None:
    folder.mkdir()
    for index, values in enumerate(images):
        Image.fromarray(values.astype(dtype)).save(folder / f"{index}.png")


def _write_ply(path: Path, room: Room) -> None:
    """Binary PLY with x y z red green blue label instance."""
    names = ("red", "green", "blue")
    kinds = [*((k, "f4") for k in "xyz"), *((k, "u1") for k in names)]
    kinds += [("label", "i4"), ("instance", "i4")]
    rows = np.empty(len(room.points), dtype=kinds)
    for k in range(3):
        rows["xyz"[k]] = room.points[:, k]
        rows[names[k]] = room.rgb[:, k]
    rows["label"], rows["instance"] = room.labels, room.instances
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(path))
