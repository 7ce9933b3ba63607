"""LoRA files of Stable Diffusion (arXiv:2106.09685): diffusers' and kohya's spellings.

A file holds two factors per adapted weight W [out, in]: "down" [rank, in] and "up" [out, rank]. The
model works with W + scale * (alpha / rank) * up @ down. A convolution [out, in, h, w] has factors
[rank, in, h, w] and [out, rank, 1, 1].

- diffusers: `unet.MODULE.lora_A.weight` (down) and `lora_B` (up), or as earlier releases wrote them
  `.lora.down.weight`, `.lora_linear_layer.down.weight` and `.processor.to_q_lora.down.weight`. The
  text encoder's begin with `text_encoder.`. Alpha is in the metadata, or else the rank.
- kohya: `lora_unet_MODULE.lora_down.weight`, `lora_up.weight` and `.alpha`, with `_` for the dots
  in the module's name; the text encoder's begin with `lora_te_`.
"""

import dataclasses
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gen_jax.common import safetensors_io as st
from gen_jax.common.errors import UserError
from gen_jax.encoders.weights import DIFFUSERS, Port, flat_params

UNET, TEXT_ENCODER = "unet", "text_encoder"
"""Components of a pipeline that a file adapts."""

METADATA = "lora_adapter_metadata"
"""Entry of a file's metadata: peft's settings as JSON, whose keys begin with the component."""

_DOWN, _UP, _MID, _ALPHA = "down", "up", "mid", "alpha"

# Pattern of a key -> what it belongs to. None of these is W + up @ down of Stable Diffusion 1 or 2.
_REFUSED = (
    (
        r"^(transformer|diffusion_model)\.|^lora_transformer|^(lora_unet_)?(double|single)_blocks[._]",
        "a diffusion transformer such as Flux",
    ),
    (
        r"^lora_te[123]_|^text_encoder_[23]\.|^lora_unet_(input|middle|output)_",
        "Stable Diffusion XL or a later model",
    ),
    (r"hada_[wt]", "LoHa"),
    (r"lokr_[wt]", "LoKr"),
    (r"dora_scale|lora_magnitude_vector", "DoRA"),
    (r"\.(boft|oft)_|oft_(blocks|diag)", "OFT"),
    (r"\.[ab][12]\.weight$", "GLoRA"),
    (r"on_input$", "IA3"),
    (r"\.diff(_b)?$|\.[wb]_norm$", "whole differences of weights"),
    (r"lora_(A|B|up|down)\.bias$", "low-rank factors with a bias"),
    (r"^bundle_emb\.", "an embedding that is bundled with the file"),
)

_KOHYA = re.compile(r"lora_(unet|te)_(.+)\.(?:lora_(down|up|mid)\.weight|(alpha))")
_COMPONENT = {"unet": UNET, "te": TEXT_ENCODER}

