"""Perceptual terms: distances that grow as an image gets worse, with usable gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage

from gen_jax.common.errors import UserError
from gen_jax.losses import perceptual, reconstruction

PHOTO = skimage.data.astronaut()[None, 100:132, 180:220] / 127.5 - 1
TERMS = {name: jax.jit(term) for name, term in perceptual.TERMS.items()}


def image(x):
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("name", TERMS)
def test_it_is_a_distance_of_each_sample(name):
    term = TERMS[name]
    x = image(np.concatenate([PHOTO, PHOTO]))
    y = image(np.concatenate([PHOTO, PHOTO[:, ::-1]]))
    got = term(x, y)
    assert got.shape == (2,) and abs(got[0]) < 1e-12 and got[1] > 0.01
    np.testing.assert_allclose(got, term(y, x), rtol=1e-5)
    np.testing.assert_allclose(got[1:], term(x[1:], y[1:]), rtol=1e-4)


@pytest.mark.parametrize("name", TERMS)
def test_blur_and_noise_cost_more_the_stronger_they_are(name):
    noise = np.random.RandomState(0).randn(*PHOTO.shape)
    for worse in (
        [PHOTO + s * noise for s in (0.02, 0.1, 0.3)],
        [scipy.ndimage.gaussian_filter(PHOTO, (0, s, s, 0)) for s in (0.5, 1, 2)],
    ):
        values = [float(TERMS[name](image(PHOTO), image(y))[0]) for y in worse]
        assert values == sorted(values) and values[0] < 0.7 * values[-1]


def test_blur_costs_more_than_a_shade_of_the_same_error():
    """What a pixel loss cannot tell: equal squared errors, one of them all detail."""
    blurred = scipy.ndimage.gaussian_filter(PHOTO, (0, 1.5, 1.5, 0))
    shaded = PHOTO + np.sqrt(((PHOTO - blurred) ** 2).mean())
    x = image(PHOTO)
    np.testing.assert_allclose(
        reconstruction.l2(x, image(shaded)), reconstruction.l2(x, image(blurred)), rtol=1e-4
    )
    for term in TERMS.values():
        assert term(x, image(blurred))[0] > 2 * term(x, image(shaded))[0]


def test_gradient_loss_by_hand():
    """A step of height 1 between two halves: seen once a row at every scale."""
    x = jnp.zeros((1, 8, 8, 1))
    y = x.at[:, :, 4:].set(1.0)
    expected = (1 / 7 + 1 / 3) / 4
    np.testing.assert_allclose(perceptual.multiscale_gradient_loss(x, y, 2)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(perceptual.multiscale_gradient_loss(y, y + 3)[0], 0, atol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite_at_the_optimum_and_on_flat_images(name):
    gradient = jax.jit(jax.grad(lambda x, y: perceptual.TERMS[name](x, y).sum()))
    for x in (image(PHOTO), image(PHOTO * 0)):
        assert np.isfinite(gradient(x, x)).all()
        assert np.abs(gradient(x + 0.1 * image(PHOTO[:, ::-1]), x)).max() > 0


def test_small_images_are_refused():
    with pytest.raises(UserError, match="levels"):
        perceptual.multiscale_gradient_loss(jnp.zeros((1, 7, 9, 3)), jnp.zeros((1, 7, 9, 3)))
