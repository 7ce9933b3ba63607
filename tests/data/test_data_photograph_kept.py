"""The table of docs/restoration.md, cell by cell, as a library sees it that did not write the file.

PNG and TIFF pixels are written by our own code and tifffile, and opened with OpenCV and Pillow;
JPEG, WebP and AVIF by Pillow, and opened with OpenCV.
"""

import functools
import io
import pathlib
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from gen_jax.data.photographs import reading, writing
from gen_jax.data.photographs.photo_metadata import Metadata

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "restoration.md"
KINDS = ("PNG", "TIFF", "JPEG", "WEBP", "AVIF")


def _cells():
    lines = iter(DOCS.read_text().splitlines())
    assert next(line for line in lines if line == "| kept | PNG | TIFF | JPEG | WebP | AVIF |")
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        yield from ((name, kind, cell) for kind, cell in zip(KINDS, cells, strict=True))


CELLS = list(_cells())


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x013B] = "ACME", 6, "Joerg"
    camera = exif.get_ifd(0x8769)
    camera[0x829A], camera[0x927C], camera[0xA002], camera[0xA003] = 0.008, b"note \0\xff", 999, 1
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes().removeprefix(b"Exif\0\0").replace(b"Joerg", "Jörg".encode())


ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6" tiff:ImageWidth="999"/>'
IPTC = b"\x1c\x02\x05\x00\x05title"


@functools.cache
def source() -> reading.Photograph:
    """A photograph with all metadata, as it is read from PNG and JPEG files that have them."""
    pixels = np.zeros((40, 48, 3), np.uint8)
    pixels[:, :24], pixels[20:, :, 1] = (200, 60, 30), 140
    buffer = io.BytesIO()
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    segment = b"Photoshop 3.0\0" + resource
    Image.fromarray(pixels).save(
        buffer,
        "JPEG",
        icc_profile=ICC,
        exif=b"Exif\0\0" + _exif(),
        xmp=XMP,
        dpi=(300, 300),
        comment=b"a remark",
        extra=b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment,
    )
    photo = reading.read(buffer.getvalue())
    assert photo.pixels.shape == (48, 40, 3), "upright"
    text = (b"tEXt", b"parameters\0a cat"), (b"gAMA", struct.pack(">I", 100_000))
    return photo.replace(metadata=photo.metadata.replace(chunks=text), notes=())


@functools.cache
def written(kind: str) -> tuple[bytes, str]:
    data, notes = writing.encode(source(), kind)
    return data, "; ".join(notes)


def blocks(data: bytes) -> dict[str, bytes]:
    """EXIF, XMP and profile of PNG, JPEG, WebP and AVIF by OpenCV, of TIFF by Pillow."""
    if data[:2] in (b"II", b"MM"):
        with Image.open(io.BytesIO(data)) as image:
            exif = image.getexif()
            exif.get_ifd(0x8769), exif.get_ifd(0x8825)
            return {"exif": exif, "xmp": image.info["xmp"], "icc": image.info["icc_profile"]}
    flags = cv2.IMREAD_UNCHANGED
    _, kinds, values = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), flags)
    names = {
        cv2.IMAGE_METADATA_EXIF: "exif",
        cv2.IMAGE_METADATA_XMP: "xmp",
        cv2.IMAGE_METADATA_ICCP: "icc",
    }
    found = {names[int(k)]: v.tobytes() for k, v in zip(kinds, values)}
    if data[4:12] == b"ftypavif":  # OpenCV hands out EXIF alone; the file holds blocks as they are
        begin = data.index(b"<x:xmpmeta")
        found["xmp"] = data[begin : data.index(b"/>", begin) + 2]
        found["icc"] = ICC if ICC in data else b""
    # OpenCV leaves the segment's name of JPEG, and ends the text of PNG with a zero.
    found["xmp"] = found["xmp"].removeprefix(b"http://ns.adobe.com/xap/1.0/\0").rstrip(b"\0")
    return found


