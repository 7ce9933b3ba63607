"""PSNR, SSIM and luma against scikit-image and by hand."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from gen_jax.common.errors import UserError
from gen_jax.metrics.luma import bt601_luma
from gen_jax.metrics.psnr import mse, psnr
from gen_jax.metrics.ssim import ssim as eager_ssim

ssim = jax.jit(eager_ssim, static_argnames=("data_range", "window"))

PHOTO = skimage.data.astronaut()[100:164, 180:276].astype(np.float64) / 255
NOISY = np.clip(PHOTO + 0.1 * np.random.RandomState(0).randn(*PHOTO.shape), 0, 1)
DARK = PHOTO * 0.1
PAIRS = {"noise": (PHOTO, NOISY), "contrast": (PHOTO, DARK), "flat": (PHOTO, PHOTO * 0 + 0.5)}


def batch(image, data_range=1.0):
    return jnp.asarray(image * data_range, jnp.float32)[None]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("data_range", [1.0, 2.0, 255.0])
@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_ssim_is_scikit_images(name, data_range, window):
    x, y = PAIRS[name]
    options = {}
    if window == "gaussian":
        options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    expected = structural_similarity(
        x * data_range, y * data_range, channel_axis=-1, data_range=data_range, **options
    )
    got = ssim(batch(x, data_range), batch(y, data_range), data_range=data_range, window=window)
    np.testing.assert_allclose(got[0], expected, atol=1e-5)


def test_ssim_of_a_batch_is_each_alone_and_of_itself_one():
    x = jnp.concatenate([batch(PHOTO), batch(NOISY)])
    y = jnp.concatenate([batch(DARK), batch(NOISY)])
    both = ssim(x, y)
    np.testing.assert_allclose(both[0], ssim(x[:1], y[:1])[0], atol=1e-6)
    np.testing.assert_allclose(both[1], 1, atol=1e-6)


def test_psnr_is_scikit_images():
    for data_range in (1.0, 255):
        got = psnr(batch(PHOTO, data_range), batch(NOISY, data_range), data_range)
        expected = peak_signal_noise_ratio(PHOTO, NOISY, data_range=1.0)
        np.testing.assert_allclose(got[0], expected, atol=1e-4)
    got = mse(batch(PHOTO), batch(NOISY))
    np.testing.assert_allclose(got[0], mean_squared_error(PHOTO, NOISY), rtol=1e-5)
    assert np.isposinf(psnr(batch(PHOTO), batch(PHOTO)))


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(level=st.floats(0.01, 0.5))
def test_psnr_of_a_constant_error(level):
    x = jnp.zeros((1, 8, 8, 3))
    np.testing.assert_allclose(psnr(x, x + level)[0], -20 * np.log10(level), atol=1e-3)


def test_more_noise_is_worse():
    noise = np.random.RandomState(1).randn(*PHOTO.shape)
    worse = [batch(PHOTO + s * noise) for s in (0.02, 0.05, 0.1, 0.2)]
    for metric in (psnr, ssim):
        values = [float(metric(batch(PHOTO), y)[0]) for y in worse]
        assert values == sorted(values, reverse=True)


def test_luma_is_scikit_images_and_in_studio_range():
    expected = skimage.color.rgb2ycbcr(PHOTO)[..., :1] / 255
    np.testing.assert_allclose(bt601_luma(batch(PHOTO))[0], expected, atol=1e-6)
    ends = bt601_luma(jnp.stack([jnp.zeros((1, 1, 3)), jnp.ones((1, 1, 3))]))
    np.testing.assert_allclose(ends.ravel() * 255, [16, 235], atol=1e-4)


def test_numpy_images_will_do():
    np.testing.assert_allclose(psnr(PHOTO[None], NOISY[None]), psnr(batch(PHOTO), batch(NOISY)))
    np.testing.assert_allclose(
        eager_ssim(PHOTO[None], NOISY[None])[0], ssim(batch(PHOTO), batch(NOISY))[0], rtol=1e-5
    )


def test_mistakes_are_named():
    with pytest.raises(UserError, match="window"):
        ssim(batch(PHOTO), batch(PHOTO), window="square")
    with pytest.raises(UserError, match="at least 11"):
        ssim(jnp.zeros((1, 10, 20, 3)), jnp.zeros((1, 10, 20, 3)))
