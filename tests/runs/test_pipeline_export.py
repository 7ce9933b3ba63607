"""Latent diffusion runs as pipelines in diffusers' layout."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from gen_jax.common.errors import UserError
from gen_jax.data.text import clip_tokenizer
from gen_jax.diffusion.schedules import make_process
from gen_jax.encoders.clip import CLIPText
from gen_jax.encoders.diffusers_folder import param_shapes
from gen_jax.models.autoencoder_patch import AutoencoderPatch
from gen_jax.models.text_encoder import CompactTextEncoder
from gen_jax.runs import export, layout, pipeline_export, reader, weights
from gen_jax.tasks import first_stage, released
from tests import tiny_pipelines


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    return {k: reader.load(str(tiny_pipelines.write(folder / k, k))) for k in ("sd1", "sd2")}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_an_unchanged_pipeline_is_written_as_it_was(models, kind, tmp_path):
    model, out = models[kind], layout.make(tmp_path / "out")
    export.to_diffusers(model, out, "float32")
    written, source = contents(out), contents(model.path)
    same = ("model_index.json", "unet/config.json", "vae/config.json")
    for name in (*same, *(n for n in source if "diffusion_pytorch_model" in n)):
        assert written[name] == source[name], name
    state, text = (load_file(p / "text_encoder/model.safetensors") for p in (out, model.path))
    assert state.keys() == {f"text_model.{name}" for name in text}
    for name, value in text.items():
        np.testing.assert_array_equal(state[f"text_model.{name}"], value)
    config, before = (json.loads(t["text_encoder/config.json"]) for t in (written, source))
    # Of the width of a projection that is not there, and of padding by id, nothing is read.
    for name in (config.keys() & before.keys()) - {"projection_dim", "pad_token_id"}:
        assert config[name] == before[name], name
    again = reader.load(str(out))
    assert (again.digest, again.frozen_digests) == (model.digest, model.frozen_digests)
    assert again.task == model.task
    assert again.tokenizer().to_json() == model.tokenizer().to_json()


def test_half_precision_stays_as_it_is_stored(tmp_path):
    half = tiny_pipelines.write(tmp_path / "half", dtype="float16")
    model, out = reader.load(str(half)), layout.make(tmp_path / "out")
    export.to_diffusers(model, out, "float16")
    for name, value in contents(half).items():
        if "diffusion_pytorch_model" in name:
            assert contents(out)[name] == value, name
    # diffusers computes in float32 if no type is asked for, and transformers by this key.
    assert json.loads((out / "text_encoder/config.json").read_text())["torch_dtype"] == "float32"
    again = reader.load(str(out))
    assert (again.digest, again.frozen_digests) == (model.digest, model.frozen_digests)


def test_a_pipeline_becomes_a_run_of_its_own(models, tmp_path):
    model, out = models["sd2"], layout.make(tmp_path / "out")
    export.to_safetensors(model, out, "float32")
    run = reader.load(str(out))
    assert (run.digest, run.frozen_digests) == (model.digest, model.frozen_digests)
    assert run.task == model.task and not run.is_released
    assert run.tokenizer().to_json() == model.tokenizer().to_json()
    # And a pipeline again.
    export.to_diffusers(run, layout.make(tmp_path / "again"), "float32")
    again = reader.load(str(tmp_path / "again"))
    assert (again.digest, again.frozen_digests) == (model.digest, model.frozen_digests)


def test_the_vocabulary_of_openclip_has_the_names_of_transformers(models, tmp_path):
    merges = tmp_path / "merges.txt"
    merges.write_text(tiny_pipelines.script().MERGES)
    ours = clip_tokenizer.ClipTokenizer.find(merges, pad_id=0)
    folder = layout.make(tmp_path / "tokenizer")
    ours.save_vocabulary(folder, 12)
    vocab = json.loads((folder / "vocab.json").read_text())
    assert [vocab["<|startoftext|>"], vocab["<|endoftext|>"]] == [ours.bos_id, ours.eos_id]
    back = clip_tokenizer.ClipTokenizer.find(folder)
    assert (back.bos_id, back.eos_id, back.pad_id) == (ours.bos_id, ours.eos_id, 0)
    texts = ["a cat!", "Cats, 🐈"]
    np.testing.assert_array_equal(back.encode(texts, 9).ids, ours.encode(texts, 9).ids)


def test_the_statistics_of_a_trained_autoencoder_go_into_its_convolutions(models):
    model = models["sd1"]
    vae = {
        "params": model.frozen["vae"]["params"],
        "latent_mean": np.array([0.3, -1.0, 2.0, 0.1], np.float32),
        "latent_std": np.array([0.5, 2.0, 1.5, 4.0], np.float32),
    }
    parts = model.task.as_released(model.variables, {**model.frozen, "vae": vae})
    module, params = parts.components["vae"]
    assert module.scaling_factor == 1.0
    plain = {"params": params, "latent_mean": np.zeros(4), "latent_std": np.ones(4)}
    x = jnp.tanh(jax.random.normal(jax.random.key(0), (1, 16, 16, 3)))
    z = jax.random.normal(jax.random.key(1), (1, 8, 8, 4))
    encode = jax.jit(lambda v: first_stage.encode(module, v, x, jax.random.key(2)))
    decode = jax.jit(lambda v: first_stage.decode(module, v, z))
    for function in (encode, decode):
        np.testing.assert_allclose(function(vae), function(plain), rtol=1e-4, atol=1e-4)


def test_states_before_the_last_block_become_the_last_states(models):
    model = models["sd1"]
    tower = CLIPText(**{
        "vocab_size": 516, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 12, "projection_dim": 4,
    })  # fmt: skip
    encoder = dataclasses.replace(model.task.text_encoder, tower=tower, layer=-2)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), param_shapes(tower)
    )
    text = {"params": params}
    module, kept = released._text_encoder(encoder, {"text": text})
    assert module.num_hidden_layers == 1 and module.projection_dim is None
    assert {"blocks_1", "text_projection"} == params.keys() - kept.keys()
    tokens = jnp.arange(12)[None]
    want = jax.jit(lambda p: encoder.states(p, tokens, tokens > 0)[0])(params)
    got = jax.jit(module.apply)({"params": kept}, tokens)["last_hidden_state"]
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
    "changes,words",
    [
        (dict(use_coordinates=True), "reads coordinates"),
        (dict(patch_size=2), r"reads patches \(config\.task\.patch_size=2\)"),
        (dict(process=make_process("flow", "flow")), "rectified flow"),
        (dict(text_encoder=CompactTextEncoder(300, 8)), "text encoder is CompactTextEncoder, not"),
        (dict(autoencoder=AutoencoderPatch()), "autoencoder is AutoencoderPatch, not"),
        (dict(class_embed_type="projection"), "class_embed_type='projection'"),
    ],
)
def test_a_run_of_another_shape_is_refused_with_the_reason(models, changes, words, tmp_path):
    model = models["sd1"]
    unet = model.task.unet
    if "class_embed_type" in changes:
        changes = dict(unet=unet.clone(**changes))
    other = dataclasses.replace(model, task=dataclasses.replace(model.task, **changes))
    with pytest.raises(UserError, match=words) as error:
        export.to_diffusers(other, tmp_path, "float32")
    assert str(error.value).startswith(f"{model.path}: is no Stable Diffusion pipeline: its ")
    assert str(error.value).endswith("use format=safetensors")
    assert not list(tmp_path.iterdir())


def test_what_does_not_read_back_is_not_called_done(models, tmp_path, monkeypatch):
    read = pipeline_export.read_back

    def damaged(folder: pathlib.Path, name: str):
        tree = read(folder, name)
        if name == "text_encoder":
            tree["final_norm"]["bias"] = tree["final_norm"]["bias"] + 1
        return tree

    monkeypatch.setattr(pipeline_export, "read_back", damaged)
    with pytest.raises(UserError, match="text_encoder: does not read back as it was written"):
        export.to_diffusers(models["sd1"], layout.make(tmp_path / "out"), "float32")


def test_a_weight_that_is_too_large_for_the_type_is_named(models, tmp_path):
    model = models["sd1"]
    tree = weights.unflatten(weights.flatten(model.variables["params"]))
    tree["model"]["unet"]["conv_in"]["bias"] = np.full(8, 1e5, np.float32)
    large = dataclasses.replace(model, variables={**model.variables, "params": tree})
    with pytest.raises(UserError, match="conv_in/bias holds 100000, and float16 ends"):
        export.to_diffusers(large, tmp_path, "float16")
