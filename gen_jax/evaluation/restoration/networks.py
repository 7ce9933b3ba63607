"""Restorers that are convolutional networks with published weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.encoders.denoiser_files import load_dncnn, load_ffdnet
from gen_jax.encoders.scunet_files import load_scunet
from gen_jax.evaluation.restoration.benchmarks import Given
from gen_jax.metrics.luma import bt601_luma
from gen_jax.pipelines import windows

# Luma lies between 16 and 235: a step of it is so many of R, G and B alike.
_RGB_OF_LUMA = np.float32(255 / 219)


def build_dncnn(weights: str, given: Given) -> Callable[[np.ndarray], np.ndarray]:
    """DnCNN; enlarges by bicubic first where a scale is given, then with a gray net the luma alone.

    Raises:
      UserError: weights that do not fit; when called, pictures of other channels than the net's.
    """
    module, params = load_dncnn(weights)
    forward = jax.jit(lambda x: module.apply({"params": params}, x))

    def run(image: np.ndarray) -> np.ndarray:
        return windows.apply(forward, image, module.reach)

    def restore(image: np.ndarray) -> np.ndarray:
        if given.scale is not None:
            image = imresize(image, given.scale)
            if image.shape[-1] == 3 and module.channels == 1:
                luma = np.asarray(bt601_luma(image[None]))[0]
                return image + _RGB_OF_LUMA * (run(luma) - luma)
        _check_channels(image, module.channels, weights)
        return run(image)

    return restore


def build_ffdnet(weights: str, given: Given) -> Callable[[np.ndarray], np.ndarray]:
    """FFDNet at the given noise level.

    Raises:
      UserError: weights that do not fit; when called, pictures of other channels than the net's.
    """
    module, params = load_ffdnet(weights)
    sigma = jnp.full(1, given.sigma / 255.0, jnp.float32)
    forward = jax.jit(lambda x: module.apply({"params": params}, x, sigma))

    def restore(image: np.ndarray) -> np.ndarray:
        _check_channels(image, module.channels, weights)
        return windows.apply(forward, image, module.reach)

    return restore


def build_scunet(weights: str, given: Given) -> Callable[[np.ndarray], np.ndarray]:
    """SCUNet over the whole picture: its attention sees further than a margin would cover.

    Raises:
      UserError: weights that do not fit; when called, pictures of other channels than the net's.
    """
    module, params = load_scunet(weights)
    forward = jax.jit(lambda x: module.apply({"params": params}, x))

    def restore(image: np.ndarray) -> np.ndarray:
        _check_channels(image, module.in_channels, weights)
        return np.asarray(forward(image[None]))[0]

    return restore


def _check_channels(image: np.ndarray, channels: int, weights: str) -> None:
    if image.shape[-1] != channels:
        kinds = {1: "gray", 3: "colour"}
        raise UserError(
            f"{weights}: a network for {kinds.get(channels, channels)} pictures, "
            f"these are {kinds[image.shape[-1]]}: name the weights for those"
        )
