"""The features that a generator is guided by: stored of real images, computed of generated ones.

Both have the same names and come from the same program: `featurize` runs the extractor that stands
here, over the same resized inputs.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.data.features import codec
from gen_jax.data.features.pyramid import SCALE, stored_of
from gen_jax.encoders import catalog, extractors
from gen_jax.encoders.diffusers_folder import param_shapes

FROZEN = "features"
"""The tower's place in `frozen`."""


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """Layers and grids of a frozen tower.

    Attributes:
      encoder: "NAME[:WEIGHTS]", see `encoders.catalog.parse`.
      layers: Layers, as `encoders.extractors.of_images` takes them.
      grids: tokens a side of the patch grids, for DINOv2: a grid of n is that of an input of n
        times the patch size.
      store: how features are stored, see `codec.Store`; no PCA.
    """

    encoder: str = "dino_tiny"
    layers: str = ""
    grids: Sequence[int] = (8,)
    store: str = "int8"

    def __post_init__(self):
        if codec.Store.parse(self.store).components:
            raise UserError(
                f"config.task.features.store={self.store}: expected int8 or bf16: a generator is "
                "guided by features, not by coefficients of them"
            )

    @property
    def name(self) -> str:
        """The tower's name in the catalog."""
        return catalog.parse(self.encoder)[0]

    @functools.cached_property
    def _module(self):
        return catalog.module_of(*catalog.parse(self.encoder))

    @functools.cached_property
    def _extractor(self) -> extractors.Extractor:
        return extractors.of_images(self.name, self._module, self.layers, tuple(self.grids))

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Feature -> shape of one image's."""
        inputs = {
            f"image_{side}": jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
            for side in self._extractor.sizes
        }
        params = param_shapes(self._module)
        return {k: v.shape for k, v in extractors.shapes(self._extractor, params, inputs).items()}

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What a record of a folder of these features holds, for a task's `batch_spec`."""
        store, found = codec.Store.parse(self.store), {}
        for name, shape in self.shapes.items():
            small = codec.is_quantized(store, shape)
            found[name] = jax.ShapeDtypeStruct(shape, jnp.int8 if small else jnp.bfloat16)
            if small:
                found[name + SCALE] = jax.ShapeDtypeStruct(shape[-1:], jnp.float32)
        return found

    def frozen_encoders(self) -> dict[str, str]:
        """What the trainer has to load."""
        return {FROZEN: self.encoder}

    def stored(self, batch: Mapping[str, Any]) -> dict[str, Float[Array, "b *_ _"]]:
        """Features of a batch's images as float32, from what the loader gives."""
        return {name: codec.decode(stored_of(batch, name)) for name in self.shapes}

    def computed(
        self, frozen: Mapping[str, Any], images: Float[Array, "b h w c"]
    ) -> dict[str, Float[Array, "b *_ _"]]:
        """Features of images in [-1, 1] of one or three channels, with gradients."""
        images = jnp.clip(images, -1.0, 1.0) * 0.5 + 0.5
        inputs = {f"image_{n}": resized(images, n) for n in self._extractor.sizes}
        inputs = {k: jnp.broadcast_to(v, (*v.shape[:3], 3)) for k, v in inputs.items()}
        return self._extractor.call(frozen[FROZEN], inputs)


def resized(images: Float[Array, "b h w c"], side: int) -> Float[Array, "b {side} {side} c"]:
    """Bicubic and antialiased, much as the loader's (`tests` hold both together)."""
    b, height, width, c = images.shape
    if (height, width) == (side, side):
        return images
    return jax.image.resize(images, (b, side, side, c), "cubic", antialias=True)
