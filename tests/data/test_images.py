"""Reading and resizing images and masks: every mode, every way a file can be wrong."""

import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal
from PIL import Image

from sowa.data import decode_image, read_image, read_mask, resize_image, resize_mask, to_rgb
from sowa.errors import InputError

HEIGHT, WIDTH = 5, 7
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be large and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff_12_bit(values: tuple[int, int]) -> bytes:
    """Two grey pixels of 12 bits, which Pillow reads but doesn't write."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    first, second = values
    pixels = bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255, 0])
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 12) + pixels + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_rgb_comes_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a{suffix}", RGB, **({"lossless": True} if suffix == ".webp" else {})))
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert_array_equal(image, RGB)


def test_grey_1_bit_and_palette(tmp_path: Path) -> None:
    assert_array_equal(read_image(save(tmp_path / "l.png", GREY)), as_rgb(GREY))
    bits = GREY > 127
    assert_array_equal(read_image(save(tmp_path / "1.png", bits)), as_rgb(bits * np.uint8(255)))
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "p.png")
    assert_array_equal(read_image(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))


def test_transparency_is_white(tmp_path: Path) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[0] = 0
    expected = RGB.copy()
    expected[0] = 255
    assert_array_equal(read_image(save(tmp_path / "rgba.png", np.dstack([RGB, alpha]))), expected)
    la = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    la.save(tmp_path / "la.png")
    assert_array_equal(read_image(tmp_path / "la.png")[0], 255)
    assert_array_equal(read_image(tmp_path / "la.png")[1:], as_rgb(GREY)[1:])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=b"\x00\xff")
    assert read_image(tmp_path / "p.png").tolist() == [[[255] * 3, [40, 50, 60]]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled_by_257(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 128, 129, 257 * 7, 65535]], np.uint16)
    expected = as_rgb(np.array([[0, 0, 1, 7, 255]], np.uint8))
    assert_array_equal(read_image(save(tmp_path / f"a{suffix}", deep)), expected)
    assert_array_equal(to_rgb(Image.fromarray(deep.astype(np.int32))), expected)


def test_12_bit_tiff_is_scaled_by_its_own_depth() -> None:
    assert decode_image(tiff_12_bit((4095, 2048)), "a")[0, :, 0].tolist() == [255, 128]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 0.2, 0.4], [0, 51, 102]),
        ([0.0, 7.0, 200.0], [0, 7, 200]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
    ],
)
def test_float_is_scaled_by_the_first_range_that_holds_it(
    tmp_path: Path, values: list[float], expected: list[int]
) -> None:
    path = save(tmp_path / "f.tif", np.array([values], np.float32))
    assert read_image(path)[0, :, 0].tolist() == expected


def test_float_with_nan_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "f.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(InputError, match=r"f\.tif holds NaN or infinity"):
        read_image(path)


def test_cmyk(tmp_path: Path) -> None:
    red = np.full((16, 16, 3), (200, 10, 10), np.uint8)
    image = read_image(save(tmp_path / "a.jpg", red, "CMYK", quality=95))
    assert np.abs(image.astype(int) - red).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_exif_orientation_is_applied_to_image_and_mask(tmp_path: Path, orientation: int, suffix: str) -> None:
    big = np.zeros((32, 48), np.uint8)
    big[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", big, exif=exif, **({"quality": 100} if suffix == ".jpg" else {}))
    turned = {
        **{1: big, 2: big[:, ::-1], 3: big[::-1, ::-1], 4: big[::-1]},
        **{5: big.T, 6: np.rot90(big, -1), 7: big[::-1, ::-1].T, 8: np.rot90(big)},
    }[orientation]
    assert_array_equal(read_image(path)[..., 0] > 127, turned > 127)
    assert_array_equal(read_mask(path, turned.shape), turned > 0)


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", RGB, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(path).shape == RGB.shape


@pytest.mark.parametrize(("suffix", "kind"), [(".gif", "GIF"), (".tif", "TIFF"), (".jpg", "MPO")])
def test_first_frame_is_taken(tmp_path: Path, suffix: str, kind: str) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(tmp_path / f"a{suffix}", kind, save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / f"a{suffix}").max() == 0


def test_unicode_and_upper_case_names(tmp_path: Path) -> None:
    path = save(tmp_path / "Zahnbürste 検査.PNG", RGB)
    assert_array_equal(read_image(path), RGB)
    assert_array_equal(read_image(str(path)), RGB)


def noise(kind: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        stream, kind, **options
    )
    return stream.getvalue()


BROKEN = {
    "zero bytes": (b"", r"is empty \(0 bytes\)"),
    "text": (b"not an image\n" * 50, "its format is unknown"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "its format is unknown"),
    "truncated JPEG": (noise("JPEG")[:1500], "broken or not an image"),
    "truncated PNG": (noise("PNG")[:1500], "broken or not an image"),
    "truncated TIFF": (noise("TIFF")[:1500], "broken or not an image"),
    "truncated BMP": (noise("BMP")[:1500], "broken or not an image"),
    "truncated WebP": (noise("WEBP")[:300], "broken or not an image"),
    "header only": (noise("PNG")[:33], "broken or not an image"),
    "bomb over our limit": (bomb(12000, 12000), "12000 x 12000, more than the 134217728 pixels allowed"),
    "bomb over Pillow's limit": (bomb(2**31 - 1, 2**31 - 1), "more than the 134217728 pixels allowed"),
    "large and empty": (bomb(10000, 10000), "broken or not an image"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_line(tmp_path: Path, name: str) -> None:
    data, message = BROKEN[name]
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        decode_image(data, "upload.png")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="isn't a file"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="can't be opened"):
        read_image(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="can't be opened"):
        read_image("a\0b")


@settings(max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"]), st.data())
def test_damaged_bytes_give_an_image_or_an_input_error(kind: str, data: st.DataObject) -> None:
    stream = bytearray(noise(kind))
    for _ in range(data.draw(st.integers(1, 8))):
        stream[data.draw(st.integers(0, min(400, len(stream) - 1)))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        assert decode_image(bytes(stream), "a").ndim == 3


def test_pillows_warnings_stay_inside() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(InputError):
            decode_image(bomb(10000, 10000), "large")
    assert not seen


def test_mask_is_anomalous_above_zero(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    expected = ids > 0
    assert_array_equal(read_mask(save(tmp_path / "l.png", ids)), expected)
    assert_array_equal(read_mask(save(tmp_path / "1.png", expected)), expected)
    assert_array_equal(read_mask(save(tmp_path / "16.png", ids.astype(np.uint16))), expected)
    assert_array_equal(read_mask(save(tmp_path / "f.tif", ids.astype(np.float32) / 1000)), expected)
    blue = np.zeros((1, 4, 3), np.uint8)
    blue[..., 2] = ids
    assert_array_equal(read_mask(save(tmp_path / "rgb.png", blue)), expected)
    assert read_mask(tmp_path / "rgb.png").dtype == bool


def test_palette_and_transparent_masks(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # as an optimiser may order black and white
    palette.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png").tolist() == [[True, False]]
    rgba = np.array([[[255, 0, 0, 255], [255, 255, 255, 0], [0, 0, 0, 255]]], np.uint8)
    assert read_mask(save(tmp_path / "a.png", rgba)).tolist() == [[True, False, False]]


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", GREY)
    assert read_mask(path, (HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH)
    with pytest.raises(InputError, match=r"is 5 x 7 and its image 7 x 5 .*must have its image's size: .* or "):
        read_mask(path, (WIDTH, HEIGHT))


masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24))
sides = st.integers(1, 40)


@given(masks, sides, sides, st.integers(0, 23))
def test_resized_mask(mask: np.ndarray, height: int, width: int, column: int) -> None:
    resized = resize_mask(mask, (height, width))
    assert resized.shape == (height, width)
    assert resized.dtype == bool
    if mask.all() or not mask.any():
        assert (resized == mask.flat[0]).all()
    assert_array_equal(resize_mask(mask, mask.shape), mask)
    more = mask.copy()
    more[:, column % mask.shape[1]] = True
    assert (resize_mask(more, (height, width)) >= resized).all()


def test_resized_mask_is_binarised_above_one_half() -> None:
    assert resize_mask(np.array([[True, False]]), (1, 1)).tolist() == [[True]]  # 128 of 255, as the method's code
    assert resize_mask(np.array([[True, False, False]]), (1, 1)).tolist() == [[False]]
    square = np.zeros((40, 40), bool)
    square[10:30, 10:30] = True
    assert resize_mask(square, (20, 20)).sum() == 100


def test_resize_image() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    small = resize_image(as_rgb(board.astype(np.uint8)), (16, 8))
    assert small.shape == (16, 8, 3)
    assert small.dtype == np.uint8
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 2  # without antialiasing it'd be black or white
    assert_array_equal(resize_image(RGB, (HEIGHT, WIDTH)), RGB)


@pytest.mark.parametrize("resize", [lambda: resize_image(RGB, (0, 5)), lambda: resize_mask(GREY > 0, (5, -1))])
def test_sides_below_one_are_refused(resize: object) -> None:
    with pytest.raises(InputError, match="both sides must be 1 or more"):
        resize()  # type: ignore[operator]