def pixels(data: bytes) -> np.ndarray:
    """RGB or gray, alpha last: by OpenCV, which multiplies colors of TIFF by alpha, or Pillow."""
    if data[:2] in (b"II", b"MM"):
        with Image.open(io.BytesIO(data)) as image:
            if image.tag_v2[258][0] == 8:
                return np.asarray(image).reshape(*image.size[::-1], -1)
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found.ndim == 2:
        return found[..., None]
    return found[..., [2, 1, 0, 3][: found.shape[-1]]]


def has_profile(data, kind):
    return blocks(data)["icc"] == ICC


def has_exif(data, kind):
    exif = blocks(data)["exif"]
    if isinstance(exif, bytes):
        assert "Jörg".encode() in exif, "names are not only ASCII"
        loaded = Image.Exif()
        loaded.load(exif)
        exif = loaded
    camera = exif.get_ifd(0x8769)
    assert exif.get(0x0112, 1) == 1 and (camera[0xA002], camera[0xA003]) == (40, 48)
    assert camera[0x927C] == b"note \0\xff" and exif.get_ifd(0x8825)[1] == "N"
    return exif[0x010F] == "ACME" and camera[0x829A] == 0.008


def has_xmp(data, kind):
    return blocks(data)["xmp"] == XMP.replace(b'"6"', b'"1"').replace(b'"999"', b'"40"')


def has_iptc(data, kind):
    if kind == "TIFF":
        with Image.open(io.BytesIO(data)) as image:
            return image.tag_v2.get(33723) == IPTC
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC in data


def has_resolution(data, kind):
    if kind == "JPEG":  # JFIF's density
        return data[6:10] == b"JFIF" and struct.unpack(">BHH", data[13:18]) == (1, 300, 300)
    if kind in ("WEBP", "AVIF"):
        exif = Image.Exif()
        exif.load(blocks(data)["exif"])
        return (exif[0x011A], exif[0x011B], exif[0x0128]) == (300, 300, 2)
    with Image.open(io.BytesIO(data)) as image:
        return image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def has_text(data, kind):
    with Image.open(io.BytesIO(data)) as image:
        return image.info.get("parameters") == "a cat"


def has_gamma(data, kind):
    with Image.open(io.BytesIO(data)) as image:
        return image.info.get("gamma") == 1.0


def has_comment(data, kind):
    if kind == "PNG":
        with Image.open(io.BytesIO(data)) as image:
            return image.info.get("Comment") == "a remark"
    return b"\xff\xfe\0\x0aa remark" in data  # JPEG's segment


METADATA = {
    "color profile": has_profile,
    "EXIF": has_exif,
    "XMP": has_xmp,
    "IPTC": has_iptc,
    "resolution": has_resolution,
    "PNG text": has_text,
    "gamma": has_gamma,
    "comment": has_comment,
}


@pytest.mark.parametrize("name,kind,cell", [c for c in CELLS if c[0] in METADATA])
def test_metadata_are_kept_or_noted(name, kind, cell):
    data, notes = written(kind)
    assert METADATA[name](data, kind) == (cell == "yes")
    assert (name in notes) == (cell == "note")


def noise(channels, dtype):
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (9, 7, channels)).astype(dtype)


PIXELS = {
    "gray": (1, np.uint8, False),
    "16 bits": (3, np.uint16, False),
    "transparency": (3, np.uint8, True),
    "16-bit gray with transparency": (1, np.uint16, True),
}


