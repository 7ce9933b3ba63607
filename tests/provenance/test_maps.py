"""The edit map: exact, in 16 bits, and what the manifest says of it."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from gen_jax.data.photographs.reading import Photograph
from gen_jax.provenance import maps


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_edit_map_is_the_largest_difference_of_a_channel(dtype):
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    before = rng.integers(0, top, (300, 20, 3)).astype(dtype)
    after = before.copy()
    after[10:20, 5:9, 1] ^= 4  # by 4 levels, up or down
    after[299, 19] = before[299, 19] // 2

    def rows(first, last):
        return before[first:last] / np.float32(top)

    edit, preview = maps.edit_maps(rows, Photograph(after))
    values = cv2.imdecode(np.frombuffer(edit.content, np.uint8), cv2.IMREAD_UNCHANGED)
    gap = np.abs(after.astype(float) - before).max(-1) / top * 65535
    assert values.dtype == np.uint16
    np.testing.assert_allclose(values, gap, atol=0.51)
    np.testing.assert_array_equal(values > 0, gap > 0)
    assert edit.facts["changed"] == pytest.approx(41 / 6000, abs=1e-6)
    assert edit.facts["largest"] == pytest.approx(gap.max() / 65535, abs=1e-5)
    with Image.open(io.BytesIO(preview.content)) as image:
        colors = np.asarray(image).astype(int).sum(-1)
    assert colors.shape == (300, 20) and colors[0, 0] < 20 < colors[15, 6]


def test_no_change_is_a_black_map():
    image = np.full((4, 5, 1), 7, np.uint8)
    edit, preview = maps.edit_maps(lambda a, b: image[a:b] / np.float32(255), Photograph(image))
    assert edit.facts["largest"] == edit.facts["mean"] == edit.facts["changed"] == 0.0
    with Image.open(io.BytesIO(preview.content)) as drawn:
        assert np.asarray(drawn).max() < 5
