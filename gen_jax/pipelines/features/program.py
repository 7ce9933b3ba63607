"""The computation: a tower, the storage form and its fidelity, as one program over the devices."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gen_jax.data.features import codec
from gen_jax.data.features.pyramid import SCALE
from gen_jax.encoders.extractors import Extractor

Bases = Mapping[str, Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Computed:
    """Of a batch.

    Attributes:
      arrays: what goes into the records, under its name there, [b, ...].
      cosine: feature -> cosine between stored and computed vectors, [b, ...].
      sums: feature -> sum of its values and of their squares, [b, 2].
    """

    arrays: dict[str, Any]
    cosine: dict[str, Any]
    sums: dict[str, Any]


jax.tree_util.register_dataclass(Computed)


class Program:
    """Runs on all devices of this process, each with its own rows.

    A device gets rows of one fixed number, so that an example's bits depend neither on how many
    devices there are nor on which process computes it.
    """

    def __init__(
        self,
        extractor: Extractor,
        params: Any,
        store: codec.Store,
        bases: Bases,
        devices: list[jax.Device] | None = None,
    ):
        """Puts the parameters onto every local device."""
        devices = devices or jax.local_devices()
        self.num_devices = len(devices)
        mesh = Mesh(np.asarray(devices), ("rows",))
        self._rows, self._whole = NamedSharding(mesh, P("rows")), NamedSharding(mesh, P())
        self._params = jax.device_put(params, self._whole)
        self._bases = jax.device_put({k: dict(v) for k, v in bases.items()}, self._whole)
        compute = functools.partial(_compute, extractor, store)
        self._compute = jax.jit(
            compute, in_shardings=(self._whole, self._whole, self._rows), out_shardings=self._rows
        )
        self._features = jax.jit(
            extractor.call, in_shardings=(self._whole, self._rows), out_shardings=self._rows
        )

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Computed:
        """Starts a batch and returns at once; its rows are a multiple of the devices."""
        computed = self._compute(self._params, self._bases, self._put(inputs))
        for leaf in jax.tree.leaves(computed):
            leaf.copy_to_host_async()
        return computed

    def features(self, inputs: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """The tower's output as it is, without storing it."""
        return self._features(self._params, self._put(inputs))

    def _put(self, inputs: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        return {k: jax.device_put(v, self._rows) for k, v in inputs.items()}


def _compute(extractor: Extractor, store: codec.Store, params, bases, inputs) -> Computed:
    arrays, cosine, sums = {}, {}, {}
    for name, x in extractor.call(params, inputs).items():
        x = x.astype(jnp.float32)
        pca = bases.get(name)
        stored = codec.encode(x, store, pca)
        arrays[name] = stored[""]
        if "scale" in stored:
            arrays[name + SCALE] = stored["scale"]
        cosine[name] = codec.cosine(x, codec.decode(stored, pca))
        flat = x.reshape(len(x), -1)
        sums[name] = jnp.stack([flat.sum(-1), (flat**2).sum(-1)], axis=-1)
    return Computed(arrays, cosine, sums)
