"""Features that guide a training: made where there are none, and refused where they are others."""

import dataclasses

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.features import feature_set
from gen_jax.pipelines.features import job
from gen_jax.pipelines.features.plan import Options
from gen_jax.runs import data as run_data
from gen_jax.tasks.feature_space import FeatureSpace
from gen_jax.training import feature_data
from tests import tiny_towers

SPACE = FeatureSpace(layers="0", grids=(2,))


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """A run directory whose features were made of the photographs."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, feature_data.folder_of(photos, SPACE, workdir)


def opened(values, workdir, folder):
    """Data of a run with the features of a folder."""
    data = run_data.open_data(values, workdir, 0, SPACE.spec())
    return data.with_features(folder, tuple(SPACE.spec()))


def test_features_are_made_once_and_read_with_their_images(made, photos, capsys):
    workdir, folder = made
    assert folder == workdir / "features" and feature_set.load(folder).images
    capsys.readouterr()
    assert feature_data.folder_of(photos, SPACE, workdir) == folder
    assert "images through" not in capsys.readouterr().out, "computed again"
    # The folder itself serves as data, too.
    assert feature_data.folder_of(folder, SPACE, workdir / "other") == folder
    values = dict(dir=str(photos), image_size=16, transform=dict(name="features"), num_threads=1)
    data = opened(values, workdir, folder)
    batch = next(data.batches(4, 0))
    for name, spec in SPACE.spec().items():
        assert batch[name].shape == (4, *spec.shape) and batch[name].dtype == spec.dtype
    assert batch["image"].shape == (4, 16, 16, 3)
    whole = data.read("val", 4)
    stored = SPACE.stored(whole)["patches_2"]
    assert np.isfinite(np.asarray(stored)).all()


def test_what_is_stored_is_what_is_computed(made):
    import jax.numpy as jnp

    from gen_jax import encoders
    from gen_jax.data.features import codec

    _, folder = made
    values = dict(dir=str(folder), image_size=32, transform=dict(name="features"), num_threads=1)
    data = opened(values, made[0], folder)
    batch = data.read("val", 8)
    frozen = {"features": encoders.load("dino_tiny")[1]}
    computed = SPACE.computed(frozen, jnp.asarray(batch["image"]) / 127.5 - 1.0)
    for name, x in SPACE.stored(batch).items():
        assert codec.cosine(x, computed[name]).min() > 0.99, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(grids=(4,)), "has no cls_4"),
        (dict(store="bf16"), "int8"),
        (dict(encoder="tiny"), "another tower"),
    ],
)
def test_other_features_are_refused_by_name(made, change, message, tmp_path):
    _, folder = made
    if change.get("encoder") == "tiny":
        weights = tmp_path / "tiny"
        tiny_towers.dinov2_folder(weights, hidden_size=24, num_hidden_layers=1)
        change = dict(encoder=f"dinov2-small:{weights}")
    with pytest.raises(UserError, match=message) as error:
        feature_data.folder_of(folder, dataclasses.replace(SPACE, **change), tmp_path)
    assert str(folder) in str(error.value) and "gen_jax.featurize" in str(error.value)


def test_features_without_images_are_refused(photos, tmp_path):
    out = tmp_path / "bare"
    job.featurize(
        Options(data=str(photos), encoder="dino_tiny", out=str(out), layers="0", grids=(2,))
    )
    with pytest.raises(UserError, match=r"no images.*keep_image"):
        feature_data.folder_of(out, SPACE, tmp_path)
