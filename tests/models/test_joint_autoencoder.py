"""The linear way of the autoencoder: a cosine transform of each place, and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.models.joint_autoencoder import JointAutoencoder, coarse_first, size_loss


def fresh(**fields):
    module = JointAutoencoder(
        **{
            **dict(spatial_channels=6, pooled_dim=8, pooled_tokens=2, context_dim=8),
            **dict(patch_size=2, block_out_channels=(16, 16)),
            **fields,
        }
    )
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))


def test_it_begins_with_the_low_frequencies_of_each_place():
    module, params = fresh()
    weights = params["params"]
    there, back = weights["shortcut_in"]["kernel"], weights["shortcut_out"]["kernel"]
    # One is the other's inverse on what they keep.
    np.testing.assert_allclose(there.T @ back.T, np.eye(6), atol=1e-5)
    ramp = np.add.outer(np.arange(4.0), 2 * np.arange(4.0)).ravel() / 10 - 0.4
    kept = ramp @ there @ back
    assert np.square(kept - ramp).mean() < 0.02 * np.square(ramp).mean()
    checks = np.indices((4, 4)).sum(0).ravel() % 2 - 0.5  # the highest frequency
    assert np.square(checks @ there @ back).mean() < 0.05 * np.square(checks).mean()
    # The blocks add nearly nothing to the latent at first.
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 1), minval=-1.0)
    spatial, _ = jax.jit(lambda x: module.apply(params, x, method="encode"))(x)
    places = np.asarray(x).reshape(2, 4, 4, 4, 4).transpose(0, 1, 3, 2, 4).reshape(2, 4, 4, 16)
    np.testing.assert_allclose(spatial, places @ np.asarray(there), atol=0.05)


def test_coarse_factors_fall_and_keep_the_mean_square():
    factors = coarse_first(32, 144)
    assert np.square(factors).mean() == pytest.approx(1.0, rel=1e-5)
    assert factors[0] == factors.max() > 3 and (np.diff(factors) <= 1e-6).all()
    assert coarse_first(0, 144).shape == (0,)


def test_the_size_loss_is_zero_at_a_mean_square_of_one_per_channel():
    ones = jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], (3, 2, 2, 5)), jnp.float32)
    assert float(size_loss(ones)) == 0.0
    assert float(size_loss(ones * jnp.array([1, 1, 1, 1, 2.0])[None, None, None])) == (
        pytest.approx(9 / 5)
    )


def test_features_count_and_wrong_tokens_are_refused():
    module = JointAutoencoder(pooled_dim=8, pooled_tokens=3)
    with pytest.raises(UserError, match="pooled_tokens=3: does not divide pooled_dim=8"):
        module.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    module, _ = fresh()
    x, features = jnp.zeros((2, 16, 16, 1)), jnp.asarray([[1.0, 2, 4], [5, 1, 2]])

    @jax.jit
    def encode(x, features):
        params = module.init(jax.random.key(0), x, features)
        return module.apply(params, x, features, method="encode")

    _, pooled = encode(x, features)
    assert np.abs(pooled[0] - pooled[1]).max() > 1e-3
