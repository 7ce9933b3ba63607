"""Frozen encoders of a few thousand random parameters, as files that a user would name."""

import json

import flax.linen as nn
import jax
import numpy as np
from safetensors.numpy import save_file

from gen_jax.encoders import catalog, lpips, lpips_backbones
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.dinov2 import DINOv2
from gen_jax.encoders.weights import torch_from_flax
from tests import tiny_text

DINO = {
    "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
_TOWER = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
CLIP = {
    "model_type": "clip",
    "projection_dim": 8,
    "vision_config": {**_TOWER, "image_size": 16, "patch_size": 8},
    "text_config": {
        **_TOWER, "vocab_size": 516, "max_position_embeddings": 12, "eos_token_id": 515,
    },
}  # fmt: skip


class TinyTower(lpips_backbones.AlexNet):
    """Two convolutions in AlexNet's place."""

    least_size = 16
    tap_channels = (8, 8)

    @nn.compact
    def __call__(self, x):
        x = jax.nn.relu(self._conv(self._start(x), 0, 8, 3, stride=2, padding=1))
        return x, jax.nn.relu(self._conv(x, 3, 8, 3, stride=2, padding=1))


def _state(module, seed=0):
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda s: rng.normal(size=s.shape).astype(np.float32) / 4, param_shapes(module)
    )
    return params, module


def dino(folder):
    """A spec of a tiny DINOv2."""
    params, module = _state(catalog.TOWERS["dinov2-small"].from_config(DINO))
    _write(folder, DINO, torch_from_flax(params, module.port))
    return f"dinov2-small:{folder}"


def dinov2_folder(folder, **fields):
    """A DINOv2 of these fields and random weights as a folder; the module and its parameters."""
    module = DINOv2(**fields)
    params = jax.jit(module.init)(jax.random.key(0), *module.example_inputs())["params"]
    state = torch_from_flax(jax.tree.map(np.asarray, params), module.port)
    _write(
        folder,
        {**fields, "model_type": "dinov2"},
        {k: np.ascontiguousarray(v) for k, v in state.items()},
    )
    return module, params


def clip(folder):
    """Specs of both towers of a tiny CLIP in one folder, with a tokenizer."""
    state = {}
    for kind in ("vision", "text"):
        tower = catalog.TOWERS[f"clip-vit-base-patch32-{kind}"]
        params, module = _state(tower.from_config(CLIP))
        state |= torch_from_flax(params, module.port)
    _write(folder, CLIP, state)
    tiny_text.clip_folder(folder)
    return [f"clip-vit-base-patch32-{kind}:{folder}" for kind in ("vision", "text")]


def distance(folder, monkeypatch):
    """A spec of a tiny LPIPS under AlexNet's name, which it takes for the test."""
    monkeypatch.setitem(lpips.BACKBONES, "alex", TinyTower)
    params, _ = _state(lpips.LPIPS("alex"))
    for name in ("lin0", "lin1"):
        params[name] = jax.tree.map(np.abs, params[name])
    folder.mkdir(exist_ok=True)
    save_file(torch_from_flax(params, lpips.PORTS["alex"]), folder / "lpips.safetensors")
    return f"lpips-alex:{folder / 'lpips.safetensors'}"


def _write(folder, config, state):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
