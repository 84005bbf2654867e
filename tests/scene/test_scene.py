"""Point clouds and views at the boundary: what is taken, and how the rest is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from xmask3d_rt.scene.cloud import PointCloud, as_point_cloud
from xmask3d_rt.scene.view import View

XYZ = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
RGB = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
K = np.array([[500.0, 0, 32], [0, 500, 24], [0, 0, 1]])
POSE = np.eye(4)
IMAGE = np.zeros((48, 64, 3), np.uint8)
DEPTH = np.full((24, 32), 1500, np.uint16)
STRETCHED = np.diag([1.25, 0.8, 1, 1])  # determinant 1
SHEARED = np.array([[1, 0.03, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # determinant 1
FAR = np.eye(4) + 4.1e6 * np.eye(4, k=3)


class CudaArrayOnly:
    """An array as PyCUDA hands it over; the protocol alone, on no device."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (4, 3), "typestr": "<f4", "data": (0, False), "version": 3}


class DlpackOnly:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a,
        lambda a: a.astype(np.float64),
        lambda a: a.tolist(),
        lambda a: np.asfortranarray(a),
        torch.from_numpy,
        lambda a: torch.from_numpy(a).requires_grad_(),
        DlpackOnly,
    ],
    ids=["float32", "float64", "list", "fortran", "torch", "grad", "dlpack"],
)
def test_points_of_every_kind(convert):
    cloud = as_point_cloud(convert(np.hstack([XYZ, RGB.astype(np.float32)])))
    np.testing.assert_array_equal(cloud.xyz, XYZ)
    np.testing.assert_array_equal(cloud.rgb, RGB)
    assert cloud.xyz.dtype == np.float32
    assert cloud.rgb.dtype == np.uint8
    assert cloud.xyz.flags.c_contiguous
    assert cloud.rgb.flags.c_contiguous


def test_cuda_array_goes_through_torch(monkeypatch):
    monkeypatch.setattr(torch, "as_tensor", lambda value, device: torch.from_numpy(XYZ))
    np.testing.assert_array_equal(as_point_cloud(CudaArrayOnly()).xyz, XYZ)


def test_points_without_colour():
    cloud = as_point_cloud(XYZ)
    assert cloud.rgb is None
    assert len(cloud) == 4
    with pytest.raises(ValueError, match="run: the cloud has no colours"):
        cloud.require_rgb()


def test_point_cloud_passes_through():
    cloud = PointCloud(XYZ, RGB)
    assert as_point_cloud(cloud) is cloud
    assert cloud.require_rgb() is cloud.rgb


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        (
            np.zeros((812, 4)),
            ValueError,
            r"run: points must have shape \[N, 3\] or \[N, 6\], got \[812, 4\]; "
            r"pass xyz or xyz\+rgb",
        ),
        (np.zeros(3), ValueError, r"got \[3\]"),
        (np.zeros((2, 3, 3)), ValueError, r"got \[2, 3, 3\]"),
        (np.zeros((0, 3)), ValueError, "points is empty"),
        ([], ValueError, "points is empty"),
        ([[0.0, 1.0, 2.0], [0.0]], ValueError, "not a rectangular array"),
        (np.zeros((2, 3), complex), TypeError, "dtype complex128"),
        (np.zeros((2, 3), bool), TypeError, "dtype bool"),
        ([["a", "b", "c"]], TypeError, "real numbers"),
        ([[0, np.nan, 0], [np.inf, 0, 0]], ValueError, r"2 NaN or infinite .* index \[0, 1\]"),
        ([[0, 0, 0, 0, 0, 256]], ValueError, "0..255, got values from 0 to 256"),
        ([[0, 0, 0, -1, 0, 255]], ValueError, "0..255, got values from -1"),
        ([[0, 0, 0, 0.5, 0.1, 1.0]], ValueError, "multiply by 255"),
        ([[0, 0, 0, 0, 0, np.nan]], ValueError, "rgb has 1 NaN"),
        ([[4.1e6, 0, 0]], ValueError, "subtract an offset"),
    ],
)
def test_bad_points_rejected(points, error, message):
    with pytest.raises(error, match=message):
        as_point_cloud(points)


def test_point_cloud_shapes_rejected():
    with pytest.raises(ValueError, match=r"xyz must have shape \[N, 3\], got \[4, 6\]"):
        PointCloud(np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"rgb must have shape \[4, 3\]"):
        PointCloud(XYZ, RGB[:2])


def test_wide_cloud_warns_about_units(caplog):
    as_point_cloud([[0, 0, 0], [5200, 0, 0]])
    assert "must be metres" in caplog.text


