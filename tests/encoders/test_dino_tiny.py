"""The packaged encoder: it loads by name, gives what it gave, knows more than an untrained one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.evaluation import feature_pca
from gen_jax.runs import reader

# Of `picture()`: the first four values of the class token and of the patch in row 3, column 5.
CLS = [0.2667, 0.0076, 0.0387, 0.0967]
PATCH = [0.0033, 0.0698, 0.0881, 0.1156]


def picture():
    """A bright disc on a gradient, normalised: [1, 64, 64, 3]."""
    y, x = np.mgrid[:64, :64] / 63.0
    disc = ((x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.06)[..., None]
    image = np.where(disc, [0.9, 0.7, 0.2], np.stack([x, y, 1 - x], -1) * 0.5)
    return jnp.asarray((image - 0.45) / 0.225, jnp.float32)[None]


def test_it_loads_without_naming_weights_and_gives_what_it_gave():
    module, params = encoders.load("dino_tiny")
    out = jax.jit(lambda p, x: module.apply({"params": p}, x))(params, picture())
    assert out["patches"].shape == (1, 8, 8, 192)
    np.testing.assert_allclose(out["cls"][0, :4], CLS, atol=1e-3)
    np.testing.assert_allclose(out["patches"][0, 3, 5, :4], PATCH, atol=1e-3)


def test_it_is_no_run_and_has_one_spelling():
    with pytest.raises(UserError, match="is an encoder in Hugging Face's layout"):
        reader.load("package:dino_tiny")
    with pytest.raises(UserError, match="'dino-tiny' is unknown"):
        encoders.load("dino-tiny")


def test_colours_tell_an_object_from_its_background():
    patches = np.random.default_rng(0).normal(size=(2, 6, 6, 8)) * 0.1
    patches[:, 2:4, 2:5] += 2.0
    inside = np.zeros((2, 6, 6), bool)
    inside[:, 2:4, 2:5] = True
    np.testing.assert_array_equal(feature_pca.foreground(patches), inside)
    drawn = feature_pca.colours(patches, inside)
    assert drawn.shape == (2, 6, 6, 3) and not drawn[~inside].any() and drawn[inside].any()


@pytest.mark.nightly  # the weights are packaged: what they give is tested above in every run
@pytest.mark.parametrize("labels", ["clip art", "glasses", "gender"])
def test_its_neighbours_beat_pixels_and_an_untrained_tower(shared, labels):
    """Balanced accuracy on labels that it never saw, place by place (benchmarks/probe.py)."""
    from benchmarks import probe

    given = probe.contestants("dino_tiny", None, probe.SIZE)
    data = probe.clipart(shared) if labels == "clip art" else probe.faces(shared)[labels]
    ours, *others = (
        probe.neighbours(given[name](data.images), data)
        for name in ("dino_tiny, patches", "untrained, patches", "raw pixels")
    )
    assert ours > max(others) + 0.1
