"""What the tests of the transformer towers share."""

import functools

import jax
import numpy as np
from golden_cases import case, relative_error, script, torch_shapes

from gen_jax.encoders import diffusers_folder
from gen_jax.encoders.weights import flax_from_torch

GOLDEN = script("make_transformers")
param_shapes = functools.cache(diffusers_folder.param_shapes)
TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3


def golden(family: str, name: str) -> dict[str, np.ndarray]:
    return case(f"transformers_{family}", name)


def state_of(golden) -> dict[str, np.ndarray]:
    """The file's tensors."""
    return GOLDEN.weights(torch_shapes(golden))


def loaded(module, state):
    return {"params": flax_from_torch(state, param_shapes(module), module.port)}


def count(module) -> int:
    """Returns the number of parameters, traced with one block and with two: all are alike."""
    one, two = (
        sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(param_shapes(shallow)))
        for shallow in (module.clone(num_hidden_layers=n) for n in (1, 2))
    )
    return one + (module.num_hidden_layers - 1) * (two - one)


def same(a, b) -> bool:
    leaves, others = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(leaves) == len(others) and all(map(np.array_equal, leaves, others))


class Errors:
    """Relative errors by name; `check` shows the worst of all and asserts that each is small."""

    def __init__(self):
        self.found = {}

    def add(self, name, got, want):
        assert np.shape(got) == np.shape(want), (name, np.shape(got), np.shape(want))
        self.found[name] = relative_error(got, want)

    def check(self, tolerance=TOLERANCE):
        worst = max(self.found, key=self.found.get)
        print(f"worst relative error {self.found[worst]:.1e} ({worst})")
        assert self.found[worst] <= tolerance, self.found
