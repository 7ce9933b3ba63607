"""Images to feature vectors through a tower of the catalog, named as "NAME[:WEIGHTS]"."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, UInt8

from gen_jax.encoders import catalog, inception_inputs, preprocess
from gen_jax.encoders.batched import Batched
from gen_jax.encoders.inception import InceptionV3

# DINOv2's positions were learnt at 518 pixels; features for distances are taken at 224.
_LARGEST_DINO = 224
_MOBILENET = 224

# A tower's one vector: CLIP's place in the joint space, DINOv2's class token, a mean over the map.
_VECTORS = ("image_embeds", "cls", "pooled")

INCEPTION_INPUTS = ("pytorch-fid", "clean-fid")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFeatures:
    """A loaded tower that turns images into vectors; see `open_features`.

    Attributes:
      name: of the tower.
      side: pixels that images are brought to.
      run: the tower over batches.
      clean: whether images are resized on the host as clean-fid does it.
    """

    name: str
    side: int
    run: Batched
    clean: bool = False

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        """One float32 vector an image."""
        return self.run(images, prepare=_clean if self.clean else None)


@functools.lru_cache(maxsize=4)
def open_features(
    spec: str, inputs: str = "pytorch-fid", side: int | None = None, batch_size: int = 64
) -> ImageFeatures:
    """Loads a tower of images.

    Its preprocessing is its own: mean and deviation of its training, and an antialiased bicubic
    to its size (`preprocess`); Inception has its two ways (`inception_inputs`).

    Args:
      spec: "NAME[:WEIGHTS]", see `catalog.parse`.
      inputs: how Inception's input is made, one of `INCEPTION_INPUTS`.
      side: pixels to bring images to; None for the tower's own (DINOv2: 224).
      batch_size: images at once.

    Raises:
      UserError: no tower of images, or no fitting weights.
    """
    name, weights = catalog.parse(spec)
    preprocess.kind_of(name)
    module, params = catalog.load(name, weights)
    if isinstance(module, InceptionV3):
        clean = inputs == "clean-fid"
        forward = functools.partial(_inception, module, clean)
        return ImageFeatures(
            name, inception_inputs.SIDE, Batched(forward, params, batch_size), clean
        )
    side = side or default_side(module)
    forward = functools.partial(_vector, module, name, side)
    return ImageFeatures(name, side, Batched(forward, params, batch_size))


def default_side(module: nn.Module) -> int:
    """The side that images are brought to: the training's, cut to a multiple of the patch."""
    size = getattr(module, "image_size", _MOBILENET)
    if hasattr(module, "num_register_tokens"):
        size = min(size, _LARGEST_DINO)
    return size - size % getattr(module, "patch_size", 1)


def _vector(module, name, side, params, images) -> jax.Array:
    x = preprocess.normalize(preprocess.resize(images, side), name)
    out = module.apply({"params": params}, x)
    out = out if isinstance(out, dict) else out._asdict()
    return next(out[key] for key in _VECTORS if key in out)


def _inception(module, clean, params, images) -> jax.Array:
    if clean:
        x = inception_inputs.clean_fid_inputs(images)
    else:
        x = inception_inputs.pytorch_fid_inputs(preprocess.unit(images))
    return module.apply({"params": params}, x).pooled


def _clean(images: np.ndarray) -> np.ndarray:
    return np.stack([inception_inputs.clean_resize(image) for image in images])
