"""Weights in fewer bytes: what is rounded, how far, and what is not touched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_jax.common.errors import UserError
from gen_jax.models import weight_storage


def tree(seed=0, scale=1.0):
    """Parameters of a layer, a table and a codebook."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)

    return {
        "layer": {"kernel": normal(3, 3, 8, 16), "bias": normal(16)},
        "table": {"embedding": normal(32, 8)},
        "codebook": {"codes": normal(1, 64, 4)},
    }


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_step_of_8_bits_is_half_a_scale_at_most(seed, scale):
    params = tree(seed, scale)
    kept = weight_storage.stored(params, "int8")
    back = weight_storage.read(kept)
    for part, name, axes in (("layer", "kernel", (0, 1, 2)), ("table", "embedding", 1)):
        old, new, small = (t[part][name] for t in (params, back, kept))
        assert small.values.dtype == jnp.int8
        half = 0.5 * np.abs(np.asarray(old)).max(axes, keepdims=True) / 127
        assert (np.abs(np.asarray(new - old)) <= half * (1 + 1e-4)).all()
    for part, name in (("layer", "bias"), ("codebook", "codes")):
        assert (back[part][name] == params[part][name]).all()


def test_bfloat16_is_its_rounding_and_float32_is_untouched():
    params = tree()
    back = weight_storage.read(weight_storage.stored(params, "bfloat16"))
    expected = params["layer"]["kernel"].astype(jnp.bfloat16).astype(jnp.float32)
    assert (back["layer"]["kernel"] == expected).all()
    assert (back["codebook"]["codes"] == params["codebook"]["codes"]).all()
    same = weight_storage.read(weight_storage.stored(params, "float32"))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), same, params))


def test_bytes_are_a_half_and_about_a_quarter():
    params = {"kernel": jnp.ones((64, 128))}
    sizes = {
        k: weight_storage.size_of(weight_storage.stored(params, k)) for k in weight_storage.KINDS
    }
    assert sizes == {"float32": 32768, "bfloat16": 16384, "int8": 8192 + 512}


def test_a_channel_of_zeros_stays_zero():
    params = {"kernel": jnp.zeros((4, 3)).at[:, 1].set(2.0)}
    back = weight_storage.read(weight_storage.stored(params, "int8"))
    np.testing.assert_allclose(back["kernel"], params["kernel"], rtol=1e-6)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="weights=int4: expected one of float32, bfloat16, int8"):
        weight_storage.stored({}, "int4")
