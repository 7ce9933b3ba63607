"""The Swin-UNet and the estimator: sizes, skips, gates, text, and what each place depends on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.models.degradation_estimator import DegradationEstimator
from gen_jax.models.swin_unet import SwinUNet

SMALL = dict(
    block_out_channels=(8, 16),
    depths=(1, 2, 1),
    attention_levels=(1,),
    head_dim=8,
    window_size=2,
    embed_dim=8,
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


def inputs(height=16, width=16, count=2):
    x = jax.nn.sigmoid(normal(count, height, width, 3))
    return x, jnp.abs(normal(count, 6)), normal(count, 4, 8), jnp.ones((count, 4), bool)


@functools.cache
def built(**changes):
    """A module and parameters none of which is zero."""
    module = SwinUNet(**SMALL | changes)
    args = inputs()
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    leaves, tree = jax.tree.flatten(shapes)
    filled = [
        normal(*s.shape, seed=i) / max(1, np.prod(s.shape[:-1])) ** 0.5
        for i, s in enumerate(leaves)
    ]
    return module, tree.unflatten(filled)


@functools.cache
def compiled(module):
    return jax.jit(lambda p, *a: module.apply({"params": p}, *a))


def run(module, params, *args):
    return compiled(module)(params, *args)


def test_more_blocks_begin_with_the_outputs_of_fewer():
    module, params = built()
    deeper = SwinUNet(**SMALL | {"depths": (2, 2, 2), "zero_init": True})
    fresh = jax.jit(deeper.init)(jax.random.key(0), *inputs())["params"]
    assert fresh.keys() > params.keys()
    np.testing.assert_array_equal(
        run(deeper, fresh | params, *inputs())[0], run(module, params, *inputs())[0]
    )


@pytest.mark.parametrize("size", [(16, 16), (5, 23), (1, 1)])
def test_any_size_comes_back_as_it_was(size):
    module, params = built()
    out, gates = run(module, params, *inputs(*size))
    assert out.shape == (2, *size, 3) and out.dtype == jnp.float32
    assert gates.shape == (2, 1) and bool(((gates > 0) & (gates < 1)).all())


@pytest.mark.parametrize("skip", ["add", "concat", "none"])
def test_skips_carry_what_the_body_loses(skip):
    module, params = built(skip=skip, residual=False)
    args = inputs()
    cut = {**params, "shrink_0": jax.tree.map(jnp.zeros_like, params["shrink_0"])}
    out, _ = run(module, cut, *args)
    other, _ = run(module, cut, 1.0 - args[0], *args[1:])
    changed = float(jnp.abs(out - other).max())
    assert (changed > 1e-3) == (skip != "none")


def test_told_strengths_and_text_change_the_result():
    module, params = built(text=("film", "cross"))
    x, told, text, mask = inputs()
    out, gates = run(module, params, x, told, text, mask)
    assert gates.shape == (2, 3)  # body, decoder, residual
    for other in ((x, told + 0.5, text, mask), (x, told, -text, mask)):
        assert float(jnp.abs(run(module, params, *other)[0] - out).max()) > 1e-4


@pytest.mark.parametrize(
    "gate,count,way",
    [("none", 1, "film"), ("global", 1, "cross"), ("block", 3, "film"), ("block", 3, "cross")],
)
def test_a_shut_gate_leaves_the_picture_and_silences_the_text(gate, count, way):
    module, params = built(text=(way,), gate=gate)
    x, told, text, mask = inputs()
    out, gates = run(module, params, x, told, text, mask)
    assert gates.shape == (2, count)
    if gate == "none":
        assert bool((gates == 1).all()) and "gate_0" not in params
        return
    shut = {
        **params,
        "gate_1": {"kernel": params["gate_1"]["kernel"] * 0, "bias": jnp.full(count, -200.0)},
    }
    np.testing.assert_allclose(run(module, shut, x, told, text, mask)[0], x, atol=1e-6)
    if gate == "block":  # the residual's stays open
        shut["gate_1"]["bias"] = jnp.array([-200.0, -200.0, 200.0])
        out, _ = run(module, shut, x, told, text, mask)
        np.testing.assert_allclose(run(module, shut, x, told, -text, mask)[0], out, atol=1e-6)
        assert float(jnp.abs(out - x).max()) > 1e-3


@pytest.mark.parametrize("place", ["body", "decoder"])
def test_text_is_heard_where_it_is_to_be(place):
    module, params = built(text=("film", "cross"), text_stages=(place,))
    assert [k for k in params if k.endswith("_cross")] == [
        {"body": "body", "decoder": "up_0"}[place] + "_cross"
    ]
    x, told, text, mask = inputs()
    out, gates = run(module, params, x, told, text, mask)
    assert gates.shape == (2, 2)  # that place and the residual
    assert float(jnp.abs(run(module, params, x, told, -text, mask)[0] - out).max()) > 1e-4


def test_recomputing_blocks_changes_nothing():
    module, params = built()
    x, told, *_ = inputs()

    def slope(module):
        return jax.jit(jax.grad(lambda p: module.apply({"params": p}, x, told)[0].sum()))(params)

    for a, b in zip(
        jax.tree.leaves(slope(module)), jax.tree.leaves(slope(module.clone(remat=True)))
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes,word",
    [
        ({"depths": (1, 1)}, "expected 3 entries"),
        ({"head_dim": 5}, "head_dim=5"),
        ({"attention_levels": (2,)}, "attention_levels"),
        ({"skip": "sum"}, "skip='sum'"),
        ({"gate": "open"}, "gate='open'"),
        ({"text": ("prompt",)}, "'prompt'"),
        ({"text_stages": ("head",)}, "text_stages: 'head'"),
        ({"out_channels": 1}, "in_channels equal"),
    ],
)
def test_mistakes_are_named(changes, word):
    module = SwinUNet(**SMALL | changes)
    with pytest.raises(UserError, match=word):
        jax.eval_shape(module.init, jax.random.key(0), *inputs())


def test_estimates_do_not_depend_on_the_size_of_a_uniform_texture():
    module = DegradationEstimator(outputs=6, widths=(4, 8))
    tile = jax.nn.sigmoid(normal(1, 8, 8, 3))
    params = jax.jit(module.init)(jax.random.key(0), tile)
    small, large = (jnp.tile(tile, (1, n, n, 1)) for n in (8, 16))
    estimate = jax.jit(module.apply)
    a, b = estimate(params, small), estimate(params, large)
    assert a.shape == (1, 6)
    np.testing.assert_allclose(a, b, atol=0.05 * float(jnp.abs(a).max()) + 1e-3)
    assert estimate(params, small[:, :7, :5]).shape == (1, 6)
