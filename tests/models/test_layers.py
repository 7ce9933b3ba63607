import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.models.layers.activations import gelu
from gen_jax.models.layers.attention import Attention
from gen_jax.models.layers.embeddings import timestep_embedding
from gen_jax.models.layers.norms import GroupNorm, layer_norm
from gen_jax.models.layers.resnet import ResnetBlock2D
from gen_jax.models.layers.sampling import upsample_nearest


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_group_norm_survives_a_mean_of_a_thousand_deviations(dtype):
    unit = np.random.default_rng(0).standard_normal((2, 8, 8, 32)).astype(np.float32)
    x = jnp.asarray(unit + 1e3, jnp.float32)
    module = GroupNorm(num_groups=4, epsilon=1e-6, dtype=dtype)
    y = module.apply(module.init(jax.random.key(0), x), x)
    exact = np.float64(x).reshape(2, 64, 4, 8)
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


def test_logits_and_softmax_are_float32_under_bf16():
    module = Attention(heads=2, dtype=jnp.bfloat16)
    x = jnp.ones((1, 6, 8), jnp.bfloat16)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    jaxpr = str(jax.make_jaxpr(module.apply)(variables, x))
    exponentials = [line for line in jaxpr.splitlines() if " exp " in line]
    assert exponentials and all(":f32[" in line for line in exponentials)


def test_upsampling_repeats_pixels():
    x = jnp.arange(12.0).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(upsample_nearest(x), x.repeat(2, axis=1).repeat(2, axis=2))


def test_timestep_embedding_is_the_papers():
    out = timestep_embedding(jnp.array([0.5, 3.0]), 7, flip_sin_to_cos=False, freq_shift=1.0)
    angles = np.array([0.5, 3.0])[:, None] * 10_000.0 ** -(np.arange(3) / 2)[None]
    want = np.concatenate([np.sin(angles), np.cos(angles), np.zeros((2, 1))], axis=1)
    np.testing.assert_allclose(out, want, atol=1e-6)


def test_a_residual_block_may_start_as_identity():
    module = ResnetBlock2D(8, norm_num_groups=2, zero_init=True)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 4, 8)), jnp.float32)
    np.testing.assert_array_equal(module.apply(module.init(jax.random.key(0), x), x), x)


@pytest.mark.parametrize("dtype,off", [(jnp.float32, 1e-6), (jnp.bfloat16, 2e-2)])
def test_gelu_is_the_exact_one_also_where_it_is_small(dtype, off):
    x = jnp.linspace(-4, 4, 161).astype(dtype)
    exact = np.array([v / 2 * (1 + math.erf(v / 2**0.5)) for v in np.float64(x)])
    y = gelu(x)
    assert y.dtype == dtype
    assert np.abs(np.float64(y) - exact).max() < off
    small = np.float64(x) < -2  # not lost in 1 + erf
    assert np.abs(np.float64(y) - exact)[small].max() < 3e-4
