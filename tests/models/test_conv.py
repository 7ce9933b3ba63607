import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.models.layers.conv import Conv, conv3x3

SHAPES = [((2, 5, 7, 3), 4), ((1, 1, 1, 2), 2), ((3, 8, 8, 6), 1)]


@pytest.mark.parametrize("shape,features", SHAPES)
def test_gradients_are_those_of_the_plain_convolution(shape, features):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (3, 3, shape[-1], features))
    g = jax.random.normal(keys[2], (*shape[:3], features))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    want, pull = jax.vjp(plain, x, kernel)
    have, ours = jax.vjp(conv3x3, x, kernel)
    np.testing.assert_allclose(have, want, rtol=1e-6)
    for a, b in zip(ours(g), pull(g)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_layer_is_flax_conv():
    """Same parameters, same result, also where the faster path does not apply."""
    import flax.linen as nn

    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
    for kwargs in (
        dict(features=6, kernel_size=(3, 3)),
        dict(features=6, kernel_size=(3, 3), padding=1),
        dict(features=6, kernel_size=(3, 3), strides=(2, 2)),
        dict(features=6, kernel_size=(1, 1)),
        dict(features=6, kernel_size=(3, 3), dtype=jnp.bfloat16),
    ):
        params = nn.Conv(**kwargs).init(jax.random.key(1), x)
        a, b = nn.Conv(**kwargs).apply(params, x), Conv(**kwargs).apply(params, x)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
