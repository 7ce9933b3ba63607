"""Published weights of DnCNN and FFDNet: `conv00.kernel_hwio`, `conv00.bias`, `conv01...`.

As safetensors made of the authors' MATLAB files (cszn/DnCNN, cszn/FFDNet): kernels HWIO, batch
normalisation folded in. All sizes are read off the tensors.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.encoders import files
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import Port, flax_from_torch
from gen_jax.models.dncnn import DnCNN
from gen_jax.models.ffdnet import FFDNet

PORT = Port(
    rename=(
        (r"^conv\.(\d)\.", r"conv0\1."),
        (r"^conv\.(\d\d)\.", r"conv\1."),
        (r"\.weight$", ".kernel_hwio"),
    ),
    as_stored=(r"\.kernel_hwio$",),
)
"""The files' spelling."""

_KERNEL = re.compile(r"conv(\d\d)\.kernel_hwio")


def load_dncnn(weights: str | os.PathLike, **options: Any) -> tuple[DnCNN, dict[str, Any]]:
    """DnCNN from its file.

    Args:
      weights: as in `files.find`.
      **options: further fields (`dtype`).

    Returns:
      The module and its parameters (float32).

    Raises:
      UserError: no such file, or weights of something else: keys and shapes are named.
    """
    found = files.find(weights)
    depth, width, out = _sizes(found.state, found.where, "DnCNN")
    return _filled(DnCNN(depth=depth, width=width, channels=out, **options), found)


def load_ffdnet(weights: str | os.PathLike, **options: Any) -> tuple[FFDNet, dict[str, Any]]:
    """FFDNet from its file; arguments, results and errors as in `load_dncnn`."""
    found = files.find(weights)
    depth, width, out = _sizes(found.state, found.where, "FFDNet")
    # Whatever is no multiple of 4 does not fit by its shape, which is then named.
    return _filled(FFDNet(depth=depth, width=width, channels=max(out // 4, 1), **options), found)


def _filled(module: nn.Module, found: files.Weights) -> tuple[Any, dict[str, Any]]:
    return module, flax_from_torch(found.state, param_shapes(module), PORT, found.where)


def _sizes(state: Mapping[str, np.ndarray], where: str, what: str) -> tuple[int, int, int]:
    """Depth, width and output channels that the kernels have."""
    kernels = {int(m[1]): v for k, v in state.items() if (m := _KERNEL.fullmatch(k))}
    last = max(kernels, default=0)
    if 0 not in kernels or last == 0 or any(k.ndim != 4 for k in kernels.values()):
        some = ", ".join(sorted(state)[:3]) or "nothing"
        raise UserError(
            f"{where}: holds {some}: expected the weights of {what}, conv00.kernel_hwio to "
            "convNN.kernel_hwio with their biases"
        )
    return last + 1, kernels[0].shape[-1], kernels[last].shape[-1]
