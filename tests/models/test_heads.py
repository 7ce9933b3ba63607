"""Attention by head equals JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.models.layers.heads import attend


@pytest.mark.parametrize("dtype,tolerance", [(jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)])
def test_heads_equal_jax_and_so_do_gradients(dtype, tolerance):
    rng = np.random.default_rng(0)
    q = jnp.asarray(3 * rng.normal(size=(2, 5, 3, 4)), dtype)
    k, v = (jnp.asarray(rng.normal(size=(2, 7, 3, 4)), dtype) for _ in range(2))

    def run(how):
        def total(*x):
            y = how(*x)
            return (y.astype(jnp.float32) * jnp.cos(jnp.arange(y.size)).reshape(y.shape)).sum(), y

        (_, y), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(q, k, v)
        return y, *gradients

    for ours, theirs in zip(run(attend), run(jax.nn.dot_product_attention)):
        assert ours.dtype == dtype
        difference = jnp.abs(ours.astype(jnp.float32) - theirs.astype(jnp.float32)).max()
        assert difference <= tolerance * jnp.abs(theirs.astype(jnp.float32)).max()


def test_large_logits_do_not_overflow():
    x = jnp.full((1, 3, 1, 2), 1e3)
    np.testing.assert_allclose(attend(x, x, x), 1e3)
