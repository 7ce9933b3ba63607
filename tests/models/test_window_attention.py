"""Windowed attention against attention over the whole map with everything spelled out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.models.layers.window_attention import (
    FLAT,
    HEADS_FIRST,
    RelativePositionBias,
    WindowAttention,
    attend_in_windows,
    relative_positions,
    shifted_regions,
    window_merge,
    window_partition,
)


def image(height, width, channels=2, batch=2):
    shape = (batch, height, width, channels)
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def test_windows_come_row_by_row_and_go_back():
    x = image(4, 6)
    windows = window_partition(x, 2)
    assert windows.shape == (2 * 2 * 3, 4, 2)
    np.testing.assert_array_equal(windows[5].reshape(2, 2, 2), x[0, 2:4, 4:6])
    np.testing.assert_array_equal(window_merge(windows, 4, 6), x)


@pytest.mark.parametrize("height,width,window,shift", [(8, 12, 4, 2), (4, 4, 4, 2), (9, 6, 3, 1)])
def test_mask_is_scunets_and_swins(height, width, window, shift):
    regions = shifted_regions(height, width, window, shift)
    masked = regions[:, :, None] != regions[:, None, :]

    # SCUNet's code: pairs on the two sides of `s` in the last row and column.
    p, s = window, window - shift
    bands = np.zeros((height // p, width // p, p, p, p, p), bool)
    bands[-1, :, :s, :, s:] = bands[-1, :, s:, :, :s] = True
    bands[:, -1, :, :s, :, s:] = bands[:, -1, :, s:, :, :s] = True
    np.testing.assert_array_equal(masked, bands.reshape(masked.shape))

    # Swin: nine regions of the rolled map.
    def cut(n):
        return np.digitize(np.arange(n), [n - window, n - shift])

    labels = 3 * cut(height)[:, None] + cut(width)[None]
    labels = np.asarray(window_partition(jnp.asarray(labels)[None, :, :, None], window))[..., 0]
    np.testing.assert_array_equal(masked, labels[:, :, None] != labels[:, None, :])


def test_both_tables_give_the_same_bias():
    window, heads, side = 3, 2, 5
    table = np.random.default_rng(1).standard_normal((heads, side, side)).astype(np.float32)
    params = {HEADS_FIRST: jnp.asarray(table), FLAT: jnp.asarray(table.reshape(heads, -1).T)}
    first, flat = (
        RelativePositionBias(heads, window, layout).apply({"params": {"table": value}})
        for layout, value in params.items()
    )
    np.testing.assert_array_equal(first, flat)
    query, key = (0, 2), (1, 0)  # rows and columns: one up, two to the right
    np.testing.assert_array_equal(first[:, 2, 3], table[:, -1 + 2, 2 + 2])
    assert [a[2, 3] for a in relative_positions(3)] == [q - k + 2 for q, k in zip(query, key)]


def by_hand(params, x, heads, window, shift):
    """Each pixel's attention, one at a time, in float64."""
    _, height, width, channels = x.shape
    dense = {k: (np.float64(params[k]["kernel"]), params[k]["bias"]) for k in ("qkv", "proj")}
    table, out = np.float64(params["relative_position"]["table"]), np.zeros(x.shape)
    q, k, v = np.split(x @ dense["qkv"][0] + dense["qkv"][1], 3, axis=-1)
    d = channels // heads
    for b, r, c, h in np.ndindex(*x.shape[:3], heads):
        # In the rolled map: the pixels of the same window that have not come from the other side.
        row, column = (r - shift) % height, (c - shift) % width
        seen = [
            (i, j)
            for i, j in np.ndindex(height, width)
            if ((i - shift) % height // window, (j - shift) % width // window)
            == (row // window, column // window)
            and abs(i - r) < window
            and abs(j - c) < window
        ]
        lanes = slice(h * d, (h + 1) * d)
        logits = [
            q[b, r, c, lanes] @ k[b, i, j, lanes] / d**0.5
            + table[(r - i + window - 1) * (2 * window - 1) + c - j + window - 1, h]
            for i, j in seen
        ]
        weights = np.exp(logits - np.max(logits))
        values = np.stack([v[b, i, j, lanes] for i, j in seen])
        out[b, r, c, lanes] = weights @ values / weights.sum()
    return out @ dense["proj"][0] + dense["proj"][1]


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_equals_attention_by_hand(shift):
    module = WindowAttention(heads=2, window=4, shift=shift)
    x = image(8, 12, channels=4, batch=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda p: np.float32(rng.standard_normal(p.shape)), shapes)
    want = by_hand(params, np.float64(x), 2, 4, shift)
    got = jax.jit(module.apply)({"params": params}, x)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_no_constant_of_the_masks_size_is_compiled_in():
    """A megapixel has 16,384 windows: their mask would be 64 MiB of program."""
    regions = shifted_regions(1024, 1024, 8, 4)
    assert regions.nbytes == 1024 * 1024
    qkv, bias = jnp.zeros((16384, 64, 6)), jnp.zeros((1, 64, 64))
    jaxpr = jax.make_jaxpr(functools.partial(attend_in_windows, regions=regions))(qkv, bias)
    assert sum(np.asarray(c).nbytes for c in jaxpr.consts) <= regions.nbytes


def test_mistakes_are_named():
    for fields, size in ((dict(heads=3), 8), (dict(heads=2), 12)):
        with pytest.raises(UserError, match="do not divide"):
            WindowAttention(**fields).init(jax.random.key(0), jnp.zeros((1, size, size, 4)))
    with pytest.raises(UserError, match="layout 'swin' is unknown"):
        RelativePositionBias(1, 4, "swin").init(jax.random.key(0))
