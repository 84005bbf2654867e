"""What makes a posed view: checks of image, depth, intrinsics and pose at the boundary.

Every function takes the name its messages start with (`where`) and returns the value as the
package computes with it.
"""

from typing import Any

import numpy as np

from xmask3d_rt.arrays import check_finite, to_numpy

MAX_DEPTH = 1_000  # metres; larger values are millimetres stored as floats
DEPTH_SCALES = (1e-6, 1e3)  # metres per unit: micrometres to kilometres
FOCAL_LENGTHS = (1, 1e6)  # pixels; below 1 they are fractions of the image's size
SKEW_TOLERANCE = 1e-4  # of the focal length: 0.05 px at 500
# Largest entry of RᵀR - I. Matrices written with two decimals reach 0.017, those of the fused
# kitchen scene 0.0004; an axis that is 1 % too long has 0.02.
ROTATION_TOLERANCE = 0.02
ROUNDING = 1e-5  # of entries that are 0 or 1 by definition
FARTHEST_CAMERA = 131_072  # metres from the origin: twice what point clouds may reach


def check_number(value: Any, where: str) -> float:
    """A finite number as a float.

    Raises:
        TypeError: something that is no number.
        ValueError: NaN or infinite.
    """
    try:
        number = float("" if isinstance(value, (str, bytes, bool)) else value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where} must be a number, got {type(value).__name__}") from error
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number):
        raise ValueError(f"{where} must be a finite number, got {number}")
    return number


def check_depth_scale(scale: Any, where: str) -> float:
    """Metres per unit of an integer depth.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite, zero, negative, or no unit of length at all.
    """
    number = check_number(scale, where)
    low, high = DEPTH_SCALES
    if not number > 0:
        raise ValueError(f"{where} must be > 0, got {number:g}; 0.001 stands for millimetres")
    if not low <= number <= high:
        raise ValueError(
            f"{where} must lie in {low:g}..{high:g} metres per unit, got {number:g}; 0.001 stands "
            "for millimetres"
        )
    return number


def check_image(image: Any, where: str) -> np.ndarray:
    """A colour image as [H, W, 3] uint8.

    Raises:
        TypeError: not uint8.
        ValueError: another shape.
    """
    array = to_numpy(image, where)
    if array.dtype != np.uint8:
        raise TypeError(f"{where} must be uint8 (0-255), got {array.dtype}")
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"{where} must have shape [H, W, 3], got {list(array.shape)}")
    return np.ascontiguousarray(array)


def check_depth(depth: Any, scale: float, where: str) -> np.ndarray:
    """A depth image as [h, w] float32 metres, 0 where nothing was measured.

    Raises:
        TypeError: elements that are not numbers.
        ValueError: another shape, negative depth, or floating point depth beyond `MAX_DEPTH`.
    """
    array = to_numpy(depth, where)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{where} must have shape [h, w], got {list(array.shape)}")
    if array.dtype.kind in "iu":
        metres = (array * np.float64(scale)).astype(np.float32)
    else:
        with np.errstate(over="ignore"):  # becomes infinite, which is too far
            metres = np.nan_to_num(array, nan=0, posinf=0, neginf=0).astype(np.float32)
    low, high = float(metres.min()), float(metres.max())
    if low < 0:
        raise ValueError(f"{where}: depth must be >= 0, got {low:g}")
    if high > MAX_DEPTH:
        raise ValueError(
            f"{where}: depth reaches {high:g} m; floating point depth must be metres, "
            "millimetres must be unsigned integers (see depth_scale)"
        )
    return metres


def check_intrinsics(intrinsics: Any, where: str) -> np.ndarray:
    """K of a pinhole camera without skew as [3, 3] float64.

    Raises:
        TypeError: elements that are not numbers.
        ValueError: missing, another shape, focal lengths out of `FOCAL_LENGTHS`, skew, or a
            matrix that is no K.
    """
    if intrinsics is None:
        raise ValueError(f"{where} is missing; pass the 3x3 camera matrix K in pixels")
    array = to_numpy(intrinsics, where).astype(np.float64)
    if array.shape not in ((3, 3), (3, 4), (4, 4)):
        raise ValueError(f"{where} must have shape [3, 3] or [4, 4], got {list(array.shape)}")
    check_finite(array, where)
    matrix = np.ascontiguousarray(array[:3, :3])
    _check_focal_lengths(matrix, where)
    outside = [*matrix[2, :2], matrix[2, 2] - 1, matrix[1, 0] / matrix[1, 1]]
    outside += [*array[:3, 3:].flat, *array[3:, :3].flat]
    if np.abs(outside).max() > ROUNDING:
        raise ValueError(
            f"{where} must read [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {array.tolist()}"
        )
    if abs(matrix[0, 1]) > SKEW_TOLERANCE * matrix[0, 0]:
        raise ValueError(
            f"{where} has a skew of {matrix[0, 1]:g} px (row 0, column 1), which is not supported; "
            "undistort the images to a K whose skew is 0"
        )
    return matrix


