"""Contrastive losses against loops over pairs, and on a batch that is split over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.losses import contrastive
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(16, 6)), jnp.float32) for _ in range(2))


def cosines(first, second):
    a, b = (np.asarray(x, np.float64) for x in (first, second))
    return (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def test_siglip_is_a_sigmoid_per_pair(pair):
    logits = 10.0 * cosines(*pair) - 2.0
    want = [
        sum(np.log1p(np.exp(-(1 if i == j else -1) * logits[i, j])) for j in range(16))
        for i in range(16)
    ]
    have = contrastive.siglip(*pair, jnp.log(10.0), jnp.float32(-2.0))
    np.testing.assert_allclose(have, want, rtol=1e-5)


def test_info_nce_is_the_cross_entropy_of_rows_and_columns(pair):
    logits = cosines(*pair) / 0.07
    rows = np.log(np.exp(logits).sum(1)) - np.diagonal(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diagonal(logits)
    have = contrastive.info_nce(*pair, jnp.log(jnp.float32(1 / 0.07)))
    np.testing.assert_allclose(have, (rows + columns) / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["siglip", "info_nce"])
def test_eight_devices_equal_one_in_loss_and_gradient(pair, name):
    extra = (jnp.log(10.0), jnp.float32(-10.0))[: 2 if name == "siglip" else 1]

    def loss(first, second):
        return getattr(contrastive, name)(first, second, *extra).mean()

    mesh = make_mesh({"fsdp": 8}, jax.devices()[:8])
    split = jax.device_put(pair, sharding.batch_sharding(mesh))
    one, many = (jax.jit(jax.value_and_grad(loss))(*given) for given in (pair, split))
    np.testing.assert_allclose(one[0], many[0], rtol=1e-5)
    np.testing.assert_allclose(one[1], many[1], rtol=1e-5, atol=1e-7)
