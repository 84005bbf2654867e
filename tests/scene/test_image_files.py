"""Colour and depth images: what is read from which pixels, and how the rest is refused."""

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from fuzzing import FUZZ, assert_clear, assert_handled, mutate
from hypothesis import given
from PIL import Image

from xmask3d_rt.scene.image_files import read_color, read_depth, read_ids

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
DEPTH = np.random.default_rng(1).integers(0, 6000, (12, 16)).astype(np.uint16)


def encode(array, kind, **options):
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, array)
    else:
        Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["png", "tiff", "bmp", "webp"])
def test_colours(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encode(RGB, kind, **({"lossless": True} if kind == "webp" else {})))
    np.testing.assert_array_equal(read_color(path), RGB)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_of_16_bits_is_scaled(tmp_path, kind):
    wide = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / f"wide.{kind}")
    read = read_color(tmp_path / f"wide.{kind}")
    assert read.dtype == np.uint8
    expected = np.rint(wide / 257).astype(np.uint8)
    np.testing.assert_array_equal(read, np.repeat(expected[..., None], 3, axis=2))


def test_big_endian_grey_is_scaled(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0x80, 0x00, 0xFF, 0xFF]))
    np.testing.assert_array_equal(read_color(tmp_path / "a.pgm")[0, :, 0], [128, 255])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    flat = Image.fromarray(np.full((4, 6, 3), 255, np.uint8)).convert(mode)
    flat.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_color(tmp_path / "a.tif"), np.full((4, 6, 3), 255))


def test_transparent_palette_does_not_warn(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    image.save(tmp_path / "a.png", transparency=bytes(range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_color(tmp_path / "a.png")
    np.testing.assert_array_equal(read, np.asarray(image.convert("RGB")))


def test_first_of_several_frames_is_read(tmp_path):
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (9, 90)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert (read_color(tmp_path / "a.tif") == 9).all()


@pytest.mark.parametrize("kind", ["png", "tiff", "npy"])
def test_depth(tmp_path, kind):
    path = tmp_path / f"d.{kind.upper()}"
    path.write_bytes(encode(DEPTH, kind))
    np.testing.assert_array_equal(read_depth(path), DEPTH)


def test_depth_in_floats(tmp_path):
    metres = DEPTH.astype(np.float32) / 1000
    Image.fromarray(metres).save(tmp_path / "d.tif")
    np.testing.assert_array_equal(read_depth(tmp_path / "d.tif"), metres)


def test_label_images(tmp_path):
    path = tmp_path / "a.png"
    for ids in (DEPTH, (DEPTH % 256).astype(np.uint8)):
        Image.fromarray(ids).save(path)
        np.testing.assert_array_equal(read_ids(path), ids)
    palette = Image.fromarray((DEPTH % 4).astype(np.uint8)).convert("P")
    palette.save(path)
    np.testing.assert_array_equal(read_ids(path), DEPTH % 4)


@pytest.mark.parametrize(
    ("array", "read", "message"),
    [
        (DEPTH.astype(np.float32), read_color, "a.tiff holds no colours .its mode is F"),
        (DEPTH.astype(np.int32), read_color, "a.tiff holds no colours .its mode is I"),
        (
            (DEPTH // 256).astype(np.uint8),
            read_depth,
            "a.tiff is an 8-bit image: 256 steps",
        ),
        (RGB, read_ids, r"a.tiff is no label image \(mode RGB\); give a one-channel PNG of ids"),
        (RGB, read_depth, r"a.tiff is a colour image \(mode RGB\), not depth; give a one-channel"),
    ],
)
def test_wrong_pixels_rejected(tmp_path, array, read, message):
    path = tmp_path / "a.tiff"
    Image.fromarray(array).save(path)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert_clear(error.value, path)


@pytest.mark.parametrize("read", [read_color, read_depth])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        encode(DEPTH, "png")[:70],
        encode(DEPTH, "png")[:-30],
        encode(DEPTH, "tiff")[:100],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_damaged_images_rejected(tmp_path, read, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image") as error:
        read(path)
    assert_clear(error.value, path)


@pytest.mark.parametrize(
    ("size", "message"),
    [((200_000, 200_000), "exceeds limit"), ((9000, 9000), "claims 9000x9000 pixels, but has")],
)
def test_sizes_beyond_the_file_rejected(tmp_path, size, message):
    content = bytearray(encode(RGB, "bmp"))
    content[18:26] = b"".join(extent.to_bytes(4, "little") for extent in size)
    path = tmp_path / "bomb.bmp"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_color(path)
    assert_clear(error.value, path)


@pytest.mark.parametrize("damage", [b"", b"\xff\xff\xff\x7f"])
def test_pillow_does_not_warn(damage):
    """In a process of its own: a test has warning filters of its own."""
    code = f"""
import io, pathlib, tempfile
from PIL import Image
from xmask3d_rt.scene.image_files import read_color
Image.MAX_IMAGE_PIXELS = 150
path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
Image.new("RGB", (16, 12)).save(path)
content = bytearray(path.read_bytes())
content[-8:-8 + len({damage!r})] = {damage!r}
path.write_bytes(content)
try: read_color(path)
except ValueError: pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        encode(DEPTH, "npy")[:40],
        encode(DEPTH, "npy")[:-1],
        encode(DEPTH, "npy").replace(b"(12, 16)", b"(9999999, 9999999)"),
        encode(DEPTH, "npy").replace(b"(12, 16)", b"((((((((((("),
        encode(np.array([[None]]), "npy"),
    ],
)
def test_damaged_arrays_rejected(tmp_path, content):
    path = tmp_path / "d.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"d\.npy ") as error:
        read_depth(path)
    assert_clear(error.value, path)


def test_archive_named_npy_rejected(tmp_path):
    np.savez(tmp_path / "d.npz", depth=DEPTH)
    path = (tmp_path / "d.npz").rename(tmp_path / "d.npy")
    with pytest.raises(ValueError, match=r"d\.npy"):
        read_depth(path)


def test_missing_files_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.jpg"):
        read_color(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"d\.npy"):
        read_depth(tmp_path / "d.npy")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_broken_colour_images(scratch, kind):
    path = scratch / f"a.{kind}"

    @FUZZ
    @given(mutate([encode(RGB, kind), encode(RGB[..., 0], kind)]))
    def check(content):
        path.write_bytes(content)
        image = assert_handled(lambda: read_color(path), path)
        assert image is None or (image.dtype == np.uint8 and image.shape[2] == 3)

    check()


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["png", "tiff", "npy"])
def test_broken_depth_images(scratch, kind):
    path = scratch / f"d.{kind}"

    @FUZZ
    @given(mutate([encode(DEPTH, kind), encode(DEPTH[::3], kind)]))
    def check(content):
        path.write_bytes(content)
        depth = assert_handled(lambda: read_depth(path), path)
        assert depth is None or isinstance(depth, np.ndarray)

    check()
