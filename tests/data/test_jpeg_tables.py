"""The quality of JPEG files, from their tables."""

import io

import numpy as np
import pytest
from PIL import Image

from gen_jax.data.photographs import jpeg_tables, reading


def file(kind="JPEG", **options):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [1, 5, 12, 30, 49, 50, 51, 75, 90, 95, 99, 100])
def test_the_quality_is_read_back(quality):
    assert reading.read(file(quality=quality)).jpeg_quality == quality


def test_other_tables_and_files():
    # Photoshop's and cameras' tables are no multiples of libjpeg's.
    steps = [1 + 2 * (i // 8 + i % 8) for i in range(64)]
    assert 80 <= reading.read(file(qtables=[steps, steps])).jpeg_quality <= 92
    assert reading.read(file("PNG")).jpeg_quality is None
    assert jpeg_tables.quality_of({}) is None and jpeg_tables.quality_of({0: [1, 2]}) is None