def test_view_in_memory():
    view = View(IMAGE, DEPTH, K, POSE[:3])
    assert view.read_depth().dtype == np.float32
    np.testing.assert_allclose(view.read_depth(), 1.5)
    assert view.camera_to_world.shape == (4, 4)
    assert view.read_image() is view.image


def test_view_takes_lists_tensors_and_4x4_intrinsics():
    k4 = np.eye(4)
    k4[:3, :3] = K
    view = View(torch.from_numpy(IMAGE), None, k4, POSE.tolist())
    np.testing.assert_array_equal(view.intrinsics, K)
    assert view.read_depth() is None


def test_unmeasured_depth_becomes_zero():
    depth = np.array([[np.nan, 2.0], [np.inf, 0.0]], np.float32).repeat(12, 0).repeat(16, 1)
    read = View(IMAGE, depth, K, POSE).read_depth()
    assert set(np.unique(read)) == {0.0, 2.0}


def test_depth_scale():
    assert View(IMAGE, DEPTH, K, POSE, depth_scale=1 / 5000).read_depth()[0, 0] == np.float32(0.3)


def test_view_reads_files_late(tmp_path):
    Image.fromarray(IMAGE + 7).save(tmp_path / "a.png")
    Image.fromarray(DEPTH).save(tmp_path / "d.png")
    view = View(tmp_path / "a.png", str(tmp_path / "d.png"), K, POSE)
    assert view.name == "a"
    np.testing.assert_array_equal(view.read_image(), IMAGE + 7)
    np.testing.assert_allclose(view.read_depth(), 1.5)


def test_missing_and_broken_files_rejected(tmp_path):
    view = View(tmp_path / "gone.jpg", tmp_path / "gone.npy", K, POSE)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        view.read_image()
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        view.read_depth()
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.jpg cannot be read"):
        View(tmp_path / "text.jpg", None, K, POSE).read_image()
    Image.fromarray(IMAGE).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match="is a colour image"):
        View(IMAGE, tmp_path / "rgb.png", K, POSE).read_depth()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"camera_to_world": None}, ValueError, "camera_to_world is missing"),
        ({"camera_to_world": np.zeros((4, 4))}, ValueError, "camera_to_world is singular"),
        ({"camera_to_world": np.full((4, 4), -np.inf)}, ValueError, "16 NaN or infinite"),
        ({"camera_to_world": np.eye(3)}, ValueError, r"shape \[4, 4\], got \[3, 3\]"),
        ({"camera_to_world": np.diag([1, -1, 1, 1])}, ValueError, "not a rigid motion"),
        (
            {"camera_to_world": np.diag([9, 9, 9, 1])},
            ValueError,
            "not a rigid motion: its axes have the lengths 9, 9 and 9, not 1",
        ),
        ({"camera_to_world": STRETCHED}, ValueError, "lengths 1.25, 0.8 and 1, not 1"),
        ({"camera_to_world": SHEARED}, ValueError, "its axes are not at right angles"),
        ({"camera_to_world": np.diag([1.02, 1 / 1.02, 1, 1])}, ValueError, "not a rigid motion"),
        ({"camera_to_world": np.full((4, 4), 1e300)}, ValueError, "not a rigid motion|singular"),
        ({"camera_to_world": np.diag([1e-300, 1, 1, 1])}, ValueError, "is singular"),
        ({"camera_to_world": FAR}, ValueError, "lies 4.1e.06 m from the origin; subtract an off"),
        (
            {"camera_to_world": np.eye(4) + np.eye(4)[[3]].T @ np.array([[1, 2, 3, 0]])},
            ValueError,
            "transposed",
        ),
        ({"intrinsics": None}, ValueError, "intrinsics is missing"),
        ({"intrinsics": np.eye(2)}, ValueError, r"\[3, 3\] or \[4, 4\]"),
        ({"intrinsics": K * np.nan}, ValueError, "NaN"),
        ({"intrinsics": K * [[-1], [1], [1]]}, ValueError, "positive focal lengths"),
        ({"intrinsics": K.T}, ValueError, "must read"),
        ({"intrinsics": K * [[1], [1], [2]]}, ValueError, "must read"),
        ({"intrinsics": np.hstack([K, [[9], [0], [0]]])}, ValueError, "must read"),
        ({"intrinsics": K + [[0, 5, 0], [0, 0, 0], [0, 0, 0]]}, ValueError, "skew of 5 px"),
        ({"intrinsics": K * [[1e297], [1e297], [1]]}, ValueError, "focal lengths of 1 to 1e.06"),
        ({"intrinsics": K * [[1e-302], [1e-302], [1]]}, ValueError, "focal lengths of 1 to 1e.06"),
        ({"intrinsics": np.diag([0.8, 1.1, 1])}, ValueError, "multiply fractions by the image's"),
        ({"intrinsics": K * [[2.1], [2.1], [1]]}, ValueError, "outside the 64x48 image"),
        ({"image": IMAGE.astype(np.float32)}, TypeError, "uint8"),
        ({"image": IMAGE[..., 0]}, ValueError, r"\[H, W, 3\], got \[48, 64\]"),
        ({"depth": DEPTH[:, :20]}, ValueError, "image and depth disagree"),
        ({"depth": DEPTH.T}, ValueError, "image and depth disagree"),
        ({"depth": DEPTH[None]}, ValueError, r"\[h, w\], got \[1, 24, 32\]"),
        ({"depth": DEPTH.astype(np.float32)}, ValueError, "must be metres"),
        ({"depth": -np.ones((24, 32))}, ValueError, ">= 0"),
        ({"depth_intrinsics": K * 9}, ValueError, "must read"),
        ({"depth_intrinsics": K, "depth": DEPTH[:20]}, ValueError, "outside the 32x20 depth"),
        ({"depth_scale": 0}, ValueError, "depth_scale must be > 0"),
        ({"depth_scale": -0.001}, ValueError, "depth_scale must be > 0, got -0.001"),
        ({"depth_scale": np.nan}, ValueError, "depth_scale must be a finite number, got nan"),
        ({"depth_scale": np.inf}, ValueError, "depth_scale must be a finite number, got inf"),
        ({"depth_scale": 10**400}, ValueError, "depth_scale must be a finite number"),
        ({"depth_scale": 1e300}, ValueError, r"depth_scale must lie in 1e-06\.\.1000 metres"),
        ({"depth_scale": True}, TypeError, "depth_scale must be a number, got bool"),
        ({"depth_scale": None}, TypeError, "depth_scale must be a number, got NoneType"),
        ({"depth_scale": "0.001"}, TypeError, "depth_scale must be a number, got str"),
        ({"depth": np.full((24, 32), 1e300)}, ValueError, "must be metres"),
        ({"image": np.ma.masked_greater(IMAGE + 5, 2)}, ValueError, "image has 9216 masked"),
        ({"depth": np.ma.masked_less(DEPTH, 2000)}, ValueError, "depth has 768 masked entries"),
        ({"camera_to_world": np.ma.masked_equal(POSE, 0)}, ValueError, "has 12 masked entries"),
    ],
)
def test_bad_view_rejected(change, error, message):
    fields = {"image": IMAGE, "depth": DEPTH, "intrinsics": K, "camera_to_world": POSE}
    with pytest.raises(error, match=message):
        View(**(fields | change))


