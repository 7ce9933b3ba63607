"""Reads the files of https://github.com/madebyollin/taesd: one safetensors per direction.

Their keys are places in a sequence (`3.conv.0.weight`); the decoder's begins with a clamp
that has no parameters, so that its places are one more than diffusers'.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.common.safetensors_io import load_safetensors
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import flax_from_torch
from gen_jax.models.autoencoder_tiny import AutoencoderTiny


def load_taesd(
    encoder: str | os.PathLike, decoder: str | os.PathLike, **options: Any
) -> tuple[AutoencoderTiny, dict[str, Any]]:
    """A tiny autoencoder from its two files; all sizes are read off the keys.

    Args:
      encoder: such as taef2_encoder.safetensors.
      decoder: such as taef2_decoder.safetensors.
      **options: further fields (`dtype`, `scaling_factor`).

    Returns:
      The module and its parameters (float32).

    Raises:
      UserError: files of another architecture, among them the 32x ones (taesana).
    """
    where = f"{encoder}, {decoder}"
    down, up = load_safetensors(encoder), load_safetensors(decoder)
    down_blocks, up_blocks = _blocks(down), _blocks(up)
    if not down_blocks or not up_blocks or "0.weight" not in down or "1.weight" not in up:
        raise UserError(f"{where}: expected an encoder and a decoder of TAESD, in this order")
    module = AutoencoderTiny(
        in_channels=down["0.weight"].shape[1],
        out_channels=up[_last_conv(up)].shape[0],
        latent_channels=up["1.weight"].shape[1],
        encoder_block_out_channels=(down["0.weight"].shape[0],) * len(down_blocks),
        decoder_block_out_channels=(up["1.weight"].shape[0],) * len(up_blocks),
        num_encoder_blocks=down_blocks,
        num_decoder_blocks=up_blocks,
        use_midblock_gn=any(".pool." in key for key in down),
        **options,
    )
    state = {f"encoder.layers.{key}": value for key, value in down.items()}
    for key, value in up.items():
        place, rest = key.split(".", 1)
        state[f"decoder.layers.{int(place) - 1}.{rest}"] = value
    return module, flax_from_torch(state, param_shapes(module), where=where)


def _places(state: Mapping[str, np.ndarray]) -> list[int]:
    heads = {key.split(".", 1)[0] for key in state}
    return sorted(map(int, heads)) if all(h.isdigit() for h in heads) else []


def _blocks(state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Residual blocks after each plain convolution but the last, which ends the sequence."""
    counts: list[int] = []
    for place in _places(state):
        if f"{place}.weight" in state:
            counts.append(0)
        elif counts:
            counts[-1] += 1
    return tuple(counts[:-1])


def _last_conv(state: Mapping[str, np.ndarray]) -> str:
    return f"{_places(state)[-1]}.weight"
