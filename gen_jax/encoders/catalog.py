"""Every frozen tower by name: how it is built, and where its weights come from."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from gen_jax.common import files as common_files
from gen_jax.common.errors import UserError
from gen_jax.encoders import bert, clip, dinov2, files, inception, lpips, mobilenet_v2
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import Port, flax_from_torch

_WEIGHTS = pathlib.Path(__file__).resolve().parent.parent / "weights"


@dataclasses.dataclass(frozen=True)
class Tower:
    """An entry of the catalog.

    Attributes:
      make: builds the module of this size; takes further fields as keywords.
      port: spelling of its files; None where the module has a `port` of its own.
      from_config: builds it from a config.json instead, where files have one.
      hub: repository on huggingface.co with its published weights, if there is one.
      packaged: folder with its weights inside the package, if there is one.
    """

    make: Callable[..., nn.Module]
    port: Port | None = None
    from_config: Callable[..., nn.Module] | None = None
    hub: str | None = None
    packaged: pathlib.Path | None = None

    @property
    def weights(self) -> str | pathlib.Path | None:
        """Where its weights are where a user names none."""
        return self.packaged or self.hub


def _towers() -> dict[str, Tower]:
    found = {}
    for name, fields in dinov2.PRESETS.items():
        make = functools.partial(dinov2.DINOv2, **fields)
        found[name] = Tower(make, None, dinov2.from_hf_config, f"facebook/{name}")
    tiny = functools.partial(dinov2.DINOv2, **dinov2.TINY)
    found["dino_tiny"] = Tower(tiny, None, dinov2.from_hf_config, None, _WEIGHTS / "dino_tiny")
    kinds = (
        ("text", clip.CLIPText, clip.TEXT_PRESETS, clip.text_from_hf_config),
        ("vision", clip.CLIPVision, clip.VISION_PRESETS, clip.vision_from_hf_config),
    )
    for kind, module, presets, from_config in kinds:
        for name, fields in presets.items():
            owner = "laion" if name.startswith("CLIP") else "openai"
            make = functools.partial(module, **fields)
            found[f"{name}-{kind}"] = Tower(make, None, from_config, f"{owner}/{name}")
    owners = {"all-MiniLM-L6-v2": "sentence-transformers"}
    for name, fields in bert.PRESETS.items():
        make = functools.partial(bert.BertEncoder, **fields)
        hub = f"{owners.get(name, 'google-bert' if name.startswith('bert') else 'distilbert')}/"
        found[name] = Tower(make, None, bert.from_hf_config, hub + name)
    found["inception-v3-fid"] = Tower(inception.InceptionV3, inception.PORT)
    found["mobilenet-v2"] = Tower(mobilenet_v2.MobileNetV2, mobilenet_v2.PORT)
    for net, port in lpips.PORTS.items():
        name = f"lpips-{net.replace('_', '-')}"
        found[name] = Tower(functools.partial(lpips.LPIPS, net=net), port)
    return found


TOWERS: Mapping[str, Tower] = _towers()


def parse(spec: str) -> tuple[str, str | None]:
    """Splits "NAME[:WEIGHTS]", as doors and configs name an encoder.

    Args:
      spec: one of `TOWERS`, and after a colon its weights (see `files.find`).

    Returns:
      The name, and the weights; None where none are named.

    Raises:
      UserError: an unknown name, or nothing after the colon.
    """
    name, colon, weights = spec.partition(":")
    _check_name(name)
    if colon and not weights:
        raise UserError(f"encoder {spec!r}: no weights after the colon: expected NAME[:WEIGHTS]")
    return name, weights or None


def check(spec: str) -> None:
    """Looks whether "NAME[:WEIGHTS]" could be loaded; reads and fetches nothing.

    Raises:
      UserError: An unknown name, or weights that are needed and not there.
    """
    name, weights = parse(spec)
    if weights is None and TOWERS[name].weights is None:
        raise UserError(f"encoder {name!r} needs weights: name its .safetensors file")
    files.check_there(TOWERS[name].weights if weights is None else weights)


def _check_name(name: str) -> None:
    if name not in TOWERS:
        raise UserError(f"encoder {name!r} is unknown: expected one of {', '.join(TOWERS)}")


def module_of(name: str, weights: str | None = None) -> nn.Module:
    """The module that `load` would give, of which no parameters are read and nothing is fetched.

    Raises:
      UserError: an unknown name, or a config.json in the folder `weights` of another kind of tower.
    """
    _check_name(name)
    tower = TOWERS[name]
    file = pathlib.Path(weights or "", "config.json")
    if not weights or tower.from_config is None or not file.is_file():
        return tower.make()
    try:
        return tower.from_config(json.loads(common_files.read_text(file)))
    except (UserError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: {error}") from None


def load(
    name: str, weights: str | os.PathLike | None = None, **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A tower and its weights.

    Args:
      name: one of `TOWERS`.
      weights: see `files.find`; None takes the packaged ones, or fetches the published
        ones from huggingface.co, where the tower has either. A config.json beside them decides
        the tower's size.
        LPIPS 0.1 takes two files, "alexnet.safetensors,lpips_lin_v0.1_alex.safetensors".
      **options: further fields of the module (`dtype`, `remat`, `attention_implementation`).

    Returns:
      The linen module, and its parameters (what stands under "params"), float32 numpy arrays.

    Raises:
      UserError: an unknown name, no weights, or weights that do not fit: missing and unexpected
        keys and wrong shapes are named.
    """
    _check_name(name)
    tower = TOWERS[name]
    if weights is None and tower.weights is None:
        raise UserError(f"encoder {name!r} needs weights: name its .safetensors file")
    found = files.find(tower.weights if weights is None else weights)
    try:
        if found.config is not None and tower.from_config is not None:
            module = tower.from_config(found.config, **options)
        else:
            module = tower.make(**options)
    except TypeError as error:
        raise UserError(f"encoder {name!r}: {error}") from None
    except UserError as error:
        raise UserError(f"{found.where}: {error}") from None
    port = tower.port or module.port
    return module, flax_from_torch(found.state, param_shapes(module), port, found.where)
