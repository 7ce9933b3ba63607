"""The mean of runs."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.runs import average, export, reader


@pytest.fixture(scope="module")
def model():
    return reader.load("package:vae_photos")


def scaled(model, factor):
    params = jax.tree.map(lambda x: np.float32(factor) * x, model.variables["params"])
    other = {**model.variables, "params": params}
    return dataclasses.replace(model, variables=other, path=pathlib.Path("other"))


def test_parameters_are_averaged_and_statistics_kept(model):
    found = average.mean([model, scaled(model, 3), scaled(model, 5)])
    for a, b in zip(
        jax.tree.leaves(found.variables["params"]),
        jax.tree.leaves(model.variables["params"]),
        strict=True,
    ):
        np.testing.assert_allclose(a, 3 * b, rtol=1e-5)
    assert found.variables["extra"] is model.variables["extra"] and found.path == model.path
    assert found.mean_of == (model.digest,) * 3 and found.digest != model.digest


def test_an_export_names_what_it_is_the_mean_of(model, tmp_path):
    found = average.mean([model, scaled(model, 3)])
    export.to_safetensors(found, tmp_path, "float32")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["mean_of_sha256"] == [model.digest] * 2
    assert reader.load(str(tmp_path)).digest == found.digest


def test_other_architectures_are_named(model):
    cut = scaled(model, 1)
    name = next(iter(cut.variables["params"]["model"]))
    del cut.variables["params"]["model"][name]
    with pytest.raises(UserError, match=rf"average=other: parameter model/{name}.* is not there"):
        average.mean([model, cut])
