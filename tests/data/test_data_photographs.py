"""Photographs: what goes in comes out, in every depth and format, and damage is named."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from gen_jax.common.errors import UserError
from gen_jax.data import photograph_files, photographs
from gen_jax.data.images import ImageError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep_png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_formats_keep_every_bit(kind, channels, alpha, dtype):
    photo = photographs.Photograph(
        noise(7, 5, channels, dtype=dtype),
        noise(7, 5, 1, dtype=dtype) if alpha else None,
        icc=ICC,
    )
    data, notes = photograph_files.encode(photo, kind)
    again = photographs.read(data)
    as_rgb = any("written as RGB" in n for n in notes)
    assert as_rgb == (alpha and channels == 1 and dtype == np.uint16 and kind == "PNG")
    np.testing.assert_array_equal(again.pixels, photo.pixels.repeat(3 if as_rgb else 1, -1))
    assert again.pixels.dtype == dtype and again.depth == photo.depth
    assert (again.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(again.alpha, photo.alpha)
    if not (alpha and channels == 1 and kind == "TIFF"):  # of which Pillow reads nothing
        assert again.icc == ICC or notes
    assert again.kind == kind


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_keep_what_they_can_and_say_what_not(kind):
    smooth = np.uint8(np.linspace(40, 200, 64 * 48 * 3).reshape(64, 48, 3))
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    photo = photographs.Photograph(smooth, icc=ICC, exif=exif.tobytes(), dpi=(300.0, 300.0))
    data, notes = photograph_files.encode(photo, kind)
    again = photographs.read(data)
    assert np.abs(again.pixels.astype(int) - smooth).mean() < 3 and not notes
    assert again.icc == ICC
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x010F] == "a camera"
    deep = photographs.Photograph(np.uint16(smooth) * 257, noise(64, 48, 1, dtype=np.uint16))
    data, notes = photograph_files.encode(deep, kind)
    assert "8 bits" in notes[0] and photographs.read(data).depth == 8
    assert ("transparency" in notes[-1]) == (kind == "JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(orientation):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(pixels), "PNG", exif=exif.tobytes())
    found = photographs.read(data)
    from PIL import ImageOps

    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(found.pixels, want)
    again, _ = photograph_files.encode(found, "PNG")
    assert Image.open(io.BytesIO(again)).getexif().get(0x0112, 1) == 1


def test_odd_modes_come_as_gray_or_rgb():
    palette = Image.fromarray(noise(8, 8, 3)).quantize(16)
    assert photographs.read(saved(palette, "PNG")).pixels.shape == (8, 8, 3)
    clear = photographs.read(saved(palette, "PNG", transparency=0))
    assert clear.pixels.shape == (8, 8, 3) and clear.alpha.shape == (8, 8, 1)
    bits = Image.fromarray(noise(8, 8) > 128)
    assert photographs.read(saved(bits, "PNG")).pixels.shape == (8, 8, 1)
    cmyk = photographs.read(saved(Image.fromarray(noise(8, 8, 3)).convert("CMYK"), "JPEG"))
    assert cmyk.pixels.shape == (8, 8, 3) and "CMYK" in cmyk.notes[0]
    frames = [Image.fromarray(noise(8, 8, 3) // (i + 1)) for i in range(3)]
    animated = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert "3 frames" in photographs.read(animated).notes[0]


def test_sixteen_bits_are_not_eight():
    pixels = noise(6, 5, 3, dtype=np.uint16)
    found = photographs.read(deep_png(pixels[..., ::-1]))
    np.testing.assert_array_equal(found.pixels, pixels)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb")
    np.testing.assert_array_equal(photographs.read(buffer.getvalue()).pixels, pixels)


GOOD = saved(Image.fromarray(noise(32, 32, 3)), "JPEG")


@pytest.mark.parametrize(
    "data,word",
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (GOOD[: len(GOOD) // 2], "corrupt"),
        (deep_png(noise(6, 5, 3, dtype=np.uint16))[:60], "corrupt"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (saved(Image.fromarray(np.float32(noise(4, 4))), "TIFF"), "floating-point"),
        (b"II*\0" + b"\1" * 40, "corrupt"),
    ],
)
def test_damage_is_named(data, word):
    with pytest.raises(ImageError, match=word):
        photographs.read(data)


def test_a_bomb_is_refused_before_it_is_decoded():
    data = saved(Image.new("L", (3000, 3000)), "PNG")
    with pytest.raises(ImageError, match="3000x3000 pixels, at most 1000000"):
        photographs.read(data, max_pixels=1_000_000)
    before = Image.MAX_IMAGE_PIXELS
    photographs.read(data)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_name_says_the_format():
    import pathlib

    assert photograph_files.format_of(pathlib.Path("a.TIF")) == "TIFF"
    with pytest.raises(UserError, match=r"a\.gif"):
        photograph_files.format_of(pathlib.Path("a.gif"))
