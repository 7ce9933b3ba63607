"""Frozen towers as the text encoder of a stage."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ldm
from gen_jax.common.errors import UserError
from gen_jax.encoders.clip import CLIPText
from gen_jax.runs import text_tower
from gen_jax.tasks import build_task, text
from tests.tiny_text import tower_folder

KINDS = ("clip", "distilbert")


def config_of(kind, weights):
    return ldm.get_config(f"debug,data=photos,vae=train,text={kind},weights={weights}")


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Kind -> config, encoder, its frozen parameters, its tokenizer."""
    found = {}
    for kind in KINDS:
        config = config_of(kind, tower_folder(kind, tmp_path_factory.mktemp(kind)))
        encoder, params, _ = text_tower.load(config.task.to_dict(), pathlib.Path("nowhere"))
        tokenizer = text_tower.tokenizer(config.task.to_dict(), pathlib.Path("nowhere"))
        frozen = {"text": encoder.as_frozen({"params": {"model": params}})}
        found[kind] = config, encoder, frozen, tokenizer
    return found


def encoded(tokenizer, *texts):
    found = tokenizer.encode(texts, 8)
    return jnp.asarray(found.ids), jnp.asarray(found.mask)


def states_of(encoder, frozen, tokens, mask):
    """States of both layers with what is seen of them, and the tower's own outputs, compiled."""

    @jax.jit
    def run(frozen, tokens, mask):
        by_layer = [dataclasses.replace(encoder, layer=layer) for layer in text.LAYERS]
        own = (tokens,) if isinstance(encoder.tower, CLIPText) else (tokens, mask)
        return (
            [text.encode(e, {}, frozen, tokens, mask) for e in by_layer],
            encoder.tower.apply(frozen["text"], *own),
        )

    return run(frozen, tokens, mask)


def test_clip_states_are_the_normalised_ones_and_all_are_seen(towers):
    _, encoder, frozen, tokenizer = towers["clip"]
    found, out = states_of(encoder, frozen, *encoded(tokenizer, "a cat"))
    for (states, seen), key in zip(found, ("last_hidden_state", "penultimate_norm")):
        np.testing.assert_array_equal(states, out[key])
        assert seen is None and states.shape == (1, 8, 16)
    assert np.abs(found[0][0] - found[1][0]).max() > 0.1


