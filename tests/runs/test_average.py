"""The mean of runs."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.runs import average, reader


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


def test_other_architectures_are_named(model):
    cut = scaled(model, 1)
    name = next(iter(cut.variables["params"]["model"]))
    del cut.variables["params"]["model"][name]
    with pytest.raises(UserError, match=rf"--average=other: parameter model/{name}.* is not there"):
        average.mean([model, cut])
