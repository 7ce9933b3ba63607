"""Views drawn on the device: fixed by their key, and what their fields say."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.data.load.views import Views

PLAIN = dict(
    scale=(1.0, 1.0), aspect=1.0, flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0
)


def pictures(count=4, side=16):
    smooth = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3))
    return jnp.asarray(smooth.repeat(side // 4, 1).repeat(side // 4, 2), jnp.uint8)


def test_a_key_decides_a_view():
    draw = jax.jit(Views(size=8).draw)
    x = pictures()
    one, again, other = (draw(jax.random.key(k), x) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (4, 8, 8, 3) and float(one.min()) >= 0 and float(one.max()) <= 1
    assert (np.abs(np.asarray(one - other)).mean((1, 2, 3)) > 1e-3).all()


def test_with_everything_off_a_view_is_the_picture():
    x = pictures()
    view = Views(size=16, **PLAIN).draw(jax.random.key(0), x)
    np.testing.assert_allclose(view, x / 255.0, atol=2e-6)
    half = Views(size=4, **PLAIN).draw(jax.random.key(0), x)
    assert half.shape == (4, 4, 4, 3)


def test_each_change_is_what_it_is_called():
    x, key = pictures(), jax.random.key(3)
    whole = np.asarray(x) / 255.0

    def with_(**changes):
        return np.asarray(Views(size=16, **(PLAIN | changes)).draw(key, x))

    np.testing.assert_allclose(with_(flip=1.0), whole[:, :, ::-1], atol=2e-6)
    gray = with_(grayscale=1.0)
    np.testing.assert_allclose(gray[..., 0], gray[..., 2], atol=1e-6)
    np.testing.assert_allclose(gray[..., 0], whole @ [0.299, 0.587, 0.114], atol=2e-6)
    inverted = with_(solarize=1.0)
    np.testing.assert_allclose(inverted, np.where(whole > 0.5, 1 - whole, whole), atol=2e-6)
    blurred = with_(blur=1.0, blur_sigma=(0.1, 0.1))
    assert blurred.std() < whole.std()
    np.testing.assert_allclose(blurred.mean(), whole.mean(), atol=0.02)
    # A turned hue leaves the luma.
    turned = with_(jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.02)
    inside = ((turned > 0) & (turned < 1)).all(-1)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose((turned @ luma)[inside], (whole @ luma)[inside], atol=1e-3)
    assert np.abs(turned - whole).max() > 0.01
