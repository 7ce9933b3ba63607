"""Random features: the same everywhere, and able to tell worse from better."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage

from gen_jax.common.errors import UserError
from gen_jax.metrics.features import random_conv_features
from gen_jax.metrics.frechet import frechet
from gen_jax.metrics.kid import mmd2


def crops(count=240, size=16):
    random, photo = np.random.RandomState(0), skimage.data.astronaut()
    corners = random.randint(0, 512 - size, (count, 2))
    return np.stack([photo[i : i + size, j : j + size] for i, j in corners]) / 255.0


RECORDED = [0.0819198, -0.7509266, 0.1054767, -1.7859735, 0.0312895, -1.5651820]
EXTRACT = jax.jit(random_conv_features)


def features(images):
    return np.asarray(EXTRACT(jnp.asarray(images, jnp.float32)))


def test_values_never_change():
    """Recorded once: features of two machines or versions must compare."""
    image = np.linspace(0, 1, 16 * 16 * 3).reshape(1, 16, 16, 3)
    got = features(image)
    assert got.shape == (1, 256)
    np.testing.assert_allclose(got[0, [0, 24, 48, 88, 128, 255]], RECORDED, atol=1e-5)
    np.testing.assert_array_equal(got, features(image))


def test_an_images_features_do_not_depend_on_its_batch():
    x = crops()
    np.testing.assert_allclose(features(x)[::-1], features(x[::-1]), atol=1e-5)


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
    real = features(x)[: len(x) // 2]
    fakes = [features(worsen(x, s))[len(x) // 2 :] for s in (0.0, 0.1, 0.2, 0.4)]
    for distance in (frechet, mmd2):
        values = [distance(real, fake) for fake in fakes]
        assert values == sorted(values), values


def test_small_images_are_refused():
    with pytest.raises(UserError, match="at least 8"):
        random_conv_features(jnp.zeros((1, 7, 9, 3)))
