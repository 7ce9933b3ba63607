import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import case, filled, loaded, relative_error, script

from gen_jax.common.errors import UserError
from gen_jax.models import presets
from gen_jax.models.autoencoder_kl import AutoencoderKL
from tests import tiny_networks

VAES = script().VAES


@pytest.mark.parametrize("name", VAES)
def test_equals_diffusers(name):
    golden = case("diffusers_vae", name)
    model = AutoencoderKL(**script().config_of(VAES[name]))
    variables = loaded(model, golden)

    @jax.jit
    def both(x, z):
        return model.apply(variables, x, method="encode"), model.apply(
            variables, z, method="decode"
        )

    (mean, logvar), decoded = both(golden["x"], golden["mean"])
    assert relative_error(mean, golden["mean"]) < 1e-4
    assert relative_error(logvar, golden["logvar"]) < 1e-4
    assert relative_error(decoded, golden["decoded"]) < 1e-4


def test_parameter_count_is_stable_diffusions():
    model = AutoencoderKL(**presets.SD15_VAE)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs())
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 83_653_863
    assert shapes["params"]["encoder"]["down_blocks_0"]["resnets_0"]["conv1"]["kernel"].shape == (
        *(3, 3, 128, 128),
    )


# As small as it gets with all its kinds of parts: the time goes into compiling.
SMALL = tiny_networks.TINY_VAE | {"block_out_channels": (8, 16)}


def test_call_samples_with_a_key_and_is_the_mean_without():
    model = AutoencoderKL(**SMALL)
    variables = filled(model)
    # The log variance reaches both ends of what is let through.
    variables["params"]["quant_conv"]["bias"][4:] = [1e3, -1e3, 0, 0]
    x = jnp.ones((1, 8, 8, 3)) * 0.3
    apply = jax.jit(model.apply)
    plain, mean, logvar = apply(variables, x)
    assert mean.shape == logvar.shape == (1, 4, 4, 4)
    np.testing.assert_array_equal(logvar[0, 0, 0, :2], [20, -30])
    drawn, again, _ = apply(variables, x, jax.random.key(1))
    np.testing.assert_allclose(mean, again, rtol=1e-5, atol=1e-5)
    decode = jax.jit(lambda z: model.apply(variables, z, method="decode"))
    np.testing.assert_allclose(plain, decode(mean), rtol=1e-4, atol=1e-4)
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(jax.random.key(1), mean.shape)
    np.testing.assert_allclose(drawn, decode(z), rtol=1e-3, atol=1e-3)
    assert not np.allclose(plain, drawn, atol=1e-2)


@pytest.mark.slow
def test_remat_and_bf16():
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)), jnp.float32)
    variables = filled(AutoencoderKL(**SMALL))

    def value_and_grad(**fields):
        model = AutoencoderKL(**SMALL, **fields)

        def loss(params):
            y, mean, logvar = model.apply({"params": params}, x)
            return jnp.mean((y - x) ** 2) + 1e-3 * jnp.mean(mean**2 + logvar**2), y

        (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        return y, grads

    y, grads = value_and_grad()
    y_remat, grads_remat = value_and_grad(remat=True)
    y_bf16, _, _ = jax.jit(AutoencoderKL(**SMALL, dtype="bfloat16").apply)(variables, x)
    np.testing.assert_allclose(y, y_remat, rtol=1e-5, atol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(grads_remat)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(grads))
    assert y_bf16.dtype == jnp.float32
    assert 0 < relative_error(y_bf16, y) < 0.1


def test_mistakes_are_named():
    model = AutoencoderKL(**tiny_networks.TINY_VAE)
    variables = filled(model)
    with pytest.raises(UserError, match="4 channels, its in_channels is 3"):
        model.apply(variables, jnp.zeros((1, 8, 8, 4)), method="encode")
    with pytest.raises(UserError, match="latent_channels is 4"):
        model.apply(variables, jnp.zeros((1, 8, 8, 3)), method="decode")
    wrong = AutoencoderKL(**tiny_networks.TINY_VAE | {"norm_num_groups": 3})
    with pytest.raises(UserError, match="norm_num_groups=3 does not divide 8"):
        jax.eval_shape(wrong.init, jax.random.key(0), *wrong.example_inputs())
    wrong = AutoencoderKL(**tiny_networks.TINY_VAE | {"act_fn": "sine"})
    with pytest.raises(UserError, match="act_fn='sine'"):
        jax.eval_shape(wrong.init, jax.random.key(0), *wrong.example_inputs())
