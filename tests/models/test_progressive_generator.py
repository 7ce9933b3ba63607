"""The generator that grows, and the convolutions that its latent steers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.models.layers.modulated_conv import FiLMConv, StyleConv
from gen_jax.models.progressive_generator import ProgressiveGenerator

SMALL = dict(z_dim=8, w_dim=8, block_out_channels=(8, 8, 4))


def made(**fields):
    model = ProgressiveGenerator(**{**SMALL, **fields})
    z = jax.random.normal(jax.random.key(0), (3, 8))
    keys = jax.random.split(jax.random.key(1), 3)
    params = jax.jit(model.init)(jax.random.key(2), z, keys)["params"]
    # Noise begins with strength 0: make it heard.
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 0.3 if "noise" in str(path[-1]) else x, params
    )
    return model, params, z, keys


def test_style_is_a_modulated_and_demodulated_filter_for_each_sample():
    layer = StyleConv(5)
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 4))
    w = jax.random.normal(jax.random.key(1), (2, 3))
    params = layer.init(jax.random.key(2), x, w)["params"]
    found = layer.apply({"params": params}, x, w)
    style = w @ params["style"]["kernel"] + params["style"]["bias"][None]
    for i in range(2):
        filters = params["kernel"] * style[i][None, None, :, None]
        filters = filters / jnp.sqrt((filters**2).sum((0, 1, 2)) + 1e-8)[None, None, None]
        want = jax.lax.conv_general_dilated(
            x[i : i + 1], filters, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_allclose(found[i], want[0], atol=2e-5)


def test_film_scales_and_shifts_what_is_normalised():
    layer = FiLMConv(6)
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 4))
    w = jax.random.normal(jax.random.key(1), (2, 3))
    params = layer.init(jax.random.key(2), x, w)["params"]
    still = jax.tree.map(jnp.zeros_like, params["film"])
    plain = layer.apply({"params": {**params, "film": still}}, x, w)
    np.testing.assert_allclose(plain.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(plain.std(-1), 1, atol=1e-3)
    film = w @ params["film"]["kernel"]
    want = plain * (1 + film[:, None, None, :6]) + film[:, None, None, 6:]
    np.testing.assert_allclose(layer.apply({"params": params}, x, w), want, atol=1e-5)


@pytest.mark.parametrize("modulation,out_channels", [("style", 3), ("film", 1)])
def test_a_picture_is_that_of_its_latent_and_key_alone(modulation, out_channels):
    model, params, z, keys = made(modulation=modulation, out_channels=out_channels)
    draw = jax.jit(model.apply)
    out = draw({"params": params}, z, keys)
    assert out.shape == (3, 16, 16, out_channels) and model.resolution == 16
    for i in range(3):
        alone = draw({"params": params}, z[i : i + 1], keys[i : i + 1])
        np.testing.assert_allclose(alone[0], out[i], atol=1e-5)
    assert jnp.abs(out[0] - out[1]).max() > 1e-2
    other = draw({"params": params}, z, jax.random.split(jax.random.key(9), 3))
    assert jnp.abs(other - out).max() > 1e-3, "the key does not reach the noise"
    silent = draw({"params": params}, z)
    assert jnp.abs(silent - out).max() > 1e-3, "noise without keys"


def test_the_length_of_a_latent_does_not_count():
    model, params, z, _ = made()
    draw = jax.jit(model.apply)
    a, b = (draw({"params": params}, v * z) for v in (1.0, 5.0))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_new_block_fades_in_over_the_smaller_generator():
    model, params, z, keys = made()
    small = ProgressiveGenerator(**{**SMALL, "block_out_channels": (8, 8)})
    given = {k: v for k, v in params.items() if k != "block_16"}
    below = jax.jit(small.apply)({"params": given}, z, keys)
    doubled = jax.image.resize(below, (3, 16, 16, 3), "bilinear")
    draw = jax.jit(model.apply)
    faded = [draw({"params": params}, z, keys, jnp.float32(f)) for f in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(faded[0], doubled, atol=1e-5)
    np.testing.assert_allclose(faded[1], (faded[0] + faded[2]) / 2, atol=1e-5)
    names = jax.eval_shape(small.init, jax.random.key(0), z, keys)["params"]
    assert jax.tree.structure(names) == jax.tree.structure(given), "init_from would not fit"


def test_recomputed_blocks_have_the_same_gradients():
    def grads_of(remat):
        model, params, z, keys = made(remat=remat)

        def loss(p):
            return jnp.square(model.apply({"params": p}, z, keys)).mean()

        return jax.jit(jax.grad(loss))(params)

    grads = [grads_of(remat) for remat in (False, True)]
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for path, g in jax.tree_util.tree_leaves_with_path(grads[0]):
        assert jnp.abs(g).max() > 0, f"{jax.tree_util.keystr(path)} learns nothing"


def test_half_precision_is_near_and_leaves_parameters_whole():
    model, params, z, keys = made()
    half = ProgressiveGenerator(**SMALL, dtype=jnp.bfloat16)
    out = jax.jit(half.apply)({"params": params}, z, keys)
    assert out.dtype == jnp.float32
    whole = jax.jit(model.apply)({"params": params}, z, keys)
    np.testing.assert_allclose(out, whole, atol=0.15)


def test_mistakes_are_named():
    z = jnp.zeros((1, 8))
    for field in (dict(modulation="none"), dict(out_channels=2)):
        with pytest.raises(UserError, match=next(iter(field))):
            ProgressiveGenerator(**SMALL, **field).init(jax.random.key(0), z)