@pytest.mark.parametrize("name,kind,cell", [c for c in CELLS if c[0] in PIXELS])
def test_pixels_are_kept_or_noted(name, kind, cell):
    colors, dtype, has_alpha = PIXELS[name]
    alpha = noise(1, dtype) if has_alpha else None
    photo = reading.Photograph(noise(colors, dtype), alpha, lossless=kind == "WEBP")
    if kind == "AVIF":  # lossy, so that noise changes
        photo = photo.replace(pixels=photo.pixels // 8 + np.iinfo(dtype).max // 2)
    data, notes = writing.encode(photo, kind)
    assert bool(notes) == (cell == "note")
    if cell == "note":
        assert pixels(data).dtype == np.uint8 and ("8 bits" in notes[0] or "white" in notes[0])
        return
    deep_gray = name == "16-bit gray with transparency"
    found = stored_tiff(data) if kind == "TIFF" and deep_gray else pixels(data)
    if deep_gray and kind == "PNG":  # OpenCV hands it out as BGRA
        assert (found[..., 0] == found[..., 1]).all() and data[25] == 4
        found = found[..., [0, 3]]
    colored = photo.pixels.repeat(3, -1) if cell == "as RGB" else photo.pixels
    meant = colored if alpha is None else np.dstack([colored, alpha])
    np.testing.assert_allclose(found, meant, atol={"JPEG": 4, "AVIF": 12}.get(kind, 0))
    assert found.dtype == dtype


def stored_tiff(data):
    """Pixels of a TIFF file by its tags: no library but tifffile opens 16-bit gray with alpha."""
    file, directory = io.BytesIO(data), TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file.seek(directory.next)
    directory.load(file)
    bits, channels = directory[258][0], directory[277]
    assert directory[262] == (2 if channels > 2 else 1) and directory.get(338, (2,)) == (2,)
    assert (directory[259], directory.get(317, 1)) in ((8, 2), (32946, 2))  # ZIP, differences
    places = zip(directory[273], directory[279])
    raw = b"".join(zlib.decompress(data[at : at + size]) for at, size in places)
    shape = (directory[257], directory[256], channels)
    stored = np.frombuffer(raw, f"{'<' if data[:2] == b'II' else '>'}u{bits // 8}").reshape(shape)
    return np.cumsum(stored, axis=1, dtype=f"u{bits // 8}")


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (700, 900)])
def test_png_of_any_size_is_opened_by_others(size):
    rows = np.add.outer(np.arange(size[0]), np.arange(size[1])).astype(np.uint16)
    photo = reading.Photograph(np.stack([rows * 3, rows * 5, 65535 - rows], -1))
    data, _ = writing.encode(photo, "PNG")
    np.testing.assert_array_equal(pixels(data), photo.pixels)
    assert len(data) < photo.pixels.nbytes // 10 + 100, "filtered, or it would not shrink"


def test_webp_stays_without_loss():
    image = Image.fromarray(noise(4, np.uint8))
    for lossless in (True, False):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", lossless=lossless, exact=True)
        photo = reading.read(buffer.getvalue())
        assert photo.lossless == lossless
        data, _ = writing.encode(photo, "WEBP")
        assert (pixels(data) == np.dstack([photo.pixels, photo.alpha])).all() == lossless


def test_what_was_not_written_as_meant_is_an_error(monkeypatch):
    photo = reading.Photograph(noise(3, np.uint16))
    good, _ = writing.encode(photo, "PNG")
    for other in (
        photo.replace(pixels=photo.pixels[:-1]),
        photo.replace(pixels=photo.pixels ^ 1),
        photo.replace(pixels=noise(3, np.uint8)),
        photo.replace(alpha=noise(1, np.uint16)),
    ):
        with pytest.raises(writing.NotWritten, match="other"):
            writing.check(good, other, "PNG")
    with pytest.raises(writing.NotWritten, match="read back"):
        writing.check(good[:-30], photo, "PNG")
    monkeypatch.setattr(writing.Image, "fromarray", lambda x: Image.new("RGB", (7, 9)))
    with pytest.raises(writing.NotWritten, match="other pixels"):
        bright = reading.Photograph(np.full((9, 7, 3), 250, np.uint8))
        writing.encode(bright, "JPEG")


def test_metadata_too_long_for_a_format_are_noted():
    big = bytes(range(1, 256)) * 300
    photo = source().replace(metadata=Metadata(xmp=big, iptc=big))
    data, notes = writing.encode(photo, "JPEG")
    assert notes == ("JPEG does not keep XMP, IPTC",) and pixels(data).shape == (48, 40, 3)
    with pytest.raises(writing.NotWritten, match="16383"):
        writing.check_size((16_384, 1), "WEBP")
