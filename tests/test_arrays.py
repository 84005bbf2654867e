"""Arrays of NumPy files: what is read, what their headers may not claim, and masked arrays."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzzing import FUZZ, assert_handled, mutate
from hypothesis import given

from xmask3d_rt.arrays import read_array, read_arrays, to_numpy
from xmask3d_rt.scene.image_files import read_depth

TABLE = np.random.default_rng(5).normal(size=(4, 6))


def make_npy(array, version=None):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), version)
    return stream.getvalue()


def make_npz(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def claim(shape, descr="<f8", body=b"", order=False):
    """An .npy file whose header says what it likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "array",
    [TABLE, TABLE.T, TABLE[:0], np.float32(3), np.array(["0", "186"]), TABLE.astype(">i2")],
    ids=["table", "fortran", "empty", "scalar", "strings", "big endian"],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_read_as_numpy_does(tmp_path, array, version):
    path = tmp_path / "a.npy"
    path.write_bytes(make_npy(array, version))
    found, wanted = read_array(path), np.load(path)
    np.testing.assert_array_equal(found, wanted)
    assert (found.dtype, found.flags.f_contiguous) == (wanted.dtype, wanted.flags.f_contiguous)
    assert found.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_chosen_arrays_of_an_archive(tmp_path, save):
    path = tmp_path / "a.npz"
    path.write_bytes(make_npz(save, xyz=TABLE, names=np.array([{}], dtype=object)))
    found = read_arrays(path, ("xyz", "rgb"))
    assert list(found) == ["xyz"]
    assert found.held == ("xyz", "names")
    np.testing.assert_array_equal(found["xyz"], TABLE)
    with pytest.raises(ValueError, match="has no array 'rgb'; it has xyz, names"):
        found["rgb"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot mmap an empty file"),
        (b"junk", "magic string"),
        (make_npy(TABLE)[:-1], r"claims shape \[4, 6\] of float64, the file holds 191 bytes"),
        (
            make_npy(TABLE) + make_npy(TABLE),
            r"claims shape \[4, 6\] of float64, the file holds 512",
        ),
        (claim((2147483647, 6)), "claims shape"),
        (claim((-1, 6), body=bytes(96)), "claims shape"),
        (claim((10**30,), "|V0"), ""),
        (claim((1,), "|O", bytes(8)), "Python objects"),
        (claim("(((", body=bytes(8)), ""),
        (claim((1,), "<f9", bytes(8)), ""),
        (b"\x93NUMPY\x03\x00" + bytes(20), r"version is 3\.0"),
        (make_npz(a=TABLE), "magic string"),
    ],
)
def test_other_arrays_rejected(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.npy is not an \.npy file.*{message}") as caught:
        read_array(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"a\.npy is not an \.npy file"):
        read_depth(path)


def test_missing_array_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_array(tmp_path / "none.npy")


def test_archive_that_unpacks_without_end_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr("xmask3d_rt.arrays.MAX_UNPACKED", 1 << 20)
    path = tmp_path / "bomb.npz"
    path.write_bytes(make_npz(np.savez_compressed, xyz=np.zeros((1 << 16, 3))))
    with pytest.raises(ValueError, match=r"bomb\.npz .* bytes claim to unpack to 1572992"):
        read_arrays(path)


def test_member_that_claims_more_than_it_holds_rejected(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xyz.npy", claim((1 << 40, 3), body=bytes(24)))
    with pytest.raises(ValueError, match=r"a\.npz .*claims shape .* the file holds 24 bytes"):
        read_arrays(path)


def test_masked_entries_rejected():
    masked = np.ma.masked_invalid([[0, 1, np.nan]])
    with pytest.raises(ValueError, match="run: points has 1 masked entries; remove them"):
        to_numpy(masked, "run: points")
    whole = to_numpy(np.ma.masked_array(TABLE), "run: points")
    assert type(whole) is np.ndarray
    np.testing.assert_array_equal(whole, TABLE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.fuzz
@FUZZ
@given(content=mutate([make_npy(TABLE), make_npy(TABLE.astype("<i4").T), make_npy(["a", "b"])]))
def test_broken_array_is_handled(folder: Path, content):
    path = folder / "broken.npy"
    path.write_bytes(content)
    assert_handled(lambda: read_array(path), path)


@pytest.mark.fuzz
@FUZZ
@given(
    content=mutate(
        [make_npz(xyz=TABLE), make_npz(np.savez_compressed, a=TABLE, b=np.arange(3), c=["d"])]
    )
)
def test_broken_archive_is_handled(folder: Path, content):
    path = folder / "broken.npz"
    path.write_bytes(content)
    assert_handled(lambda: read_arrays(path), path)
