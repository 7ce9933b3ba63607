"""The files of https://github.com/cszn/SCUNet: state dicts, read and written."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.encoders import files
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import Port, flax_from_torch
from gen_jax.models.scunet import SCUNet

PORT = Port(
    keep=("conv1_1", "conv1_2"),
    rename=(
        (r"\.msa\.qkv\.", ".msa.embedding_layer."),
        (r"\.msa\.proj\.", ".msa.linear."),
        (r"\.relative_position\.table$", ".relative_position_params"),
    ),
)
"""The authors' spelling, in which `weights.torch_from_flax(params, PORT)` writes too."""

_STAGES = ("m_down1", "m_down2", "m_down3", "m_body", "m_up3", "m_up2", "m_up1")
_FIRST_BLOCK = "trans_block.msa.relative_position_params"


def load_scunet(weights: str | os.PathLike, **options: Any) -> tuple[SCUNet, dict[str, Any]]:
    """A SCUNet from its published file; all sizes are read off the keys.

    Args:
      weights: see `files.find`: `scunet_color_real_psnr.safetensors`, or
        "pickle:scunet_color_real_psnr.pth" for the authors' own file.
      **options: further fields (`dtype`, `remat`, `input_resolution`, `drop_path_rate`).

    Returns:
      The module and its parameters (float32 numpy arrays).

    Raises:
      UserError: a file of another architecture, or one that misses keys or has others.
    """
    found = files.find(weights)
    module = SCUNet(**_fields(found.state, found.where), **options)
    return module, flax_from_torch(found.state, param_shapes(module), PORT, found.where)


def _fields(state: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
    """Sizes of the network that a state dict is of."""
    depths = tuple(
        sum(k.startswith(f"{stage}.") and k.endswith(_FIRST_BLOCK) for k in state)
        for stage in _STAGES
    )
    tables = [v for k, v in state.items() if k.endswith(_FIRST_BLOCK) and k.startswith("m_down1.")]
    head, tail = (state.get(f"m_{end}.0.weight") for end in ("head", "tail"))
    if not tables or head is None or tail is None or {tables[0].ndim + 1, head.ndim} != {4}:
        raise UserError(
            f"{where}: expected a state dict of SCUNet, with m_head.0.weight, m_tail.0.weight and "
            f"m_down1.0.{_FIRST_BLOCK} [heads, 15, 15]: is it the weights of this architecture?"
        )
    return {
        "in_channels": head.shape[1],
        "out_channels": tail.shape[0],
        "depths": depths,
        "dim": head.shape[0],
        "head_dim": head.shape[0] // 2 // tables[0].shape[0],
        "window_size": (tables[0].shape[1] + 1) // 2,
    }
