"""Tiles: equal to the whole for what is local, weights that sum to one, bounded memory."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from gen_jax.common.errors import UserError
from gen_jax.pipelines import tiles


def tiled(image, forward, **options):
    out, seen = np.full(image.shape, np.nan, np.float32), []

    def sink(first, rows):
        seen.append((first, len(rows)))
        out[first : first + len(rows)] = rows

    def source(t, b, l, r):
        return image[t:b, l:r]

    tiles.apply(forward, source, image.shape[:2], sink, **options)
    assert sum(n for _, n in seen) == len(image)
    return out


def blur(x):
    return uniform_filter(x, (1, 5, 5, 1), mode="nearest")


@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.sampled_from([32, 64, 96]),
    overlap=st.sampled_from([8, 16, 24]),
)
def test_what_is_local_is_the_same_in_tiles(height, width, tile, overlap):
    image = np.random.default_rng([height, width]).random((height, width, 2), np.float32)
    found = tiled(image, lambda x: x + 1.0, tile=tile, overlap=overlap, multiple=8)
    np.testing.assert_allclose(found, image + 1.0, atol=1e-5)


def test_edges_of_tiles_count_for_nothing():
    image = np.random.default_rng(0).random((200, 170, 3), np.float32)
    found = tiled(image, blur, tile=64, overlap=32, multiple=8)
    # A tile's last two rows are wrong; their weights are below a thousandth.
    np.testing.assert_allclose(found, blur(image[None])[0], atol=2e-4)
    rough = tiled(image, blur, tile=64, overlap=2, multiple=2)
    assert np.abs(rough - blur(image[None])[0]).max() > 5e-4


def test_tiles_begin_at_multiples_and_are_of_one_size():
    shapes = set()

    def forward(x):
        shapes.add(x.shape)
        return x

    tiled(np.zeros((130, 333, 1), np.float32), forward, tile=64, overlap=16, multiple=32)
    assert shapes == {(1, 64, 64, 1)}
    for length in (65, 100, 500, 1000):
        begins = tiles.starts(length, 64, 16, 32)
        assert all(b % 32 == 0 for b in begins) and begins[-1] + 64 == -(-length // 32) * 32
        assert all(16 <= a + 64 - b < 64 for a, b in itertools.pairwise(begins))
    with pytest.raises(UserError, match="too small"):
        tiles.starts(500, 64, 48, 32)


def test_progress_counts_tiles():
    seen = []
    image = np.zeros((100, 100, 1), np.float32)
    tiled(image, lambda x: x, tile=64, overlap=16, progress=lambda *a: seen.append(a))
    assert seen[0] == (1, 9) and seen[-1] == (9, 9)


def test_memory_is_a_band_and_not_the_picture():
    side, picture = 4096, np.zeros((4096, 4096, 3), np.uint8)
    out = np.empty_like(picture)

    def source(t, b, l, r):
        return np.float32(picture[t:b, l:r])

    def sink(first, rows):
        out[first : first + len(rows)] = rows

    tracemalloc.start()
    tiles.apply(lambda x: x, source, (side, side), sink, tile=256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6, "the picture itself would be 201 MB in float32"


@pytest.mark.parametrize("size", [(40, 70), (64, 64), (9, 100)])
def test_a_result_may_be_larger_than_its_source(size):
    """Nearest neighbors of each pixel, three along each axis, whatever the tiles."""
    image = np.random.default_rng(0).random((*size, 2), np.float32)
    out = np.full((3 * size[0], 3 * size[1], 2), np.nan, np.float32)

    def forward(x):
        assert x.shape[1] <= 32 and x.shape[2] <= 32
        return x.repeat(3, 1).repeat(3, 2)

    def sink(first, rows):
        out[first : first + len(rows)] = rows

    tiles.apply(
        forward,
        lambda t, b, l, r: image[t:b, l:r],
        size,
        sink,
        tile=32,
        overlap=8,
        multiple=1,
        scale=3,
    )
    np.testing.assert_allclose(out, image.repeat(3, 0).repeat(3, 1), atol=1e-5)
