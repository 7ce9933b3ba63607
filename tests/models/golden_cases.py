"""Loads the scripts that made the golden files: their cases, and the weights drawn by name."""

import functools
import importlib.util
import json
import pathlib

import jax
import numpy as np

from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import flax_from_torch, torch_from_flax

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"


@functools.cache
def script(name: str = "make_diffusers"):
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def arrays(file: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{file}.npz") as data:
        return dict(data)


def case(file: str, name: str) -> dict[str, np.ndarray]:
    return {k.split("/")[1]: v for k, v in arrays(file).items() if k.startswith(f"{name}/")}


def torch_shapes(golden) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v) for k, v in json.loads(str(golden["keys"])).items()}


def loaded(module, golden):
    """The parameters that the golden model had."""
    weights = script().named_weights(torch_shapes(golden))
    return {"params": flax_from_torch(weights, param_shapes(module))}


def filled(module, seed: int = 0):
    """Parameters drawn by numpy from their paths: no compilation of `init`."""
    shapes = param_shapes(module)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    wanted = {k: v.shape for k, v in torch_from_flax(zeros).items()}
    return {"params": flax_from_torch(script().named_weights(wanted, seed), shapes)}


def relative_error(got, want) -> float:
    """Returns the largest difference over the largest value, and prints it for `pytest -rP`."""
    error = float(np.abs(np.asarray(got) - want).max() / np.abs(want).max())
    print(f"relative error {error:.1e}")
    return error
