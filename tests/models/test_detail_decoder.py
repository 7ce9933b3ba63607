"""The decoder of the detail: zero at first, local, and for every factor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.models.detail_decoder import DetailDecoder


def inputs(side, factor):
    rng = np.random.default_rng(0)
    z, source = (rng.normal(size=(1, side, side, 4)).astype(np.float32) for _ in range(2))
    return z, source, rng.random((1, factor * side, factor * side, 3)).astype(np.float32)


@pytest.mark.parametrize("factor", [2, 8])
def test_it_begins_with_nothing_and_fits_every_factor(factor):
    module = DetailDecoder(factor, (8, 8), (1, 1))
    args = inputs(4, factor)
    params = jax.jit(module.init)(jax.random.key(0), *args)
    out = jax.jit(module.apply)(params, *args)
    assert out.shape == args[2].shape and out.dtype == jnp.float32
    np.testing.assert_array_equal(out, 0)


def test_a_tile_decodes_to_what_the_whole_does_there():
    module = DetailDecoder(4, (8, 8), (1, 1))
    z, source, image = inputs(16, 4)
    params = jax.jit(module.init)(jax.random.key(0), z, source, image)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda p: p + np.float32(0.1 * rng.normal(size=p.shape)), params)
    decode = jax.jit(module.apply)
    whole = decode(params, z, source, image)
    tile = decode(params, z[:, :10, :10], source[:, :10, :10], image[:, :40, :40])
    np.testing.assert_allclose(whole[:, :20, :20], tile[:, :20, :20], atol=1e-5)
    assert np.abs(whole).max() > 0.1 and np.abs(whole[:, :40, :40] - tile).max() > 1e-4
    # It depends on the latent and on the image.
    assert np.abs(decode(params, z + 1, source, image) - whole).max() > 1e-2
    assert np.abs(decode(params, z, source, image + 1) - whole).max() > 1e-2
