"""Posed RGB-D views, checked at the boundary.

Units are metres. Pixels are (u, v) = (column, row); cameras follow OpenCV (x right, y down,
z forward), and `camera_to_world` says its direction.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.view_checks import (
    check_depth,
    check_depth_scale,
    check_image,
    check_intrinsics,
    check_pose,
    check_principal_point,
)

ASPECT_TOLERANCE = 0.02  # ScanNet's 1296x968 colour and 640x480 depth differ by 0.4 %

ArraySource = Any  # ndarray, nested lists, torch tensor, __dlpack__, __cuda_array_interface__
ImageSource = Any  # an array as above, or a path


@dataclass(frozen=True, eq=False)
class View:
    """One posed RGB-D image, in memory or read from disk when it is needed.

    Attributes:
        image: [H, W, 3] uint8 RGB, or the path of an image file.
        depth: [h, w] along the optical axis: floating point metres or unsigned integers times
            `depth_scale`; the path of a 16-bit PNG, a TIFF or a .npy file; or None. 0, NaN and
            infinity mean "no measurement". Any size with the aspect ratio of the image.
        intrinsics: K, 3x3 or 4x4 pixels, at the image's size.
        camera_to_world: 4x4 (or 3x4), metres, OpenCV axes.
        name: what messages call the view; characters that cannot be printed are escaped.
        depth_intrinsics: K at the depth image's size, where it is not the image's scaled.
        depth_scale: metres per unit of an integer depth (0.001: millimetres).
    """

    image: ImageSource
    depth: ImageSource
    intrinsics: ArraySource
    camera_to_world: ArraySource
    name: str = ""
    depth_intrinsics: ArraySource = None
    depth_scale: float = 0.001

    def __post_init__(self) -> None:
        """Check what is in memory; files are checked when read.

        Raises:
            ValueError: a pose that is missing or no rigid motion, intrinsics of no pinhole camera,
                NaN or infinite values, wrong shapes, image and depth that disagree.
            TypeError: an image that is not uint8, elements that are not numbers.
        """
        image_name = Path(self.image).stem if _is_path(self.image) else ""
        self._set("name", one_line(self.name or image_name))
        self._set("intrinsics", check_intrinsics(self.intrinsics, f"{self.title}: intrinsics"))
        where = f"{self.title}: camera_to_world"
        self._set("camera_to_world", check_pose(self.camera_to_world, where))
        if self.depth_intrinsics is not None:
            where = f"{self.title}: depth_intrinsics"
            self._set("depth_intrinsics", check_intrinsics(self.depth_intrinsics, where))
        where = f"{self.title}: depth_scale"
        self._set("depth_scale", check_depth_scale(self.depth_scale, where))
        for kind in ("image", "depth"):
            value = getattr(self, kind)
            self._set(kind, Path(value) if _is_path(value) else value)
        size = depth_shape = None
        if not isinstance(self.image, Path):
            self._set("image", check_image(self.image, f"{self.title}: image"))
            size = (self.image.shape[1], self.image.shape[0])
        if self.depth is not None and not isinstance(self.depth, Path):
            where = f"{self.title}: depth"
            self._set("depth", check_depth(self.depth, self.depth_scale, where))
            depth_shape = self.depth.shape
        self.check_sizes(size, depth_shape)

    def __repr__(self) -> str:
        parts = [f"{kind} {_describe_image(getattr(self, kind))}" for kind in ("image", "depth")]
        return f"View({self.name!r}, {', '.join(parts)})"

    @property
    def title(self) -> str:
        """How messages name the view."""
        return f"View {self.name}" if self.name else "View"

    def read_image(self) -> np.ndarray:
        """The colour image, [H, W, 3] uint8 RGB.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: the file is no image.
        """
        if not isinstance(self.image, Path):
            return self.image
        from xmask3d_rt.scene.image_files import read_color

        return read_color(self.image)

    def read_depth(self) -> np.ndarray | None:
        """The depth image, [h, w] float32 metres with 0 = no measurement, or None.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: the file is no depth image.
        """
        if not isinstance(self.depth, Path):
            return self.depth
        from xmask3d_rt.scene.image_files import read_depth

        where = f"{self.title}: {one_line(self.depth)}"
        return check_depth(read_depth(self.depth), self.depth_scale, where)

    def check_sizes(
        self, size: tuple[int, int] | None, depth_shape: tuple[int, ...] | None
    ) -> None:
        """Check that intrinsics, image (W, H) and depth (h, w) belong together; None = unknown.

        Raises:
            ValueError: a principal point outside its image, or aspect ratios that disagree.
        """
        if size is not None:
            check_principal_point(self.intrinsics, size, f"{self.title}: intrinsics", "image")
        if depth_shape is not None and self.depth_intrinsics is not None:
            shape = (depth_shape[1], depth_shape[0])
            where = f"{self.title}: depth_intrinsics"
            check_principal_point(self.depth_intrinsics, shape, where, "depth image")
        if size is None or depth_shape is None or self.depth_intrinsics is not None:
            return
        aspect, depth_aspect = size[0] / size[1], depth_shape[1] / depth_shape[0]
        if abs(depth_aspect / aspect - 1) > ASPECT_TOLERANCE:
            raise ValueError(
                f"{self.title}: image and depth disagree: the image is {size[0]}x{size[1]}, the "
                f"depth {depth_shape[1]}x{depth_shape[0]} (columns x rows), so their aspect "
                "ratios differ; register the depth to the image or pass depth_intrinsics"
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _describe_image(image: Any) -> str:
    """A file, or the size of an array."""
    if image is None or isinstance(image, Path):
        return "none" if image is None else repr(str(image))
    return f"{image.shape[1]}x{image.shape[0]}"


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))