def _check_focal_lengths(matrix: np.ndarray, where: str) -> None:
    fx, fy = matrix[0, 0], matrix[1, 1]
    low, high = FOCAL_LENGTHS
    if not (fx > 0 and fy > 0):
        raise ValueError(
            f"{where} needs positive focal lengths on its diagonal, got {fx:g} and {fy:g}"
        )
    if min(fx, fy) < low or max(fx, fy) > high:
        raise ValueError(
            f"{where} needs focal lengths of {low:g} to {high:g} pixels, got {fx:g} and {fy:g}; "
            "multiply fractions by the image's width (fx, cx) and height (fy, cy)"
        )


def check_principal_point(
    intrinsics: np.ndarray, size: tuple[int, int], where: str, image: str
) -> None:
    """Check that K does not plainly belong to an image of another size.

    Raises:
        ValueError: the principal point lies outside the image.
    """
    (width, height), cx, cy = size, intrinsics[0, 2], intrinsics[1, 2]
    if not (0 <= cx <= width and 0 <= cy <= height):
        raise ValueError(
            f"{where}: the principal point ({cx:g}, {cy:g}) lies outside the {width}x{height} "
            f"{image}; pass K at that image's size"
        )


def check_pose(pose: Any, where: str) -> np.ndarray:
    """camera_to_world as [4, 4] float64: a rotation (nearly) and a translation.

    Raises:
        TypeError: elements that are not numbers.
        ValueError: missing, another shape, NaN or infinite, no rigid motion, or a camera
            farther from the origin than any cloud may lie.
    """
    if pose is None:
        raise ValueError(f"{where} is missing; pass the 4x4 camera-to-world pose")
    array = to_numpy(pose, where).astype(np.float64)
    if array.shape == (3, 4):
        array = np.vstack([array, (0, 0, 0, 1)])
    if array.shape != (4, 4):
        raise ValueError(f"{where} must have shape [4, 4], got {list(array.shape)}")
    check_finite(array, where)
    _check_rotation(array[:3, :3], where)
    if np.abs(array[3] - (0, 0, 0, 1)).max() > ROUNDING:
        raise ValueError(
            f"{where}: its last row must be 0 0 0 1, got {array[3].tolist()}; "
            "is the matrix transposed?"
        )
    farthest = float(np.abs(array[:3, 3]).max())
    if farthest > FARTHEST_CAMERA:
        raise ValueError(
            f"{where}: the camera lies {farthest:.6g} m from the origin; subtract an offset from "
            "the camera positions and from the points"
        )
    return array


def _check_rotation(matrix: np.ndarray, where: str) -> None:
    """Raise where RᵀR is not I or an axis is mirrored, and say what the matrix does instead."""
    with np.errstate(over="ignore", invalid="ignore"):
        gram = matrix.T @ matrix
        determinant = float(np.linalg.det(matrix))
        error = float(np.abs(gram - np.eye(3)).max())
    if error <= ROTATION_TOLERANCE and determinant > 0:
        return
    if not abs(determinant) > 1e-6:
        raise ValueError(
            f"{where} is singular (determinant {determinant:.3g}); its upper left 3x3 must be a "
            "rotation"
        )
    lengths = np.sqrt(gram.diagonal())
    if determinant < 0:
        fault = f"an axis is mirrored (determinant {determinant:.3g})"
    elif np.abs(lengths - 1).max() > ROTATION_TOLERANCE / 2:
        fault = "its axes have the lengths {:.4g}, {:.4g} and {:.4g}, not 1".format(*lengths)
    else:
        fault = (
            f"its axes are not at right angles (RᵀR is {np.abs(gram - np.eye(3)).max():.2g} off)"
        )
    raise ValueError(
        f"{where} is not a rigid motion: {fault}; use metres, and a 3x3 that only rotates"
    )
