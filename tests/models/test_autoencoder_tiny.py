import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import case, filled, loaded, relative_error, script

from gen_jax.common.errors import UserError
from gen_jax.models.autoencoder_tiny import AutoencoderTiny

TINIES = script().TINIES
SMALL = dict(
    encoder_block_out_channels=(8, 8),
    decoder_block_out_channels=(8, 8),
    num_encoder_blocks=(1, 1),
    num_decoder_blocks=(1, 1),
    latent_channels=4,
)


@pytest.mark.parametrize("name", TINIES)
def test_equals_diffusers(name):
    golden = case("diffusers_tiny", name)
    model = AutoencoderTiny(**script().config_of(TINIES[name]))
    variables = loaded(model, golden)

    @jax.jit
    def both(x, z):
        encoded = model.apply(variables, x, method="encode")
        return encoded, model.apply(variables, z, method="decode")

    (mean, logvar), decoded = both(golden["x"], golden["mean"])
    assert relative_error(mean, golden["mean"]) < 1e-4
    np.testing.assert_array_equal(logvar, golden["logvar"])
    assert relative_error(decoded, golden["decoded"]) < 1e-4


def test_gradients_and_bf16():
    model = AutoencoderTiny(**SMALL, use_midblock_gn=True)
    assert model.downscale_factor == 2
    variables = filled(model)
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)), jnp.float32)

    def loss(params):
        return jnp.mean((model.apply({"params": params}, x)[0] - x) ** 2)

    grads = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    y = jax.jit(model.apply)(variables, x, jax.random.key(0))[0]
    half = jax.jit(model.clone(dtype=jnp.bfloat16).apply)(variables, x)[0]
    assert half.dtype == jnp.float32
    assert 0 < relative_error(half, y) < 0.1


def test_mistakes_are_named():
    wrong = AutoencoderTiny(**SMALL | {"num_encoder_blocks": (1, 1, 1)})
    with pytest.raises(UserError, match="num_encoder_blocks"):
        jax.eval_shape(wrong.init, jax.random.key(0), *wrong.example_inputs())


def test_taef2_brings_photographs_back(shared, tmp_path):
    from skimage import data
    from taesd_files import load_taesd

    with zipfile.ZipFile(shared / "weights_small.zip") as archive:
        for part in ("encoder", "decoder"):
            archive.extract(f"taef2_{part}.safetensors", tmp_path)
    files = [tmp_path / f"taef2_{part}.safetensors" for part in ("encoder", "decoder")]
    model, params = load_taesd(*files)
    assert (model.latent_channels, model.downscale_factor) == (32, 8)
    apply = jax.jit(model.apply)
    for image in (data.astronaut()[:192, 100:292], data.coffee()[:192, :192]):
        x = jnp.asarray(image[None] / 127.5 - 1, jnp.float32)
        y, mean, _ = apply({"params": params}, x)
        back = np.clip(np.round((np.asarray(y[0]) + 1) * 127.5), 0, 255)
        psnr = 10 * np.log10(255**2 / np.mean((back - image) ** 2))
        assert psnr > 25
        assert 0.5 < mean.std() < 1.5
    with pytest.raises(UserError, match="in this order"):
        load_taesd(*reversed(files))
