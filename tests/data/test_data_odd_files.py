"""Files as they come: none stops `prepare`, and those that stay have the right pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gen_jax.common import image_formats
from gen_jax.data import dataset, images, schema
from gen_jax.data.prepare.sources import photos


def png(width, height, depth, colour, rows, *extra):
    """A PNG by hand: Pillow writes neither huge ones cheaply nor colours of 16 bits."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(chunk(*e) for e in extra) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def png16(pixels, colour):
    """`pixels` uint16 [h, w, c]."""
    rows = pixels.astype(">u2").reshape(len(pixels), -1)
    return png(*pixels.shape[1::-1], 16, colour, b"".join(b"\0" + row.tobytes() for row in rows))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def crop(number):
    """A piece of a photograph, 48 by 64, another one for each number."""
    names = ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg")
    at = 100 + 40 * (number // len(names))
    return photos.load(names[number % len(names)])[at : at + 48, at : at + 64].copy()


REJECTED = {
    "one.png": ("too small", "1x1, the least is 16"),
    "huge.png": ("too large to decode safely", "900000000 pixels"),
    "notes.jpg": ("corrupt", "not an image, or of an unknown format"),
    "pointer.jpg": ("git-lfs pointer", "run `git lfs pull`"),
    "empty.jpg": ("truncated", "the file is empty"),
    "cut.jpg": ("truncated", "truncated"),
}


def rejected_files():
    line = bytes(30_000 // 8 + 1)
    return {
        "one.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        # A palette of black alone, and some rows of 30,000.
        "huge.png": png(30_000, 30_000, 1, 3, line * 64, (b"PLTE", bytes(3))),
        "notes.jpg": b"no picture, whatever its name says",
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "empty.jpg": b"",
        "cut.jpg": encoded(Image.fromarray(crop(0)), "JPEG", quality=95)[:900],
    }


def kept_files():
    """Name -> (file, its pixels, the largest mean difference that its format explains)."""
    frames = [Image.fromarray(crop(i)) for i in (1, 2)]
    more = {"save_all": True, "append_images": frames[1:], "duration": 100}
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side: to be turned by 90 degrees clockwise
    half = np.full((48, 64), 128, np.uint8)
    half[:, :32] = 0
    clear = crop(7) * (half[..., None] / 255.0) + 255 * (1 - half[..., None] / 255.0)
    keyed, key = crop(8), (1, 2, 3)
    keyed[10:30, 10:40] = key
    rows = b"".join(b"\0" + row.tobytes() for row in keyed)
    white = np.where((keyed == key).all(-1, keepdims=True), 255, keyed)
    gray, wide = crop(4)[..., :1], crop(5)
    return {
        "animated.gif": (encoded(frames[0], "GIF", **more), crop(1), 12),
        "animated.webp": (encoded(frames[1], "WEBP", lossless=True, **more), crop(2), 0),
        "cmyk.jpg": (encoded(Image.fromarray(crop(3)).convert("CMYK"), "JPEG"), crop(3), 6),
        "gray16.png": (png16(gray.astype(np.uint16) * 257, 0), gray.repeat(3, -1), 0),
        "rgb16.png": (png16(wide.astype(np.uint16) * 257, 2), wide, 0),
        "turned.jpg": (
            encoded(Image.fromarray(crop(6)), "JPEG", exif=exif, quality=95),
            np.rot90(crop(6), -1),
            4,
        ),
        "alpha.png": (encoded(Image.fromarray(np.dstack([crop(7), half])), "PNG"), clear, 1),
        # One colour of an RGB image declared as transparent, and no channel of alpha.
        "keyed.png": (png(64, 48, 8, 2, rows, (b"tRNS", struct.pack(">3H", *key))), white, 0),
    }


@pytest.fixture(scope="module")
def prepared(make_dataset, tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    for name, data in rejected_files().items():
        (root / name).write_bytes(data)
    for name, (data, _, _) in kept_files().items():
        (root / name).write_bytes(data)
    rules = {"val_fraction": 0.0, "test_fraction": 0.0}
    return make_dataset(root, rules=rules, format="png"), make_dataset(root, rules=rules)


def test_the_report_names_each_rejected_file_and_why(prepared):
    report = dataset.load(prepared[0]).quality
    found = {
        entry["file"]: (reason, entry["detail"])
        for reason, entries in report["files"].items()
        for entry in entries
    }
    assert set(found) == set(REJECTED)
    for name, (reason, words) in REJECTED.items():
        assert found[name][0] == reason and words in found[name][1], (name, found[name])
        assert "\n" not in found[name][1] and "0x" not in found[name][1]
    assert report["examined"] == len(REJECTED) + len(kept_files())
    assert report["accepted"] == len(kept_files())


@pytest.mark.parametrize("which", [0, 1], ids=["png", "as they are"])
def test_what_stays_has_the_right_pixels(prepared, which):
    _, records = dataset.open_split(prepared[which], "train", verify="digest")
    found = {r.key: r for r in (schema.unpack(records[i]) for i in range(len(records)))}
    assert set(found) == set(kept_files())
    for name, (_, want, limit) in kept_files().items():
        got = images.decode_fast(found[name].image)
        assert got.shape == want.shape, name
        error = np.abs(got.astype(float) - want).mean()
        # What is no file of 8-bit RGB is stored as JPEG where no format is named.
        assert error <= limit + 3 * which, (name, error)


def test_a_format_without_a_decoder_comes_with_advice(monkeypatch):
    data = b"\0\0\0\x1cftypheic" + bytes(40)
    monkeypatch.setitem(image_formats._problems(), ".heic", "pip install pillow-heif")
    with pytest.raises(
        images.ImageError, match=r"holds HEIC, whatever .*: pip install pillow-heif"
    ):
        images.open_strict(data)


def test_heif_is_read_with_its_plugin():
    pytest.importorskip("pillow_heif")
    data = encoded(Image.fromarray(crop(0)), "HEIF", quality=95)
    assert np.abs(images.open_strict(data)[0] - crop(0).astype(int)).mean() < 4
    assert image_formats.problem("a.HEIC") == ""


def test_a_huge_image_is_refused_without_decoding():
    data = rejected_files()["huge.png"]
    assert len(data) < 2000
    # Its pixels end after 64 of 30,000 rows: whoever decoded them would call it cut short.
    with pytest.raises(images.ImageError, match="too large to decode safely"):
        images.open_strict(data)
