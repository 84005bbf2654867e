"""Matrices from text files in every harmless layout, and what other counts of numbers mean."""

import numpy as np
import pytest
from fuzzing import assert_clear

from xmask3d_rt.scene.matrix_files import read_camera_matrix, read_pose
from xmask3d_rt.scene.text_files import read_text

POSE = np.array([[0.0, -1, 0, 0.25], [1, 0, 0, -2], [0, 0, 1, 1e-3], [0, 0, 0, 1]])
K = np.array([[520.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])
ONE_LINE = " ".join(f"{value:.9g}" for value in POSE.ravel())


@pytest.mark.parametrize(
    "text",
    [
        ONE_LINE,
        "\n".join(ONE_LINE.split()),
        ONE_LINE.replace(" ", ", "),
        ONE_LINE.replace(" ", ";"),
        "# camera to world\n\n0 -1 0 0.25  # x\n1 0 0 -2\n0 0 1 1e-3\n// last\n0 0 0 1\n\n",
        "[[0, -1, 0, 0.25],\n [1, 0, 0, -2],\n [0, 0, 1, 0.001],\n [0, 0, 0, 1]]",
        "0\t-1\t0\t0.25\r\n1\t0\t0\t-2\r\n0\t0\t1\t0.001\r\n0\t0\t0\t1\r\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_pose_of_16_numbers(tmp_path, text, encoding):
    path = tmp_path / "0.txt"
    path.write_bytes(text.encode(encoding))
    np.testing.assert_array_equal(read_pose(path, "the pose"), POSE)


def test_pose_of_12_numbers(tmp_path):
    path = tmp_path / "0.txt"
    path.write_text(" ".join(ONE_LINE.split()[:12]))
    np.testing.assert_array_equal(read_pose(path, "the pose"), POSE[:3])
    np.savetxt(path, POSE[:3])
    np.testing.assert_array_equal(read_pose(path, "the pose"), POSE[:3])


def test_comments_may_have_any_encoding(tmp_path):
    path = tmp_path / "0.txt"
    path.write_bytes("# caméra\n".encode("latin-1") + ONE_LINE.encode())
    np.testing.assert_array_equal(read_pose(path, "the pose"), POSE)


@pytest.mark.parametrize(
    "text",
    [
        "520 0 319.5 0 525 239.5 0 0 1",
        "520 0 319.5\n0 525 239.5\n0 0 1",
        '{"fx": 520, "fy": 525.0, "cx": 319.5, "cy": 2.395e2}',
        '{\n "width": 640, "height": 480,\n "cy": 239.5, "cx": 319.5, "FY": 525, "FX": 520\n}\n',
        "fx = 520\nfy = 525\ncx = 319.5\ncy = 239.5\n",
        "fx: 520\nfy: 525\ncx: 319.5\ncy: 239.5  # pixels\n",
    ],
)
def test_camera_matrix(tmp_path, text):
    path = tmp_path / "k.txt"
    path.write_text(text)
    np.testing.assert_array_equal(read_camera_matrix(path, "K"), K)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is missing: the file is empty"),
        ("hello", "not a matrix of numbers: .*'hello'"),
        ("0.1 0.2 0.3 0 0 0 1", "has 7 numbers, which seem to be tx ty tz qx qy qz qw"),
        ("1305031.1 0.1 0.2 0.3 0 0 0 1", "8 numbers, which seem to be a time stamp and tx ty tz"),
        ("1 0 0\n0 1 0\n0 0 1", "has 9 numbers in 3 lines; write 3x4 or 4x4 numbers, row by"),
        ("1 0 0\n0 1 0\n0 0 1\n2 3 4", "has 4 lines of 3 numbers; write its transpose"),
        (ONE_LINE + "\n" + ONE_LINE, "has 32 numbers in 2 lines"),
        ("0 0 0 1", "has 4 numbers in 1 lines; write 3x4 or 4x4 numbers, row by row"),
        ('{"rotation": [1, 0, 0]}', "not a matrix of numbers"),
    ],
)
def test_other_poses_rejected(tmp_path, text, message):
    path = tmp_path / "0.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_pose(path, "the pose")
    assert_clear(error.value, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("520 525 319.5 239.5", "fx fy cx cy; as 3x3 matrix: 520 0 319.5 / 0 525 239.5 / 0 0 1"),
        (
            "520 525 319.5 239.5 0.1 0 0 0",
            "fx fy cx cy and 4 distortions; undistort the images",
        ),
        ('{"fx": 520, "fy": 525, "cx": 319.5}', "is not understood: names other than fx, fy, cx"),
        ('{"fx": 520, "fy": 525, "cx": 319.5, "cy": 239.5, "k1": 0.1}', "is not understood"),
        ('{"fx": 520, "fx": 2, "fy": 525, "cx": 319.5, "cy": 239.5}', "is not understood"),
        ('{"camera": {"fx": 520, "fy": 525, "cx": 319.5, "cy": 239.5}}', "is not understood"),
        ('{"fx": 5.2.0, "fy": 525, "cx": 319.5, "cy": 239.5}', "not made of numbers"),
        ("K: [520, 0, 319.5, 0, 525, 239.5, 0, 0, 1]", "is not understood"),
    ],
)
def test_other_intrinsics_rejected(tmp_path, text, message):
    path = tmp_path / "k.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_camera_matrix(path, "K")
    assert_clear(error.value, path)


def test_missing_and_large_files_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*0\.txt"):
        read_pose(tmp_path / "0.txt", "the pose")
    (tmp_path / "0.txt").write_text("1 " * 100_000)
    with pytest.raises(ValueError, match=r"0\.txt has 200,000 bytes; expected a text of 65,536 at"):
        read_pose(tmp_path / "0.txt", "the pose")


def test_text_in_another_encoding_rejected(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("mur\ncanapé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 text \(byte 0xe9 in line 2; "):
        read_text(path)
    path.write_bytes(b"\xff\xfeabc")
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-16 text"):
        read_text(path)
