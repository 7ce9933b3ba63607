"""Stored features: what the forms lose, and levels that are derived."""

import jax
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_jax.common.errors import UserError
from gen_jax.data import schema
from gen_jax.data.features import codec
from gen_jax.data.features.pyramid import SCALE, Pyramid
from gen_jax.data.load import steps

INT8, BF16 = codec.Store.parse("int8"), codec.Store.parse("bf16")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-6, 1e6))
def test_int8_is_within_half_a_step_of_each_channel(seed, spread):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 4, 4, 3)).astype(np.float32) * np.float32([1, spread, 0])
    stored = codec.encode(jnp.asarray(x), INT8)
    scale = np.asarray(stored["scale"])
    np.testing.assert_allclose(scale, np.abs(x).max((1, 2)) / 127, rtol=1e-6)
    wrong = np.abs(np.asarray(codec.decode(stored)) - x)
    assert (wrong <= 0.5001 * scale[:, None, None]).all()


def test_bf16_and_single_vectors_keep_eight_bits():
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    for store in (BF16, INT8):  # a class token has no neighbours to share scales with
        stored = codec.encode(jnp.asarray(x), store)
        assert set(stored) == {""} and stored[""].dtype == jnp.bfloat16
        np.testing.assert_allclose(codec.decode(stored), x, rtol=2**-8)


def test_pca_of_low_rank_features_loses_only_the_rounding():
    rng = np.random.default_rng(1)
    low = rng.normal(size=(3, 20))
    tokens = (rng.normal(size=(500, 3)) @ low + rng.normal(size=20)).astype(np.float32)
    pca = codec.fit_pca(tokens, 3)
    assert pca.explained == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(3), atol=1e-5)
    basis = {"mean": pca.mean, "components": pca.components}
    x = jnp.asarray(tokens[:32].reshape(2, 4, 4, 20))
    stored = codec.encode(x, codec.Store.parse("pca3-int8"), basis)
    assert stored[""].shape == (2, 4, 4, 3)
    cosine = codec.cosine(x, codec.decode(stored, basis))
    assert float(cosine.min()) > 0.9995
    with pytest.raises(UserError, match="only 20 channels"):
        codec.fit_pca(tokens, 21)


@pytest.mark.parametrize("name", ["", "int4", "pca-int8", "pca0-int8", "pca64", "INT8"])
def test_unknown_forms_are_refused(name):
    with pytest.raises(UserError, match=r"store=.*: expected int8, bf16, or pcaN-int8"):
        codec.Store.parse(name)


def bilinear(x, grid):
    """By the definition: pixel centres, edges repeated; only for growing."""
    n = x.shape[1]
    at = np.clip((np.arange(grid) + 0.5) * n / grid - 0.5, 0, n - 1)
    low = np.minimum(np.floor(at).astype(int), n - 2)
    w = np.zeros((grid, n))
    w[np.arange(grid), low] = 1 - (at - low)
    w[np.arange(grid), low + 1] = at - low
    return np.einsum("gi,bijc,hj->bghc", w, x.astype(np.float64), w)


@pytest.mark.parametrize("form", ["int8", "bf16", "pca4-int8"])
def test_levels_are_as_written_or_interpolated(form):
    rng = np.random.default_rng(2)
    store, batch, native, bases = codec.Store.parse(form), {}, {}, {}
    for n in (4, 8):
        x = rng.normal(size=(2, n, n, 6)).astype(np.float32)
        basis = None
        if store.components:
            pca = codec.fit_pca(x.reshape(-1, 6), 4)
            basis = bases[f"patches_{n}"] = {"mean": pca.mean, "components": pca.components}
        stored = codec.encode(jnp.asarray(x), store, basis)
        batch[f"patches_{n}"] = stored[""]
        if "scale" in stored:
            batch[f"patches_{n}{SCALE}"] = stored["scale"]
        native[n] = np.asarray(codec.decode(stored, basis))
    pyramid = Pyramid({4: "patches_4", 8: "patches_8"}, bases)
    found = jax.jit(lambda b: pyramid.levels(b, (4, 8, 16, 32)))(batch)
    for n in (4, 8):
        np.testing.assert_allclose(found[n], native[n], atol=1e-6)
    for n in (16, 32):
        np.testing.assert_allclose(found[n], bilinear(native[8], n), atol=1e-5)
    # A level between two stored ones comes from the finer one, one below all likewise.
    assert pyramid.level(batch, 6).shape == (2, 6, 6, 6)
    np.testing.assert_allclose(
        pyramid.level(batch, 2).mean((1, 2)), native[4].mean((1, 2)), atol=0.2
    )
    with pytest.raises(UserError, match=r"'patches_4' is not in this batch: it has index"):
        pyramid.level({"index": np.zeros(2)}, 4)
    with pytest.raises(UserError, match="at least 1 token"):
        pyramid.level(batch, 0)


def test_records_hold_arrays():
    arrays = {
        "a": np.arange(6, dtype=np.int8).reshape(2, 3),
        "b": np.linspace(0, 1, 4).astype(ml_dtypes.bfloat16),
        "c": np.zeros((0, 2), np.float32),
    }
    record = schema.Record(key="k", image=b"", height=3, width=4, arrays=arrays)
    found = schema.unpack(schema.pack(record)).arrays
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    example = steps.decode(schema.pack(record))
    assert "image" not in example and example["key"] == "k" and example["a"].shape == (2, 3)
    with pytest.raises(TypeError, match="array 'x' is float64"):
        schema.pack(schema.Record("k", b"", 1, 1, arrays={"x": np.zeros(1)}))
    values = msgpack.unpackb(schema.pack(record))
    values["arrays"]["a"][1] = [4, 4]
    with pytest.raises(schema.RecordError, match="array 'a' is damaged"):
        schema.unpack(msgpack.packb(values))


def test_records_without_arrays_are_what_they_were():
    values = msgpack.unpackb(schema.pack(schema.Record(key="a", image=b"x", height=1, width=1)))
    assert set(values) == {
        "version", "key", "image", "height", "width", "captions", "label", "label_name",
        "attributes", "sha256",
    }  # fmt: skip
