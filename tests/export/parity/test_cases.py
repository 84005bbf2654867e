"""Reference files: what is refused, and that nothing is unpickled or half-written."""

import io
import os

import numpy as np
import pytest

from xmask3d_rt.export.parity.cases import (
    CASE_INPUTS,
    ArrayFile,
    read_arrays,
    read_case,
    write_arrays,
)


class Touch:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_arrays_survive_a_round_trip(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "names": np.array(["0", "186"])}
    write_arrays(tmp_path / "case.npz", arrays)
    back = read_arrays(tmp_path / "case.npz")
    assert set(back) == {"a", "names"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    assert back.path == tmp_path / "case.npz"


def test_missing_array_names_file_and_content(tmp_path):
    write_arrays(tmp_path / "case.npz", {"a": np.zeros(1)})
    with pytest.raises(ValueError, match=r"case\.npz has no array 'label_3d'; it has a"):
        read_arrays(tmp_path / "case.npz")["label_3d"]


def test_missing_file_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_arrays(tmp_path / "none.npz")


def make_npz(arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def make_npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


WHOLE = make_npz({"a": np.random.default_rng(0).normal(size=1000)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive at all",
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:200] + bytes(100) + WHOLE[300:],
        make_npy(np.zeros(3)),
    ],
    ids=["empty", "text", "truncated", "damaged", "npy"],
)
def test_other_files_rejected_in_one_line(tmp_path, content):
    path = tmp_path / "case.npz"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"case\.npz is not an \.npz file of plain arrays"
    ) as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


def test_pickles_are_never_opened(tmp_path):
    made = tmp_path / "made"
    np.savez(tmp_path / "case.npz", a=np.array([Touch(str(made))], dtype=object))
    with pytest.raises(ValueError, match=r"not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "case.npz")
    assert not made.exists()


def test_recording_under_another_suffix_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        write_arrays(tmp_path / "case.txt", {"a": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_failed_recording_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        write_arrays(tmp_path / "case.npz", {"a": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def inputs(tmp_path):
    K = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    return ArrayFile(
        tmp_path / "in.npz",
        {
            "points_xyz": np.zeros((2, 3), np.float32),
            "points_rgb": np.zeros((2, 3), np.uint8),
            "image_orig": np.zeros((48, 64, 3), np.uint8),
            "depth_320x240_mm": np.full((24, 32), 1500, np.uint16),
            "pose": np.eye(4),
            "K640": K,
        },
    )


def test_case_is_cloud_and_view(inputs):
    cloud, view = read_case(inputs)
    assert len(cloud) == 2
    np.testing.assert_allclose(view.read_depth(), 1.5)
    np.testing.assert_array_equal(view.intrinsics, inputs["K640"])


@pytest.mark.parametrize("name", CASE_INPUTS)
def test_incomplete_case_rejected(inputs, name):
    del inputs[name]
    with pytest.raises(ValueError, match=rf"in\.npz has no array '{name}'; the inputs of a case"):
        read_case(inputs)
