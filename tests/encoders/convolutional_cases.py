"""Loads the script that made `convolutional.npz`, and the weights it drew by name."""

import functools
import importlib.util
import pathlib
import zipfile

import jax
import numpy as np

from gen_jax.encoders import diffusers_folder
from gen_jax.encoders.weights import flax_from_torch, load_safetensors, torch_views

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
param_shapes = functools.cache(diffusers_folder.param_shapes)


@functools.cache
def script():
    path = GOLDEN / "make_convolutional.py"
    spec = importlib.util.spec_from_file_location("make_convolutional", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def golden(name):
    with np.load(script().FILE) as arrays:
        return {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(f"{name}/")}


def torch_shapes(module, port):
    """Key -> shape of the file that the port describes; no memory."""
    empty = jax.tree.map(lambda s: np.broadcast_to(np.int8(0), s.shape), param_shapes(module))
    return {key: value.shape for key, value in torch_views(empty, port).items()}


def seeded(module, port, rename=str):
    """The golden model's parameters; `rename` brings a file's key to the reference's."""
    shapes = torch_shapes(module, port)
    # The heads are 1x1 convolutions there, and dense layers here.
    shapes = {k: (*s, 1, 1) if k.startswith("lin") else s for k, s in shapes.items()}
    drawn = script().seeded_weights({rename(k): s for k, s in shapes.items()})
    state = {key: drawn[rename(key)] for key in shapes}
    return {"params": flax_from_torch(state, param_shapes(module), port)}


def count(module):
    """(parameters, running statistics) of a module; computes nothing."""
    leaves = jax.tree_util.tree_leaves_with_path(param_shapes(module))
    running = sum(s.size for path, s in leaves if path[-1].key in ("mean", "var"))
    return sum(s.size for _, s in leaves) - running, running


def relative_error(got, want):
    assert got.shape == want.shape
    return float(np.abs(np.asarray(got) - want).max() / np.abs(want).max())


def check(what, got, want, limit):
    """Asserts; `pytest -s` shows what was measured."""
    error = relative_error(got, want)
    print(f"{what}: {error:.1e}")
    assert error <= limit, f"{what}: {error:.2e}"


def real_weights(shared, folder, *names):
    """The tensors of files in weights_small.zip, together."""
    state = {}
    with zipfile.ZipFile(shared / "weights_small.zip") as archive:
        for name in names:
            archive.extract(f"{name}.safetensors", folder)
            state |= load_safetensors(folder / f"{name}.safetensors")
    return state
