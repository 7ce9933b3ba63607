"""What a stage is: a frozen dataclass of modules and numbers whose methods are pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

Params = Mapping[str, Any]
"""Group ("model", "disc") -> tree of arrays."""

Extra = Mapping[str, Any]
"""Mutable collections that are no parameters: codebooks, memory banks, running statistics."""

BatchSpec = Mapping[str, jax.ShapeDtypeStruct]
"""Key -> shape and dtype of ONE example; the loader adds the batch dimension in front."""

Rngs = Mapping[str, jax.Array]
"""Stream name -> key, used once."""

Frozen = Mapping[str, Any]
"""Name -> parameters that are read and never trained (a VAE, a text tower)."""

Variables = Mapping[str, Any]
"""`{"params": Params, "extra": Extra}`, as a predict function takes them."""

Metrics = Mapping[str, jax.Array]

LossFn = Callable[..., tuple[jax.Array, tuple[Metrics, Extra]]]
"""`(params_of_group, params, extra, batch, rngs, frozen) -> (loss, (metrics, extra))`."""

PredictFn = Callable[[Variables, Mapping[str, jax.Array], Rngs, Frozen], Mapping[str, jax.Array]]
"""`(variables, batch, rngs, frozen) -> arrays`."""


class Task(Protocol):
    """A stage, built from `config.task`; it holds modules and numbers, no arrays.

    A task whose losses read frozen encoders also has `towers()`: place in `frozen` ->
    "NAME:WEIGHTS"; the trainer loads them, predict functions do not see them. One with `inherited`
    names the collections of `extra` that a run which begins with another's parameters takes, too;
    what matches `needed`, a pattern of "GROUP/PATH" and of these names, it cannot do without.

    Attributes:
      rng_streams: names of the random streams that its losses and `predict_fns` draw from.
    """

    rng_streams: tuple[str, ...]

    def batch_spec(self) -> BatchSpec:
        """Keys, shapes and dtypes that the losses read from the data, for one example."""

    def init(self, rng: jax.Array, batch: Mapping[str, jax.Array]) -> tuple[Params, Extra]:
        """Fresh parameters by group, and the mutable collections."""

    def losses(self) -> Mapping[str, LossFn]:
        """Group -> loss, in the order of their updates; two groups are an adversarial pair."""

    def predict_fns(self) -> Mapping[str, PredictFn]:
        """What evaluators, pipelines and demos may ask of a trained model."""