_PEFT = re.compile(r"(.+)\.lora_([AB])\.weight")
_LAYERS = re.compile(r"(.+)\.(?:lora|lora_linear_layer)\.(down|up)\.weight")
_PROCESSORS = re.compile(r"(.+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")
_ALPHAS = re.compile(r"(.+)\.(alpha)")
# The first files of diffusers held the UNet alone, without its name.
_BARE_UNET = re.compile(r"(down_blocks|mid_block|up_blocks)\.")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Low-rank factors of one weight, as a file has them.

    Attributes:
      key: Key of `down` in the file, for messages.
      down: [rank, in] or [rank, in, h, w].
      up: [out, rank] or [out, rank, 1, 1].
      scale: alpha / rank.
    """

    key: str
    down: np.ndarray
    up: np.ndarray
    scale: float


@dataclasses.dataclass(frozen=True)
class LoraFile:
    """What a file of diffusers or kohya holds.

    Attributes:
      path: The file.
      is_kohya: Whether the modules' names have `_` in the place of dots.
      pairs: Component -> name of a module -> its factors.
    """

    path: pathlib.Path
    is_kohya: bool
    pairs: Mapping[str, Mapping[str, Pair]]

    def factors(
        self, component: str, params: Mapping[str, Any], port: Port = DIFFUSERS
    ) -> dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
        """Returns path of a kernel -> A [rows, rank] and B [rank, cols], float32.

        The kernel, as the matrix of its input rows and output columns, becomes
        kernel + scale * A @ B; alpha / rank is a factor of B.

        Args:
          component: `UNET` or `TEXT_ENCODER`.
          params: Parameters of the component, or their shapes.
          port: How files spell them.

        Raises:
          UserError: A module that the component does not have, or factors of another shape.
        """
        kernels = {}
        for path, leaf in flat_params(params):
            if path[-1] == "kernel" and len(leaf.shape) >= 2:
                name = port.key(path).removesuffix(".weight")
                kernels[name.replace(".", "_") if self.is_kohya else name] = path, leaf
        return dict(
            self._fit(component, name, pair, kernels, port)
            for name, pair in self.pairs.get(component, {}).items()
        )

    def _fit(self, component, name, pair, kernels, port):
        known = name if self.is_kohya else port.canonical(f"{name}.weight").removesuffix(".weight")
        if known not in kernels:
            raise UserError(
                f"{self.path}: {pair.key} fits no weight of this model's {component}; expected a "
                "file for a model of the same architecture"
            )
        path, kernel = kernels[known]
        rank, *inputs = pair.down.shape
        # Without the sides of 1x1 convolutions, which some files have for dense layers.
        given = (pair.up.shape[0], *_without_ones(inputs))
        *sides, rows, cols = kernel.shape
        wanted = (cols, *_without_ones((rows, *sides)))
        if given != wanted or pair.up.size != given[0] * rank:
            raise UserError(
                f"{self.path}: {pair.key} and its partner, {list(pair.down.shape)} and "
                f"{list(pair.up.shape)}, adapt a weight of shape {list(given)}, and this model's "
                f"is {list(wanted)}; expected a file for a model of the same architecture"
            )
        down = pair.down.astype(np.float32).reshape(rank, rows, -1)
        up = pair.up.astype(np.float32).reshape(-1, rank)
        a = down.transpose(2, 1, 0).reshape(-1, rank)
        return path, (a, np.float32(pair.scale) * up.T)


def read(path: str | os.PathLike) -> LoraFile:
    """Reads a file of diffusers or kohya.

    Raises:
      UserError: No such file, a pickle, or one that holds something else than low-rank factors.
    """
    path = pathlib.Path(path)
    tensors = st.load_safetensors(path)
    _, metadata = st.parse_header(st.read_header(path), path)
    _check_kind(path, tensors)
    is_kohya = any(_KOHYA.fullmatch(key) for key in tensors)
    modules: dict[tuple[str, str], dict[str, str]] = {}
    for key in tensors:
        component, name, part = _parsed(path, key, is_kohya)
        keys = modules.setdefault((component, name), {})
        if part in keys:
            raise UserError(f"{path}: {key} and {keys[part]} are factors of one weight")
        keys[part] = key
    pairs: dict[str, dict[str, Pair]] = {}
    settings = {c: _settings(path, metadata, c) for c in (UNET, TEXT_ENCODER)}
    for (component, name), keys in modules.items():
        pair = _pair(path, name, keys, tensors, settings[component])
        pairs.setdefault(component, {})[name] = pair
    return LoraFile(path, is_kohya, pairs)


def _check_kind(path: pathlib.Path, tensors: Mapping[str, Any]) -> None:
    if not tensors:
        raise UserError(f"{path}: holds no tensors; expected low-rank factors (LoRA)")
    for key in tensors:
        for pattern, kind in _REFUSED:
            if re.search(pattern, key):
                raise UserError(
                    f"{path}: {key} belongs to {kind}, which is not supported; expected LoRA "
                    "factors of Stable Diffusion 1 or 2"
                )


def _parsed(path: pathlib.Path, key: str, is_kohya: bool) -> tuple[str, str, str]:
    """Returns the component, the module's name there and which of its tensors a key names."""
    if is_kohya:
        if match := _KOHYA.fullmatch(key):
            return _COMPONENT[match[1]], match[2], match[3] or match[4]
        raise _unknown(path, key)
    component, _, name = key.partition(".")
    if _BARE_UNET.match(key):
        component, name = UNET, key
    if component not in (UNET, TEXT_ENCODER):
        raise _unknown(path, key)
    name = name.replace(".processor.", ".")
    if match := _PEFT.fullmatch(name):
        return component, match[1], {"A": _DOWN, "B": _UP}[match[2]]
    if match := _PROCESSORS.fullmatch(name):
        last = f"to_{match[2]}" if component == UNET else f"{match[2]}_proj"
        return component, f"{match[1]}.{'to_out.0' if last == 'to_out' else last}", match[3]
    if match := _LAYERS.fullmatch(name) or _ALPHAS.fullmatch(name):
        return component, match[1], match[2]
    raise _unknown(path, key)


