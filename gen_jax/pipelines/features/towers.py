"""From "NAME[:WEIGHTS]" to what computes features: towers of the catalog, and autoencoders."""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from gen_jax.common.errors import UserError
from gen_jax.data import feature_codec
from gen_jax.encoders import catalog, extractors
from gen_jax.pipelines.features import reading
from gen_jax.pipelines.features.plan import Options
from gen_jax.runs import reader, weights

AUTOENCODER = "vae"


@dataclasses.dataclass(frozen=True)
class Tower:
    """A tower ready to run.

    Attributes:
      name: of the encoder.
      weights: where its weights came from.
      sha256: digest of its parameters and of what it is.
      extractor: its features as a pure function.
      params: its parameters.
      inputs: what it reads of a record.
    """

    name: str
    weights: str
    sha256: str
    extractor: extractors.Extractor
    params: Any
    inputs: reading.Inputs

    @functools.cached_property
    def outputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Feature -> shape without the batch."""
        one = {
            name: jax.ShapeDtypeStruct((1, *of.shape), of.dtype)
            for name, of in self.inputs.spec.items()
        }
        return extractors.shapes(self.extractor, self.params, one)


def open_tower(options: Options) -> Tower:
    """The tower that the options name.

    Raises:
      UserError: an unknown name, weights that are missing or do not fit, or layers or a storage
        form that make no sense for it.
    """
    name, _, source = options.encoder.partition(":")
    if name == AUTOENCODER:
        return _checked(_autoencoder(source, options), options)
    name, source = catalog.parse(options.encoder)
    module, params = catalog.load(name, source, dtype=jnp.dtype(options.dtype))
    extractor = extractors.of_images(name, module, options.layers, options.grids)
    where = source or catalog.TOWERS[name].hub or name
    tower = Tower(
        name, where, _digest(module, params), extractor, params, reading.of_images(extractor.sizes)
    )
    return _checked(tower, options)


def _autoencoder(source: str, options: Options) -> Tower:
    if not source:
        raise UserError(
            "--encoder=vae: name the autoencoder after a colon: a run directory, a diffusers "
            "folder or package:vae_photos, as in --encoder=vae:package:vae_photos"
        )
    if options.layers:
        raise UserError(f"--layers={options.layers}: an autoencoder has mean and deviation only")
    model = reader.load(source)
    if not hasattr(model.task, "autoencoder"):
        raise UserError(f"{source}: is no autoencoder; expected a run of configs/vae.py")
    module, side = model.task.autoencoder, options.image_size or model.task.image_size
    params = model.task.as_frozen(model.variables)["params"]

    def call(params, inputs):
        x = inputs[f"image_{side}"].astype(jnp.float32) / 127.5 - 1.0
        mean, logvar = module.apply({"params": params}, x, method="encode")
        return {"mean": mean, "deviation": jnp.exp(0.5 * logvar)}

    extractor = extractors.Extractor((side,), call, lambda feature: side)
    return Tower(
        AUTOENCODER, source, _digest(module, params), extractor, params, reading.of_images((side,))
    )


def _digest(module: Any, params: Any) -> str:
    """Of the parameters and the module's fields: the same weights in another module differ."""
    return hashlib.sha256(f"{module!r} {weights.digest(params)}".encode()).hexdigest()


def _checked(tower: Tower, options: Options) -> Tower:
    store = feature_codec.Store.parse(options.store)
    for feature, of in tower.outputs.items():
        if feature_codec.is_quantized(store, of.shape) and store.components > of.shape[-1]:
            raise UserError(
                f"--store={store.name}: {feature} of {tower.name} has only {of.shape[-1]} channels"
            )
    return tower
