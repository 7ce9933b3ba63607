import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import case, filled, loaded, relative_error, script, torch_shapes

from gen_jax.common.errors import UserError
from gen_jax.encoders.diffusers_config import module_from_config
from gen_jax.encoders.weights import torch_from_flax
from gen_jax.models import presets
from gen_jax.models.unet_2d_condition import UNet2DConditionModel
from tests import tiny_networks

UNETS = script().UNETS


@pytest.mark.parametrize("name", UNETS)
def test_equals_diffusers(name):
    golden = case("diffusers_unet", name)
    config = script().config_of(UNETS[name]) | {"_class_name": "UNet2DConditionModel"}
    model = module_from_config(config, name)
    variables = loaded(model, golden)
    out = jax.jit(model.apply)(
        variables,
        golden["x"],
        jnp.asarray(UNETS[name]["times"]),
        golden["context"],
        golden["mask"] if "mask" in UNETS[name] else None,
        golden["vector"] if golden["vector"].size else None,
    )
    assert relative_error(out, golden["out"]) < 1e-4
    keys = {k: v.shape for k, v in torch_from_flax(variables["params"]).items()}
    assert keys == torch_shapes(golden)


@pytest.mark.parametrize(
    ("preset", "count"), [("SD15_UNET", 859_520_964), ("SD2_UNET", 865_910_724)]
)
def test_parameter_count_is_stable_diffusions(preset, count):
    model = UNet2DConditionModel(**getattr(presets, preset))
    shapes = jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs())
    assert sum(x.size for x in jax.tree.leaves(shapes)) == count
    projection = shapes["params"]["down_blocks_0"]["attentions_0"]["proj_in"]["kernel"]
    assert projection.ndim == (2 if preset == "SD2_UNET" else 4)


# As small as it gets with all its kinds of blocks: the time goes into compiling.
SMALL = tiny_networks.TINY_UNET | {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def inputs(size=4):
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.standard_normal((2, size, size, 4)), jnp.float32),
        jnp.array([3, 900]),
        jnp.asarray(rng.standard_normal((2, 3, 16)), jnp.float32),
    )


@pytest.mark.slow
def test_remat_and_bf16():
    variables = filled(UNet2DConditionModel(**SMALL))
    x, t, context = inputs()

    def value_and_grad(**fields):
        model = UNet2DConditionModel(**SMALL, **fields)

        def loss(params):
            y = model.apply({"params": params}, x, t, context)
            return jnp.mean((y - x) ** 2), y

        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, y), grads = step(variables["params"])
        return y, grads

    y, grads = value_and_grad()
    y_remat, grads_remat = value_and_grad(remat=True)
    half = UNet2DConditionModel(**SMALL, dtype="bfloat16")
    y_bf16 = jax.jit(half.apply)(variables, x, t, context)
    np.testing.assert_allclose(y, y_remat, rtol=1e-5, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(grads_remat)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(grads))
    assert y_bf16.dtype == jnp.float32
    assert 0 < relative_error(y_bf16, y) < 0.1


def test_masked_states_take_no_part_and_dropout_has_to_be_asked_for():
    model = UNet2DConditionModel(**SMALL, dropout=0.5)
    variables = filled(model)
    x, t, context = inputs()
    apply = jax.jit(model.apply, static_argnames="deterministic")
    mask = jnp.array([[True, True, False], [True, False, False]])
    out = apply(variables, x, t, context, mask)
    other = context.at[0, 2].set(50.0).at[1, 1:].set(-50.0)
    np.testing.assert_allclose(out, apply(variables, x, t, other, mask), rtol=1e-5, atol=1e-5)
    everything = apply(variables, x, t, other, jnp.ones_like(mask))
    assert not np.allclose(out, everything, atol=1e-3)
    dropped = apply(
        variables, x, t, context, mask, deterministic=False, rngs={"dropout": jax.random.key(0)}
    )
    assert not np.allclose(out, dropped, atol=1e-3)


def test_a_batch_is_as_its_samples():
    model = UNet2DConditionModel(**SMALL)
    variables = filled(model)
    x, t, context = inputs()
    apply = jax.jit(model.apply)
    batch = apply(variables, x, t, context)
    for i in range(2):
        one = apply(variables, x[i : i + 1], t[i : i + 1], context[i : i + 1])
        np.testing.assert_allclose(batch[i : i + 1], one, rtol=1e-4, atol=1e-5)


def test_mistakes_are_named():
    x, t, context = inputs()

    def shapes(x=x, context=context, **fields):
        model = UNet2DConditionModel(**tiny_networks.TINY_UNET | fields)
        return jax.eval_shape(model.init, jax.random.key(0), x, t, context)

    with pytest.raises(UserError, match="in_channels is 9"):
        shapes(in_channels=9)
    with pytest.raises(UserError, match="cross_attention_dim is 8"):
        shapes(cross_attention_dim=8)
    with pytest.raises(UserError, match="attention heads do not divide 16"):
        shapes(attention_head_dim=3)
    with pytest.raises(UserError, match="expected one number, or 2"):
        shapes(attention_head_dim=(1, 2, 4))
    with pytest.raises(UserError, match="down_block_types"):
        shapes(down_block_types=("DownBlock2D", "AttnDownBlock2D"))
    with pytest.raises(UserError, match="class_labels have None features"):
        shapes(class_embed_type="projection", projection_class_embeddings_input_dim=7)
    with pytest.raises(UserError, match="expected projection or None"):
        shapes(class_embed_type="timestep")
    with pytest.raises(UserError, match="expected default or scale_shift"):
        shapes(resnet_time_scale_shift="ada_group")
    with pytest.raises(UserError, match="mid_block_type='Middle'"):
        shapes(mid_block_type="Middle")