def _unknown(path: pathlib.Path, key: str) -> UserError:
    return UserError(
        f"{path}: {key} is no key of a LoRA file of diffusers or kohya; expected such as "
        "unet.MODULE.lora_A.weight or lora_unet_MODULE.lora_down.weight"
    )


def _pair(path, name, keys, tensors, settings) -> Pair:
    """Returns the factors of a module from its tensors."""
    for part, other in ((_DOWN, _UP), (_UP, _DOWN)):
        if part not in keys:
            key = keys.get(other) or next(iter(keys.values()))
            raise UserError(f"{path}: {key} has no factor {part!r} beside it; get the file again")
    for part, key in keys.items():
        value = tensors[key]
        if part != _ALPHA and (value.ndim not in (2, 4) or not value.size):
            raise UserError(f"{path}: {key} is of shape {list(value.shape)}; expected a factor")
        if not np.isfinite(value.astype(np.float32)).all():
            raise UserError(f"{path}: {key} is not finite (NaN or Inf); get another file")
    down, up = tensors[keys[_DOWN]], tensors[keys[_UP]]
    rank = down.shape[0]
    if up.shape[1] != rank:
        raise UserError(
            f"{path}: {keys[_DOWN]} is of rank {rank} and {keys[_UP]} of rank {up.shape[1]}; get "
            "the file again"
        )
    if _MID in keys:
        down = _with_mid(path, keys, tensors)
    return Pair(keys[_DOWN], down, up, _scale(path, name, keys, tensors, settings, rank))


def _with_mid(path, keys, tensors) -> np.ndarray:
    """Returns `down` [rank, in, h, w] of LoCon's three convolutions 1x1, h x w and 1x1."""
    down, mid = (tensors[keys[part]].astype(np.float32) for part in (_DOWN, _MID))
    rank = down.shape[0]
    if down.shape[2:] != (1, 1) or mid.shape[:2] != (rank, rank) or mid.ndim != 4:
        raise UserError(
            f"{path}: {keys[_MID]} of shape {list(mid.shape)} does not fit {keys[_DOWN]} of shape "
            f"{list(down.shape)}; get the file again"
        )
    return np.einsum("prhw,ri->pihw", mid, down[:, :, 0, 0])


def _scale(path, name, keys, tensors, settings, rank: int) -> float:
    """Returns alpha / rank of a module: by its own alpha, by the metadata, or 1."""
    if _ALPHA in keys:
        stored = tensors[keys[_ALPHA]]
        if stored.size != 1:
            raise UserError(f"{path}: {keys[_ALPHA]} of shape {list(stored.shape)} is no number")
        return float(stored.reshape(())) / rank
    if not settings:
        return 1.0
    try:
        known = _by_pattern(settings.get("rank_pattern"), name, settings.get("r", rank))
        alpha = _by_pattern(settings.get("alpha_pattern"), name, settings.get("lora_alpha", rank))
        alpha = float(alpha)
        if not math.isfinite(alpha):
            raise ValueError(alpha)
    except (TypeError, ValueError, AttributeError, re.error):
        raise UserError(
            f"{path}: {METADATA} in its metadata has no rank and alpha of {keys[_DOWN]}; get the "
            "file again"
        ) from None
    if known != rank:
        raise UserError(
            f"{path}: {keys[_DOWN]} is of rank {rank}, and the metadata say {known}; get the file "
            "again"
        )
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _settings(path, metadata: Mapping[str, str], component: str) -> dict[str, Any]:
    """Returns peft's settings of a component; empty if the file has none."""
    try:
        settings = json.loads(metadata.get(METADATA) or "{}")
        prefix = f"{component}."
        return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    except (ValueError, AttributeError):
        raise UserError(f"{path}: {METADATA} in its metadata is no JSON; get it again") from None


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """Returns the value of the first pattern that the end of a module's name matches, as peft."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return default


def _without_ones(shape) -> tuple[int, ...]:
    """Returns [in, h, w] as [in] if h and w are 1."""
    return tuple(shape[:1] if all(side == 1 for side in shape[1:]) else shape)
