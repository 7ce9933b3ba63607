import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import arrays, relative_error
from towers import GOLDEN, GRADIENT_TOLERANCE, Errors, count, golden, loaded, same, state_of

from gen_jax.common.errors import UserError
from gen_jax.encoders import dinov2
from gen_jax.encoders.patches import bicubic_matrix, resize_positions
from gen_jax.encoders.weights import torch_from_flax

# Compiling whole towers takes minutes: with the slow tests.
pytestmark = pytest.mark.slow

COUNTS = {
    "dinov2-small": 22_056_576,
    "dinov2-base": 86_580_480,
    "dinov2-large": 304_368_640,
    "dinov2-giant": 1_136_480_768,
    "dinov2-with-registers-small": 22_058_112,
    "dinov2-with-registers-base": 86_583_552,
    "dinov2-with-registers-large": 304_372_736,
    "dinov2-with-registers-giant": 1_136_486_912,
}


def tower(name, **options):
    case = GOLDEN.DINOV2[name]
    module = dinov2.from_hf_config(case["config"], **options)
    want = golden("dinov2", name)
    return module, loaded(module, state_of(want)), want, case["sizes"]


def tokens(out):
    """Class token, registers and patches in one sequence, as transformers has them."""
    patches = out["patches"].reshape(out["patches"].shape[0], -1, out["patches"].shape[-1])
    return jnp.concatenate([out["cls"][:, None], out["registers"], patches], axis=1)


@pytest.mark.parametrize("name", GOLDEN.DINOV2)
def test_outputs_and_blocks_are_those_of_transformers(name):
    module, variables, want, sizes = tower(name)
    layers = range(module.num_hidden_layers)
    errors = Errors()
    # The giants differ in their blocks; sizes, norms and masks come before and after those.
    whole = not name.startswith("giant")
    for i, size in enumerate(sizes if whole else sizes[:1]):
        x = GOLDEN.images(name, size)
        out = jax.jit(lambda v, x: module.apply(v, x, layers=layers, norm=False))(variables, x)
        p = module.patch_size
        assert out["patches"].shape[1:3] == (size[1] // p, size[2] // p)
        assert out["registers"].shape[1] == module.num_register_tokens
        errors.add(f"last{i}", tokens(out), want[f"last{i}"])
        if i == 0:
            for layer, got in enumerate(out["intermediate"]):
                errors.add(f"block {layer}", tokens(got), want["hidden"][layer + 1])
    if whole:
        x = GOLDEN.images(name, sizes[0])
        out = jax.jit(lambda v, x: module.apply(v, x, layers=(0, -1)))(variables, x)
        errors.add("block 0, normalised", tokens(out["intermediate"][0]), want["normed"])
        errors.add("last block, normalised", tokens(out["intermediate"][1]), want["last0"])
        masked = jax.jit(module.apply)(variables, x, want["masked"])
        errors.add("masked", tokens(masked), want["last_masked"])
    errors.check()


@pytest.mark.parametrize("name", GOLDEN.DINOV2)
def test_gradient_with_respect_to_the_image(name):
    # Both ways of the backward pass, each on half of the towers.
    module, variables, want, sizes = tower(name, remat="registers" in name)

    def scalar(x):
        out = module.apply(variables, x, layers=(0,))
        last, first = tokens(out), tokens(out["intermediate"][0])
        weights = [GOLDEN.noise(f"{name}.{k}", last.shape) for k in ("last", "first")]
        return jnp.vdot(last, weights[0]) + jnp.vdot(first, weights[1])

    got = jax.jit(jax.grad(scalar))(GOLDEN.images(name, sizes[0]))
    errors = Errors()
    errors.add("gradient", got, want["gradient"])
    errors.check(GRADIENT_TOLERANCE)


@pytest.mark.parametrize("name", arrays("bicubic"))
def test_resizing_is_that_of_torch(name):
    side, rows, columns, antialias = name.split("-")
    side, rows, columns, antialias = int(side), int(rows), int(columns), antialias == "True"
    table = GOLDEN.noise(f"resize{side}", (1, side, side, 2)).reshape(side * side, 2)
    if (rows, columns) != (side, side):
        got = resize_positions(jnp.asarray(table), rows, columns, antialias)
        want = arrays("bicubic")[name].reshape(rows * columns, 2)
        assert relative_error(got, want) < 1e-5
    for size in (rows, columns):
        np.testing.assert_allclose(bicubic_matrix(side, size, antialias).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(name):
    module = dinov2.DINOv2(**dinov2.PRESETS[name])
    assert count(module) == COUNTS[name]
    assert set(COUNTS) == set(dinov2.PRESETS)


def test_a_preset_is_what_its_config_says():
    config = {
        "model_type": "dinov2_with_registers",
        "architectures": ["Dinov2WithRegistersModel"],
        "hidden_size": 1536,
        "num_hidden_layers": 40,
        "num_attention_heads": 24,
        "mlp_ratio": 4,
        "image_size": 518,
        "patch_size": 14,
        "use_swiglu_ffn": True,
        "num_register_tokens": 4,
        "layer_norm_eps": 1e-06,
        "qkv_bias": True,
        "hidden_act": "gelu",
    }
    want = dinov2.DINOv2(**dinov2.PRESETS["dinov2-with-registers-giant"])
    assert dinov2.from_hf_config(config) == want
    small = {**config, "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12}
    small |= {"num_attention_heads": 6, "use_swiglu_ffn": False}
    assert dinov2.from_hf_config(small) == dinov2.DINOv2(**dinov2.PRESETS["dinov2-small"])
    with pytest.raises(UserError, match="model_type='vit'"):
        dinov2.from_hf_config({"model_type": "vit"})
    with pytest.raises(UserError, match="only squares"):
        dinov2.from_hf_config({**small, "image_size": [518, 224]})


def test_keys_go_both_ways_and_classifiers_are_left_out():
    module, variables, want, _ = tower("giant_registers")
    state = state_of(want)
    back = torch_from_flax(variables["params"], module.port)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[k], state[k]) for k in state)
    prefixed = {f"dinov2_with_registers.{k}": v for k, v in state.items()}
    prefixed["classifier.weight"] = np.zeros((3, 48), np.float32)
    assert same(loaded(module, prefixed), variables)
    del prefixed["dinov2_with_registers.embeddings.register_tokens"]
    with pytest.raises(UserError, match="register_tokens"):
        loaded(module, prefixed)


def test_errors_name_the_mistake():
    module, variables, _, _ = tower("plain")
    with pytest.raises(UserError, match="multiples of the patch size 14"):
        module.apply(variables, jnp.zeros((1, 56, 57, 3)))
    with pytest.raises(UserError, match="none of this tower's 3 blocks"):
        module.apply(variables, jnp.zeros((1, 56, 56, 3)), layers=(3,))


def test_bfloat16_stays_close_over_float32_parameters():
    module, variables, want, sizes = tower("registers", dtype=jnp.bfloat16)
    out = jax.jit(module.apply)(variables, GOLDEN.images("registers", sizes[0]))
    assert out["patches"].dtype == jnp.bfloat16
    assert relative_error(tokens(out).astype(jnp.float32), want["last0"]) < 0.05
    fields = {f.name for f in dataclasses.fields(module)}
    assert {"dtype", "remat", "attention_implementation"} <= fields
