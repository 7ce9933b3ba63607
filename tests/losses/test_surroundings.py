import jax.numpy as jnp
import numpy as np

from gen_jax.losses import surroundings
from gen_jax.losses.hog import hog


def test_a_patch_is_described_by_its_own_cells_and_those_around():
    image = jnp.asarray(np.random.default_rng(0).random((2, 16, 24, 3)), jnp.float32)
    found = np.asarray(surroundings.describe(image, 8))
    assert found.shape == (2, 2, 3, surroundings.WIDTH)
    fine = found[..., :144].reshape(2, 2, 3, 4, 4, 9)
    cells = np.asarray(hog(image, 4))
    np.testing.assert_allclose(fine[:, 0, 1], cells[:, [0, 0, 1, 2]][:, :, 1:5], rtol=1e-6)
    coarse = found[..., 144:225].reshape(2, 2, 3, 3, 3, 9)
    np.testing.assert_allclose(coarse[:, :, :, 1, 1], hog(image, 8), rtol=1e-6)
    color = found[..., 225:].reshape(2, 2, 3, 2, 2, 3)
    np.testing.assert_allclose(color[:, 1, 2, 0, 1], image[:, 8:12, 20:].mean((1, 2)), rtol=1e-5)


def test_errors_of_the_mean_are_one_and_of_the_truth_zero():
    target = jnp.asarray(np.random.default_rng(0).random((4, 6, 6, surroundings.WIDTH)) * 9)
    mean, deviation = (f(target, (0, 1, 2), keepdims=True) for f in (jnp.mean, jnp.std))
    for said, want in ((jnp.zeros_like(target), 1.0), ((target - mean) / (deviation + 0.02), 0.0)):
        found = surroundings.errors(said, target)
        assert set(found) == {"fine", "coarse", "color"}
        for name, value in found.items():
            np.testing.assert_allclose(value.mean(), want, atol=0.03, err_msg=name)
