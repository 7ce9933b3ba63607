"""8-bit pixels as floating-point images and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common import pixels

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    "there,back,ends",
    [(pixels.to_unit, pixels.from_unit, (0, 1)), (pixels.to_signed, pixels.from_signed, (-1, 1))],
)
def test_every_level_survives_and_what_lies_outside_is_clipped(array, there, back, ends):
    levels = array(LEVELS)
    image = there(levels)
    assert image.dtype == np.float32 and (image.min(), image.max()) == ends
    assert type(image) is type(levels) and type(back(image)) is type(levels)
    np.testing.assert_array_equal(back(image), LEVELS)
    np.testing.assert_array_equal(jax.jit(back)(image), LEVELS)
    np.testing.assert_array_equal(back(array(np.float32([-9.0, 9.0]))), [0, 255])
    half = array(np.float32(ends[0] + (ends[1] - ends[0]) * np.array([100.4, 100.6]) / 255))
    np.testing.assert_array_equal(back(half), [100, 101])
