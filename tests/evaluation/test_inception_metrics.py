"""FID and KID end to end through Inception-v3 of random weights, by both ways to its input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from gen_jax.encoders import image_features
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.inception import PORT, InceptionV3
from gen_jax.encoders.inception_inputs import clean_fid_inputs, clean_resize, pytorch_fid_inputs
from gen_jax.encoders.weights import torch_from_flax
from gen_jax.evaluation import comparison
from gen_jax.evaluation.image_metrics import measure
from gen_jax.metrics import frechet, kid
from tests.evaluation.test_image_metrics import compared, images

# Compiling and running Inception takes half a minute.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]


def random_params():
    rng = np.random.default_rng(0)

    def fill(path, s):
        kind = path[-1].key
        if kind in ("scale", "var"):
            return np.ones(s.shape, np.float32)
        if kind in ("bias", "mean"):
            return np.zeros(s.shape, np.float32)
        return (rng.normal(size=s.shape) * np.sqrt(2 / np.prod(s.shape[:-1]))).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, param_shapes(InceptionV3()))


def test_fid_and_kid_are_those_of_inceptions_features(tmp_path, monkeypatch):
    params = random_params()
    save_file(torch_from_flax(params, PORT), tmp_path / "inception.safetensors")
    spec = f"inception-v3-fid:{tmp_path / 'inception.safetensors'}"
    small = functools.partial(image_features.open_features, batch_size=8)
    monkeypatch.setattr(comparison.image_features, "open_features", small)
    a, b = images(0, 8), images(1, 8, noise=100)
    names = ("fid", "kid", "clean_fid", "clean_kid", "prdc")
    found, notes = measure(names, compared([spec], a, b))
    assert "8 images" in notes["fid"] and "precision_inception-v3-fid" in found

    apply = jax.jit(lambda x: InceptionV3().apply({"params": params}, x).pooled)
    plain = [apply(pytorch_fid_inputs(jnp.asarray(x / 255, jnp.float32))) for x in (a, b)]
    clean = [apply(clean_fid_inputs(np.stack([clean_resize(i) for i in x]))) for x in (a, b)]
    for prefix, features in (("", plain), ("clean_", clean)):
        x, y = map(np.asarray, features)
        np.testing.assert_allclose(found[f"{prefix}fid"], frechet.frechet(x, y), rtol=1e-3)
        want = kid.kernel_distance(x, y).value
        np.testing.assert_allclose(found[f"{prefix}kid"], want, rtol=1e-3)
    assert abs(found["fid"] / found["clean_fid"] - 1) > 0.01  # which way is taken matters
    same, _ = measure(["fid"], compared([spec], a, a))
    assert same["fid"] < 1e-6 * found["fid"]
