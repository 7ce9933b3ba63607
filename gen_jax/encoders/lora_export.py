"""Low-rank factors in the spellings of diffusers and kohya; `lora_files` reads them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gen_jax.encoders.lora_files import UNET
from gen_jax.encoders.weights import Port

_KOHYA_PREFIX = {UNET: "lora_unet"}


def to_diffusers(
    component: str, factors: Mapping[tuple[str, ...], tuple], port: Port, scale: float
) -> dict[str, np.ndarray]:
    """Returns key -> array as diffusers and peft write them.

    The factors are multiplied by `scale`, so that the file means the same to programs that read
    no alpha of such files.

    Args:
      component: `lora_files.UNET`.
      factors: Path of a kernel -> its shape, A [rows, rank] and B [rank, cols].
      port: How files spell the kernels.
      scale: alpha / rank.
    """
    state = {}
    for path, (shape, a, b) in factors.items():
        down, up = _in_torch(shape, a, np.float32(scale) * b)
        stem = f"{component}.{port.key(path).removesuffix('.weight')}"
        state |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    return state


def to_kohya(
    component: str, factors: Mapping[tuple[str, ...], tuple], port: Port, scale: float
) -> dict[str, np.ndarray]:
    """Returns key -> array as kohya's sd-scripts write them; arguments as in `to_diffusers`."""
    state: dict[str, Any] = {}
    for path, (shape, a, b) in factors.items():
        down, up = _in_torch(shape, a, b)
        module = port.key(path).removesuffix(".weight").replace(".", "_")
        stem = f"{_KOHYA_PREFIX[component]}_{module}"
        state |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        state[f"{stem}.alpha"] = np.float32(scale * a.shape[1])
    return state


def _in_torch(shape: tuple[int, ...], a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns "down" [rank, in, ...] and "up" [out, rank, ...] of a kernel [..., in, out]."""
    a, b = np.asarray(a), np.asarray(b)
    *sides, rows, cols = shape
    rank = a.shape[1]
    down = a.reshape(-1, rows, rank).transpose(2, 1, 0).reshape(rank, rows, *sides)
    up = b.T.reshape(cols, rank, *(1 for _ in sides))
    return np.ascontiguousarray(down), np.ascontiguousarray(up)
