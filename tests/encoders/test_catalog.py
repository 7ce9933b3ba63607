"""Towers by name, and weights where a user keeps them."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.encoders.weights import torch_from_flax

DINO = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 8,
}
TINY = {"dinov2-small": DINO, "all-MiniLM-L6-v2": BERT}


def state_of(name):
    """The tiny tower's random parameters, and their tensors in the file's spelling."""
    module = catalog.TOWERS[name].from_config(TINY[name])
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda s: rng.normal(size=s.shape).astype(np.float32), param_shapes(module)
    )
    return params, torch_from_flax(params, module.port)


def write(folder, name, shards=1):
    params, state = state_of(name)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY[name]))
    if shards == 1:
        save_file(state, folder / "model.safetensors")
        return params
    keys = sorted(state)
    names = {key: f"model-{i % shards:05d}.safetensors" for i, key in enumerate(keys)}
    for file in set(names.values()):
        save_file({k: state[k] for k in keys if names[k] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return params


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("shards", [1, 2])
def test_a_folder_gives_the_tower_that_its_config_describes(tmp_path, name, shards):
    params = write(tmp_path / "model", name, shards)
    module, loaded = encoders.load(name, tmp_path / "model")
    assert module.hidden_size == 16
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_its_module_is_known_before_its_parameters_are_read(tmp_path):
    write(tmp_path / "model", "dinov2-small")
    module, _ = encoders.load("dinov2-small", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert catalog.module_of("dinov2-small", str(tmp_path / "model")) == module
    assert catalog.module_of("dinov2-small").hidden_size == 384  # the published size, unfetched
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json"):
        catalog.module_of("dinov2-small", str(tmp_path / "model"))


def test_options_reach_the_module(tmp_path):
    write(tmp_path / "model", "dinov2-small")
    module, _ = encoders.load("dinov2-small", tmp_path / "model", remat=True)
    assert module.remat
    with pytest.raises(UserError, match="depth"):
        encoders.load("dinov2-small", tmp_path / "model", depth=3)


def test_every_tower_has_a_port():
    for name, tower in catalog.TOWERS.items():
        assert (tower.port or tower.make().port) is not None, name


def test_published_weights_come_from_the_hub(tmp_path, monkeypatch):
    import huggingface_hub

    write(tmp_path / "model", "dinov2-small")
    asked = []

    def fetch(name, **_):
        asked.append(name)
        return str(tmp_path / "model")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    encoders.load("dinov2-small")
    encoders.load("dinov2-small", "someone/their-dino")
    assert asked == ["facebook/dinov2-small", "someone/their-dino"]

    def offline(name, **_):
        raise OSError("no network\nand a second line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=r"facebook/dinov2-small.*no network\)") as caught:
        encoders.load("dinov2-small")
    assert "\n" not in str(caught.value)


def damage(folder, what):
    file = folder / "model.safetensors"
    if what == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    elif what == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif what == "gone":
        file.unlink()
    elif what == "config":
        (folder / "config.json").write_text("{")
    elif what == "family":
        (folder / "config.json").write_text(json.dumps(BERT))
    elif what == "missing":
        state = state_of("dinov2-small")[1]
        state.pop("embeddings.cls_token")
        save_file(state | {"head.weight": np.zeros((2, 2), np.float32)}, file)
    elif what == "wider":
        (folder / "config.json").write_text(json.dumps({**DINO, "hidden_size": 32}))
    return folder


@pytest.mark.parametrize(
    "what,words",
    [
        ("pointer", "git-lfs"),
        ("cut", "cut short"),
        ("gone", "config.json: expected a model folder"),
        ("config", "config.json: no valid JSON"),
        ("family", "model_type='bert'"),
        ("missing", r"1 keys missing: embeddings.cls_token; 1 keys unexpected: head.weight"),
        ("wider", "of another shape"),
    ],
)
def test_damage_is_named(tmp_path, what, words):
    write(tmp_path / "model", "dinov2-small")
    damage(tmp_path / "model", what)
    with pytest.raises(UserError, match=words) as caught:
        encoders.load("dinov2-small", tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert re.search(re.escape(str(tmp_path)), str(caught.value))


@pytest.mark.parametrize(
    "name,weights,words",
    [
        ("dinov3", None, "'dinov3' is unknown: expected one of dinov2-small"),
        ("mobilenet-v2", None, "'mobilenet-v2' needs weights"),
        ("mobilenet-v2", "not_here.safetensors", "no such file"),
        ("mobilenet-v2", "weights.pth", "pickled"),
        ("mobilenet-v2", "nowhere", "no such file or folder"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, name, weights, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        encoders.load(name, weights)