def test_of_distilbert_padding_is_hidden_from_the_tower_and_the_unet(towers):
    _, encoder, frozen, tokenizer = towers["distilbert"]
    tokens, mask = encoded(tokenizer, "a cat", "a cat")
    tokens = tokens.at[1].set(jnp.where(mask[1], tokens[1], 4))
    found, out = states_of(encoder, frozen, tokens, mask)
    for (states, seen), layer in zip(found, text.LAYERS):
        np.testing.assert_array_equal(states, out["hidden_states"][layer])
        np.testing.assert_array_equal(seen, mask)
        states, real = np.asarray(states), np.asarray(mask[0])
        np.testing.assert_allclose(states[0, real], states[1, real], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_tower(towers, kind):
    _, encoder, frozen, tokenizer = towers[kind]

    def total(frozen):
        return text.encode(encoder, {}, frozen, *encoded(tokenizer, "a cat"))[0].sum()

    value, grads = jax.jit(jax.value_and_grad(total))(frozen)
    assert float(value) != 0
    assert jax.tree.leaves(grads) and all(not np.any(g) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("kind", KINDS)
def test_the_empty_prompt_is_the_tokenizers(towers, kind):
    _, encoder, _, tokenizer = towers[kind]
    tokens, mask = text.empty(encoder, 2)
    want = encoded(tokenizer, "", "")
    np.testing.assert_array_equal(tokens, want[0])
    np.testing.assert_array_equal(mask, want[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_caption_is_the_empty_one(towers, kind):
    config, encoder, frozen, tokenizer = towers[kind]
    vae = build_task(config.requires.vae.task.to_dict())
    task = build_task(config.task.to_dict(), {"vae": vae, "text": encoder})
    assert task.unet.cross_attention_dim == encoder.hidden_size
    heard = []

    class Told(type(task.unet)):
        """Notes the states that it is told, and answers with the latents."""

        def apply(self, variables, x, t, **cond):
            heard.append(cond)
            return x[..., :4]

    class Flat(type(vae.autoencoder)):
        """Whose latents are all the same."""

        def apply(self, variables, x, method):
            return jnp.zeros((2, *task.latent_shape)), jnp.zeros((2, *task.latent_shape))

    stage = {"params": {}, "latent_mean": jnp.zeros(4), "latent_std": jnp.ones(4)}
    rngs = {name: jax.random.key(i) for i, name in enumerate(task.rng_streams)}
    texts = {0.0: ("a cat", "cats"), 1.0: ("", "")}

    @jax.jit
    def run(frozen, tokens, mask):
        batch = {"tokens": tokens, "token_mask": mask, "image": jnp.zeros((2, 16, 16, 3), "uint8")}
        for rate in texts:
            told = dataclasses.replace(
                task, text_dropout_prob=rate, unet=Told(), autoencoder=Flat()
            )
            told._loss({"unet": {}}, None, {}, batch, rngs, {"vae": stage, **frozen})
        want = [text.encode(encoder, {}, frozen, *encoded(tokenizer, *t)) for t in texts.values()]
        return [heard.pop(0) for _ in texts], want

    told, want = run(frozen, *encoded(tokenizer, *texts[0.0]))
    for cond, (states, seen) in zip(told, want):
        np.testing.assert_allclose(cond["encoder_hidden_states"], states, atol=1e-6)
        assert ("encoder_attention_mask" in cond) == (seen is not None)
        if seen is not None:
            np.testing.assert_array_equal(cond["encoder_attention_mask"], seen)
    assert np.abs(told[0]["encoder_hidden_states"] - told[1]["encoder_hidden_states"]).max() > 0.01


def test_nothing_of_the_tower_is_trained(towers):
    config, encoder, _, _ = towers["clip"]
    vae = build_task(config.requires.vae.task.to_dict())
    task = build_task(config.task.to_dict(), {"vae": vae, "text": encoder})
    batch = {k: jnp.zeros((1, *s.shape), s.dtype) for k, s in task.batch_spec().items()}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    assert set(params) == {"model"} and set(params["model"]) == {"unet"}


def test_mistakes_are_told(towers, tmp_path):
    config, encoder, _, tokenizer = towers["clip"]
    values = config.task.text_encoder.to_dict()
    vae = build_task(config.requires.vae.task.to_dict())
    narrow = config.copy_and_resolve_references()
    with narrow.unlocked():
        narrow.task.unet.cross_attention_dim = 12
    with pytest.raises(UserError, match=r"cross_attention_dim=12 must be .* hidden_size=16"):
        build_task(narrow.task.to_dict(), {"vae": vae, "text": encoder})
    with pytest.raises(UserError, match="expected one of compact, clip, distilbert"):
        text.build_text_encoder({"name": "t5"}, {})

    def refused(words, **changes):
        with pytest.raises(UserError, match=words):
            text_tower.load({"text_encoder": {**values, **changes}}, tmp_path)

    nowhere = str(tmp_path / "nowhere.safetensors")
    refused(r"text_encoder\.weights: .*nowhere\.safetensors: no such file", weights=nowhere)
    refused(r"tower='dinov2-small': name='clip' takes one of clip-vit-", tower="dinov2-small")
    refused(r"tower='x': name='distilbert' takes .*MiniLM", name="distilbert", tower="x")
    refused("unknown key 'layers'", layers=1)
    refused(r"layer=3: expected one of \(-1, -2\)", layer=3)
    refused("max_length=9: clip-vit-large-patch14-text reads 2 to 8 tokens", max_length=9)
    (tmp_path / "v").mkdir()
    refused(r"text_encoder\.vocabulary: .*v: holds no vocabulary", vocabulary=str(tmp_path / "v"))
    larger = tower_folder("distilbert", tmp_path / "b")
    refused("model_type='distilbert'", weights=str(larger))
    with open(larger / "vocab.txt", "a") as file:
        file.write("\nanother")
    bert = dict(values, name="distilbert", tower="distilbert-base-uncased", weights=str(larger))
    refused("vocabulary: 10 tokens, but distilbert-base-uncased knows 9", **bert)
    tokenizer.save(tmp_path / "tokenizer.json")
    refused("tokenizer.json: belongs to another text encoder", **bert)


def test_open_clip_pads_with_zero(towers):
    task = towers["clip"][0].task.to_dict()
    task["text_encoder"]["tower"] = "CLIP-ViT-H-14-laion2B-s32B-b79K-text"
    assert text_tower.tokenizer(task, pathlib.Path("nowhere")).pad_id == 0


def test_published_weights_bring_their_vocabulary(towers, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, set(allow_patterns)))
        return str(tmp_path)

    tower_folder("clip", tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    task = towers["clip"][0].task.to_dict()
    task["text_encoder"]["weights"] = ""
    encoder, _, _ = text_tower.load(task, pathlib.Path("nowhere"))
    assert encoder == towers["clip"][1]
    assert {name for name, _ in asked} == {"openai/clip-vit-large-patch14"}
    assert all({"config.json", "vocab.json", "merges.txt"} <= wanted for _, wanted in asked)
