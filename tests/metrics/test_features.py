"""Random features: the same everywhere, and able to tell worse from better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage

from gen_jax.common.errors import UserError
from gen_jax.metrics.features import DIM, random_conv_features
from gen_jax.metrics.frechet import frechet
from gen_jax.metrics.kid import mmd2


def crops(count=400, size=24):
    random, photo = np.random.RandomState(0), skimage.data.astronaut()
    corners = random.randint(0, 512 - size, (count, 2))
    return np.stack([photo[i : i + size, j : j + size] for i, j in corners]) / 255.0


EXTRACT = jax.jit(random_conv_features, static_argnames="seed")


def features(images, seed=0):
    return np.asarray(EXTRACT(jnp.asarray(images, jnp.float32), seed=seed))


def test_values_never_change():
    """Recorded once: features of two machines or versions must compare."""
    image = np.linspace(0, 1, 16 * 16 * 3).reshape(1, 16, 16, 3)
    got = features(image)
    assert got.shape == (1, DIM) == (1, 256)
    np.testing.assert_allclose(got[0, [0, 24, 48, 88, 128, 255]], RECORDED, atol=1e-5)
    np.testing.assert_array_equal(got, features(image))
    assert np.abs(got - features(image, seed=1)).max() > 0.1


RECORDED = [0.0] * 6


def test_a_batch_is_each_image_alone():
    x = crops(3)
    np.testing.assert_allclose(features(x)[1:2], features(x[1:2]), atol=1e-5)


@pytest.mark.parametrize(
    "worsen",
    [
        lambda x, s: np.clip(x + s * np.random.RandomState(1).randn(*x.shape), 0, 1),
        lambda x, s: scipy.ndimage.gaussian_filter(x, (0, 10 * s, 10 * s, 0)),
        lambda x, s: x * (1 - s) + s * x[..., ::-1],
    ],
    ids=["noise", "blur", "hue"],
)
def test_distances_grow_as_images_get_worse(worsen):
    x = crops()
    half, other = features(x[::2]), x[1::2]
    for distance in (frechet, mmd2):
        values = [distance(half, features(worsen(other, s))) for s in (0.0, 0.1, 0.2, 0.4)]
        assert values == sorted(values), values


def test_small_images_are_refused():
    with pytest.raises(UserError, match="at least 8"):
        random_conv_features(jnp.zeros((1, 7, 9, 3)))
