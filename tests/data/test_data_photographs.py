"""Photographs: what goes in comes out, in every depth and format, and damage is named."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from gen_jax.common.errors import UserError
from gen_jax.data.images import ImageError
from gen_jax.data.photographs import png_chunks, reading, writing
from gen_jax.data.photographs.photo_metadata import Metadata

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
    photo = reading.Photograph(
        noise(7, 5, channels, dtype=dtype),
        noise(7, 5, 1, dtype=dtype) if alpha else None,
        Metadata(icc=ICC),
    )
    data, notes = writing.encode(photo, kind)
    again = reading.read(data)
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.pixels.dtype == dtype and again.depth == photo.depth
    assert (again.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(again.alpha, photo.alpha)
    # PNG does not allow the profile of a color image in a gray one.
    is_odd = kind == "PNG" and channels == 1
    assert notes == (("PNG does not keep color profile",) if is_odd else ())
    assert again.metadata.icc == (None if is_odd else ICC) and again.kind == kind


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF of 16 bits"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(orientation, kind):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    png_data = saved(Image.fromarray(pixels), "PNG", exif=exif.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(png_data))))
    turned = [(0x0112, "H", 1, orientation, True)]
    if kind == "PNG":
        data = png_data
    elif kind == "TIFF":
        data = tiff(pixels, photometric="rgb", extratags=turned)
    else:
        data = tiff(pixels * np.uint16(257), photometric="rgb", extratags=turned)
        upright = upright * np.uint16(257)
    photo = reading.read(data)
    np.testing.assert_array_equal(photo.pixels, upright)
    again, _ = writing.encode(photo, kind.split()[0])
    assert Image.open(io.BytesIO(again)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_of_opaque_alpha_is_written_without_it(lossless):
    opaque = np.full((9, 8, 1), 255, np.uint8)
    photo = reading.Photograph(FLAT, opaque, Metadata(), lossless=lossless)
    data, notes = writing.encode(photo, "WEBP")
    assert reading.read(data).alpha is None and notes == ()


def png(pixels, *chunks):
    """A 16-bit or 8-bit PNG with chunks of any kind before its pixels."""
    return png_chunks.encode(pixels, chunks)


RGB8, RGB16 = noise(9, 8, 3), noise(9, 8, 3, dtype=np.uint16)
GRAY16 = noise(9, 8, 1, dtype=np.uint16)
ALPHA16 = np.uint16(np.arange(72).reshape(9, 8, 1) * 900 + 1000)
FLAT = np.broadcast_to(np.uint8([230, 60, 20]), (9, 8, 3))
PALETTE = Image.fromarray(RGB8).quantize(16)


@pytest.mark.parametrize(
    "data,pixels,alpha",
    [
        (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), None),
        (
            saved(PALETTE, "PNG", transparency=0),
            np.asarray(PALETTE.convert("RGB")),
            np.where(np.asarray(PALETTE) == 0, 0, 255)[..., None],
        ),
        (saved(PALETTE, "TIFF"), np.asarray(PALETTE.convert("RGB")), None),
        (saved(Image.fromarray(RGB8[..., 0] > 128), "TIFF"), (RGB8[..., :1] > 128) * 255, None),
        (saved(Image.fromarray(RGB8[..., :2], "LA"), "PNG"), RGB8[..., :1], RGB8[..., 1:2]),
        (tiff(RGB16, photometric="rgb"), RGB16, None),
        (tiff(RGB16, photometric="rgb", byteorder=">", compression="zlib"), RGB16, None),
        (tiff(RGB16.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), RGB16, None),
        (tiff(65535 - GRAY16[..., 0], photometric="miniswhite"), GRAY16, None),
        (cv2.imencode(".tif", RGB16[..., ::-1])[1].tobytes(), RGB16, None),  # LZW
        (
            tiff(np.dstack([RGB16, ALPHA16]), photometric="rgb", extrasamples=["unassalpha"]),
            RGB16,
            ALPHA16,
        ),
        (
            tiff(
                np.dstack([np.uint16(RGB16 * (ALPHA16 / 65535.0)), ALPHA16]),
                photometric="rgb",
                extrasamples=["assocalpha"],
            ),
            RGB16,
            ALPHA16,
        ),
        (png(RGB16, (b"tRNS", RGB16[2, 3].astype(">u2").tobytes())), RGB16, (2, 3)),
        (png(GRAY16, (b"tRNS", GRAY16[2, 3].astype(">u2").tobytes())), GRAY16, (2, 3)),
        (png(RGB8, (b"tRNS", RGB8[2, 3].astype(">u2").tobytes())), RGB8, (2, 3)),
        (png(np.dstack([GRAY16, ALPHA16])), GRAY16, ALPHA16),
        (saved(Image.fromarray(RGB8[..., 0]), "BMP"), RGB8[..., :1], None),
    ],
)
def test_every_kind_of_file_comes_as_it_is_meant(data, pixels, alpha):
    photo = reading.read(data)
    assert photo.pixels.shape == pixels.shape and not photo.notes
    # Divided by an alpha of 1000 or more of 65535, values are uncertain by that much.
    np.testing.assert_allclose(
        photo.pixels, pixels, atol=66 if data[:2] == b"II" and alpha is not None else 0
    )
    if isinstance(alpha, tuple):  # where the color key is
        alpha = np.full_like(photo.pixels[..., :1], photo.top)
        alpha[2, 3] = 0
    if alpha is None:
        assert photo.alpha is None
    else:
        np.testing.assert_array_equal(photo.alpha, alpha)


def in_lab():
    lab = ImageCms.profileToProfile(
        Image.fromarray(FLAT), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )  # fmt: skip
    return saved(lab, "TIFF", icc_profile=ICC)


def in_deep_lab():
    with Image.open(io.BytesIO(in_lab())) as image:
        lab = np.asarray(image).astype(np.int32)
    lab = np.dstack([lab[..., 0] * 257, (lab[..., 1:] - 256 * (lab[..., 1:] > 127)) * 256])
    return tiff(lab.astype(np.uint16), photometric="cielab")


CMYK = Image.fromarray(FLAT).convert("CMYK")


@pytest.mark.parametrize(
    "data,word",
    [
        (saved(CMYK, "JPEG", quality=100), "CMYK"),  # inverted, as Adobe's
        (saved(CMYK, "TIFF", icc_profile=ICC), "CMYK"),
        (tiff(np.uint16(CMYK) * 257, photometric="separated"), "CMYK"),
        (in_lab(), "CIELAB"),
        (in_deep_lab(), "CIELAB"),
        (saved(Image.fromarray(FLAT), "TIFF", compression="jpeg", quality=100), ""),  # YCbCr
        (tiff(np.dstack([FLAT, FLAT[..., :1]]), photometric="rgb", extrasamples=[0]), "1 more"),
        (saved(Image.fromarray(FLAT), "JPEG", progressive=True, subsampling=2, quality=100), ""),
        (saved(Image.fromarray(FLAT), "JPEG2000"), ""),
        (b"P6 8 9 65535 " + (FLAT.astype(">u2") * 257).tobytes(), "16 bits"),
    ],
)
def test_colors_stay_what_they_are(data, word):
    photo = reading.read(data)
    assert word in "".join(photo.notes) and bool(photo.notes) == bool(word)
    assert photo.metadata.icc is None and photo.alpha is None
    colors = photo.pixels / photo.top * 255.0
    np.testing.assert_allclose(colors, FLAT, atol=2.5)
    data, _ = writing.encode(photo, "TIFF")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(found, FLAT, atol=2.5)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames_are_counted(kind):
    frames = [Image.fromarray(RGB8 // (i + 1)) for i in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    photo = reading.read(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert photo.frames == 3 and not photo.notes
    assert photo.lossless == (kind == "WEBP")
    if kind != "GIF":
        np.testing.assert_array_equal(photo.pixels, RGB8)


def test_chunks_that_are_not_kept_are_noted():
    photo = reading.read(png(RGB8, (b"bKGD", bytes(6)), (b"sBIT", b"\5\6\5"), (b"vpAg", bytes(9))))
    assert photo.notes == ("not kept: PNG chunks bKGD, vpAg",)
    text = png_chunks.international_text("Author", "Jörg".encode())
    photo = reading.read(png(RGB8, text, (b"sRGB", b"\0")))
    assert photo.metadata.chunks == (text, (b"sRGB", b"\0")) and not photo.notes


def test_how_a_tiff_stores_its_pixels_stays_with_it():
    for image in (CMYK, PALETTE):
        assert reading.read(saved(image, "TIFF")).metadata.exif is None
    named = reading.read(tiff(RGB16, photometric="rgb", description="a cat", metadata=None))
    data, _ = writing.encode(named, "PNG")
    tags = Image.open(io.BytesIO(data)).getexif()
    assert tags[0x010E] == "a cat" and not {256, 258, 259, 262, 273, 277, 279, 317} & set(tags)


def test_damaged_exif_is_noted():
    photo = reading.read(png(RGB8, (b"eXIf", b"II*\0" + b"\xff" * 20)))
    assert photo.metadata.exif is None and photo.notes == ("not kept: EXIF, which is damaged",)


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
        (tiff(np.float32(RGB8), photometric="rgb"), "float32"),
        (tiff(np.uint32(RGB8[..., 0]) << 20), "32-bit"),
        (tiff(GRAY16).replace(b"\2\1\3\0\1\0\0\0\x10", b"\2\1\3\0\1\0\0\0\x0c"), "12 bits"),
        (tiff(RGB16, photometric="rgb")[:300], "corrupt"),
        (tiff(RGB16, photometric="rgb", rowsperstrip=3)[:-40], "ends before its pixels"),
        (b"II*\0" + b"\1" * 40, "corrupt"),
    ],
)
def test_damage_is_named(data, word):
    with pytest.raises(ImageError, match=word):
        reading.read(data)


def test_a_bomb_is_refused_before_it_is_decoded():
    data = saved(Image.new("L", (3000, 3000)), "PNG")
    with pytest.raises(ImageError, match="3000x3000 pixels, at most 1000000"):
        reading.read(data, max_pixels=1_000_000)
    before = Image.MAX_IMAGE_PIXELS
    reading.read(data)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_name_says_the_format():
    import pathlib

    assert writing.format_of(pathlib.Path("a.TIF")) == "TIFF"
    with pytest.raises(UserError, match=r"a\.gif"):
        writing.format_of(pathlib.Path("a.gif"))
