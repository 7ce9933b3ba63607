import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.models.layers.attention import Attention
from gen_jax.models.layers.embeddings import timestep_embedding
from gen_jax.models.layers.norms import GroupNorm, layer_norm
from gen_jax.models.layers.sampling import upsample_nearest


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_group_norm_survives_a_mean_of_a_thousand_deviations(dtype):
    unit = np.random.default_rng(0).standard_normal((2, 8, 8, 32)).astype(np.float32)
    x = (unit + 1e3).astype(np.float32)
    module = GroupNorm(num_groups=4, epsilon=1e-6, dtype=dtype)
    y = module.apply(module.init(jax.random.key(0), x), jnp.asarray(x))
    exact = x.astype(np.float64).reshape(2, 64, 4, 8)
    exact = exact - exact.mean((1, 3), keepdims=True)
    exact = exact / np.sqrt((exact**2).mean((1, 3), keepdims=True) + 1e-6)
    assert y.dtype == dtype
    tolerance = 1e-3 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(
        np.asarray(y, np.float32), exact.reshape(x.shape), rtol=tolerance, atol=tolerance
    )


def test_layer_norm_survives_a_mean_of_a_thousand_deviations():
    x = 1e3 + np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    module = layer_norm("norm")
    y = module.apply(module.init(jax.random.key(0), x), x)
    exact = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, exact, rtol=1e-3, atol=1e-3)


def test_group_norm_takes_any_number_of_axes():
    module = GroupNorm(num_groups=2)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 5, 6)), jnp.float32)
    variables = module.init(jax.random.key(0), x)
    flat = module.apply(variables, x.reshape(3, 20, 6))
    np.testing.assert_allclose(module.apply(variables, x).reshape(3, 20, 6), flat, atol=1e-6)
    assert module.apply(variables, x[:, 0, 0]).shape == (3, 6)


def test_softmax_is_float32_under_bf16():
    # A bf16 softmax over 4096 equal logits would not sum to one: 1/4096 is summed with
    # eight bits. Values of one come back as one only if weights sum to one.
    module = Attention(heads=1, dtype=jnp.bfloat16)
    x = jnp.ones((1, 4096, 8), jnp.bfloat16)
    variables = module.init(jax.random.key(0), x[:, :2])
    out = module.apply(variables, x)
    one = module.apply(variables, x[:, :1])
    np.testing.assert_allclose(np.float32(out[0, 0]), np.float32(one[0, 0]), rtol=2e-2, atol=1e-2)
    jaxpr = str(jax.make_jaxpr(module.apply)(variables, x))
    assert "f32[1,1,4096,4096]" in jaxpr.replace(" ", "") and "exp" in jaxpr


def test_upsampling_repeats_pixels():
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(upsample_nearest(x), x.repeat(2, axis=1).repeat(2, axis=2))


def test_timestep_embedding_is_the_papers():
    out = timestep_embedding(jnp.array([0.5, 3.0]), 7, flip_sin_to_cos=False, freq_shift=1.0)
    angles = np.array([0.5, 3.0])[:, None] * 10_000.0 ** -(np.arange(3) / 2)[None]
    want = np.concatenate([np.sin(angles), np.cos(angles), np.zeros((2, 1))], axis=1)
    np.testing.assert_allclose(out, want, atol=1e-6)
