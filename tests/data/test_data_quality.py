import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gen_jax.data import images
from gen_jax.data.prepare import quality
from gen_jax.data.prepare.sources import photos


def _jpeg(pixels, quality_=90, size=None):
    image = Image.fromarray(pixels)
    if size:
        image = image.resize(size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality_)
    return buffer.getvalue()


def _look(data):
    return quality.examine(images.open_strict(data)[0])


def test_damage_is_told_apart():
    good = _jpeg(photos.load("coffee.png"))
    for data, reason in (
        (b"", "truncated"),
        (good[: len(good) // 2], "truncated"),
        (b"this is no image", "corrupt"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "corrupt"),
    ):
        with pytest.raises(images.ImageError) as caught:
            images.open_strict(data)
        assert caught.value.reason == reason
        assert caught.value.reason in quality.DAMAGED


def test_small_and_blank():
    with pytest.raises(images.ImageError, match="too small: 20x15, the least is 16"):
        quality.examine(np.zeros((15, 20, 3), np.uint8))
    flat = np.full((64, 64, 3), 200, np.uint8)
    with pytest.raises(images.ImageError, match="blank"):
        quality.examine(flat)
    flat[31, 7:57] = 0  # one thin line, on a row that the quick look skips
    assert quality.examine(flat).sha256


def test_near_duplicates_are_found_and_others_left():
    names = ["coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png", "camera.png"]
    originals = [photos.load(name) for name in names]
    looks = [_look(_jpeg(p)) for p in originals]
    looks += [_look(_jpeg(p, 60, (300, 220))) for p in originals]  # other sizes, other quality
    looks += [looks[0]]
    found = quality.find_duplicates(looks)
    assert {k: v for k, v in found.items() if k < 10} == {
        5 + i: (i, quality.NEAR_DUPLICATE) for i in range(5)
    }
    assert found[10] == (0, quality.DUPLICATE)


def test_one_outline_in_two_colours_is_no_duplicate():
    board = np.zeros((64, 64, 3), np.uint8)
    board[16:48, 16:48] = (220, 0, 0)
    other = board[:, :, ::-1].copy()
    one, two = quality.examine(board), quality.examine(other)
    assert quality.find_duplicates([one, two]) == {}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=6))
def test_hashes_that_differ_in_up_to_three_bits_always_meet(phash, flips):
    other = phash
    for bit in flips:
        other ^= 1 << bit
    thumb = bytes(192)
    looks = [quality.Look("a", phash, thumb), quality.Look("b", other, thumb)]
    assert bool(quality.find_duplicates(looks)) == (len(flips) <= 3)


def test_search_stays_quick_where_everything_hashes_alike():
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 255, (4000, 192), dtype=np.uint8)
    looks = [quality.Look(str(i), 0, thumb.tobytes()) for i, thumb in enumerate(thumbs)]
    import time

    start = time.perf_counter()
    assert quality.find_duplicates(looks) == {}
    assert time.perf_counter() - start < 20


def test_modes_and_orientation():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)

    def opened(image, kind="PNG", **options):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return images.open_strict(buffer.getvalue())

    same, keepable = opened(Image.fromarray(pixels))
    np.testing.assert_array_equal(same, pixels)
    assert keepable
    gray, keepable = opened(Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(gray, np.repeat(pixels[..., :1], 3, -1))
    assert keepable
    wide, keepable = opened(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257))
    np.testing.assert_array_equal(wide[..., 0], pixels[..., 0])
    assert not keepable
    clear = np.dstack([pixels, np.zeros((20, 30), np.uint8)])
    white, keepable = opened(Image.fromarray(clear))
    assert (white == 255).all() and not keepable
    assert opened(Image.fromarray(pixels).convert("CMYK"), "JPEG")[0].shape == (20, 30, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, keepable = opened(Image.fromarray(pixels), "PNG", exif=exif)
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))
    assert not keepable


@pytest.mark.parametrize("kind", images.FORMATS)
def test_encoding_round_trip(kind):
    pixels = photos.load("coffee.png")[:100, :150]
    again = images.decode_fast(images.encode(pixels, kind, 95))
    limit = 0.0 if kind == "png" else 3.0
    assert np.abs(again.astype(int) - pixels).mean() <= limit
    strict, keepable = images.open_strict(images.encode(pixels, kind, 95))
    assert keepable and np.abs(strict.astype(int) - again).mean() < 0.5
