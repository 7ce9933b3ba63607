"""SCUNet against spandrel's in PyTorch, and its fields."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import case, relative_error, script, torch_shapes

from gen_jax.common.errors import UserError
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.scunet_files import PORT
from gen_jax.encoders.weights import flax_from_torch
from gen_jax.models.scunet import SCUNet, SwinBlock

GOLDEN = script("make_scunet")


def build(name):
    channels, depths, _, resolution = GOLDEN.CASES[name]
    return SCUNet(
        channels, channels, depths, GOLDEN.DIM, GOLDEN.HEAD_DIM, input_resolution=resolution
    )


def variables(name, module):
    state = GOLDEN.weights(torch_shapes(case("scunet", name)))
    return {"params": flax_from_torch(state, param_shapes(module), PORT)}


def features(variables, x, module):
    """Output and what the body gives."""
    last = f"m_body_{module.depths[3] - 1}"
    out, kept = module.apply(variables, x, capture_intermediates=lambda m, method: m.name == last)
    (body,) = jax.tree.leaves(kept)
    return out, body


def test_equals_spandrel():
    name = "gray_padded"
    module, golden = build(name), case("scunet", name)
    out, body = jax.jit(functools.partial(features, module=module))(
        variables(name, module), GOLDEN.image(name)
    )
    assert relative_error(body[..., ::4], golden["body"]) < 1e-4
    assert out.shape == golden["out"].shape and relative_error(out, golden["out"]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN.CASES)
def test_equals_spandrel_with_its_slope(name):
    golden = case("scunet", name)
    module = build(name).clone(remat=name == "gray_deep")

    @jax.jit
    def compute(variables, x):
        def total(x):
            out, body = features(variables, x, module)
            return (out * GOLDEN.direction(name, out.shape)).sum(), (out, body)

        return jax.grad(total, has_aux=True)(x)

    slope, (out, body) = compute(variables(name, module), GOLDEN.image(name))
    assert relative_error(body[..., ::4], golden["body"]) < 1e-4
    assert relative_error(out, golden["out"]) < 1e-4
    assert relative_error(slope, golden["slope"]) < 1e-3


@pytest.mark.parametrize(
    "fields,count",
    [
        ({}, 17_946_072),
        pytest.param(dict(in_channels=1, out_channels=1), 17_943_768, marks=pytest.mark.slow),
        # As published 40,324,416, but its heads of 32 do not divide 48 channels: 40 heads fewer.
        pytest.param(dict(dim=96, head_dim=48), 40_324_416 - 40 * 15 * 15, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts_are_the_published_ones(fields, count):
    assert sum(s.size for s in jax.tree.leaves(param_shapes(SCUNet(**fields)))) == count


def test_drop_path_leaves_out_whole_branches():
    block = SwinBlock(heads=1, window_size=2, shift=0, drop_path=0.5)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((64, 2, 2, 4)), jnp.float32)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda s: np.float32(rng.standard_normal(s.shape)), shapes)

    @jax.jit
    def both(variables, x):
        drop = block.apply(variables, x, False, rngs={"dropout": jax.random.key(2)})
        return drop, block.apply(variables, x)

    dropped, whole = (np.all(np.asarray(y == x), axis=(1, 2, 3)) for y in both(variables, x))
    assert 0.1 < dropped.mean() < 0.45  # a quarter of the images skip both
    assert not whole.any()


def test_bfloat16_keeps_parameters_and_result_in_float32():
    module = SCUNet(dim=16, head_dim=8, depths=(1,) * 7, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *module.example_inputs())
    assert {s.dtype for s in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    out = jax.eval_shape(module.apply, shapes, jnp.zeros((1, 10, 70, 3)))
    assert out.shape == (1, 10, 70, 3) and out.dtype == jnp.float32


def test_mistakes_are_named():
    for fields, message in (
        (dict(depths=(2, 2)), "expected 7 entries"),
        (dict(dim=96), "multiple of 2 head_dim = 64"),
    ):
        with pytest.raises(UserError, match=message):
            param_shapes(SCUNet(**fields))
