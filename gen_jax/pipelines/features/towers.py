"""From "NAME[:WEIGHTS]" to what computes features: towers of the catalog, and autoencoders."""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.common.errors import UserError
from gen_jax.data.features import codec
from gen_jax.encoders import catalog, extractors, files, text_tokenizer
from gen_jax.encoders.bert import BertEncoder
from gen_jax.encoders.clip import CLIPText
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
      sha256: digest of its parameters, of what it is, and of its tokenizer.
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
    where = source or catalog.TOWERS[name].hub or name
    digest = _digest(module, params)
    if isinstance(module, CLIPText | BertEncoder):
        extractor = extractors.of_text(name, module, options.layers, options.max_length)
        tokenizer = text_tokenizer.find(name, module, files.folder_of(where))
        inputs = reading.of_captions(tokenizer, options.captions, *extractor.sizes)
        digest = hashlib.sha256(f"{digest} {tokenizer.digest}".encode()).hexdigest()
    else:
        extractor = extractors.of_images(name, module, options.layers, options.grids)
        inputs = reading.of_images(extractor.sizes)
    return _checked(Tower(name, where, digest, extractor, params, inputs), options)


def _autoencoder(source: str, options: Options) -> Tower:
    if not source:
        raise UserError(
            "encoder=vae: name the autoencoder after a colon: a run directory, a diffusers "
            "folder or package:vae_photos, as in vae:package:vae_photos"
        )
    if options.layers:
        raise UserError(
            f"layers={options.layers}: an autoencoder only has a mean and a standard deviation"
        )
    model = reader.load(source)
    components = model.task.components(model.variables, model.frozen)
    if "vae" not in components:
        raise UserError(f"{source}: is no autoencoder; expected a run of configs/vae.py")
    module, params = components["vae"]
    side = options.image_size or model.task.predict_spec()["reconstruct"]["image"].shape[0]

    def call(params, inputs):
        x = pixels.to_signed(inputs[f"image_{side}"])
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
    store = codec.Store.parse(options.store)
    shapes = [of.shape for of in tower.outputs.values()]
    if store.components and not any(codec.has_pca(store, shape) for shape in shapes):
        found = ", ".join(f"{name} {list(of.shape)}" for name, of in tower.outputs.items())
        raise UserError(
            f"store={store.name}: {tower.name} has no features of more than {store.components} "
            f"channels at several positions, but {found}"
        )
    return tower