def test_fused_and_rounded_poses_are_taken(shared):
    for path in (shared / "scenes/kitchen/pose").iterdir():
        fused = np.loadtxt(path)
        for pose in (fused, fused.round(2)):
            assert View(IMAGE, None, K, pose).camera_to_world is not None


def test_rounded_intrinsics_are_taken():
    rounded = K + [[0, 1e-9, 0], [1e-9, 0, 0], [0, 0, 1e-9]]
    np.testing.assert_allclose(View(IMAGE, None, rounded, POSE).intrinsics, K, atol=1e-8)
    projection = np.hstack([K, np.zeros((3, 1))])
    np.testing.assert_array_equal(View(IMAGE, None, projection, POSE).intrinsics, K)


def test_depth_scale_of_any_number_type():
    for scale in (1, np.float32(0.5), np.int64(2)):
        assert View(IMAGE, DEPTH // 100, K, POSE, depth_scale=scale).depth[0, 0] == 15 * scale


def test_masked_arrays_without_masked_entries_are_taken():
    np.testing.assert_array_equal(View(np.ma.array(IMAGE), None, K, POSE).image, IMAGE)


def test_bad_depth_file_is_named(tmp_path):
    np.save(tmp_path / "deep.npy", np.full((24, 32), -1.0))
    view = View(IMAGE, tmp_path / "deep.npy", K, POSE, name="7")
    with pytest.raises(ValueError, match=r"View 7: .*deep\.npy: depth must be >= 0, got -1"):
        view.read_depth()
    np.save(tmp_path / "deep.npy", np.array([["a"]]))
    with pytest.raises(TypeError, match=r"View 7: .*deep\.npy must hold real numbers"):
        view.read_depth()


def test_name_of_several_lines_stays_one_line():
    view = View(IMAGE, None, K, POSE, name="a\nb\x1b[31m\udce9")
    assert view.name == r"a b\x1b[31m\udce9"
    with pytest.raises(ValueError) as error:
        View(IMAGE, None, K, None, name="a\nb")
    assert str(error.value).startswith("View a b: camera_to_world is missing")


def test_message_names_the_view():
    with pytest.raises(ValueError, match="View 186: camera_to_world is missing"):
        View(IMAGE, None, K, None, name="186")
