import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from towers import GOLDEN, Errors, count, golden, loaded, same, state_of

from gen_jax.common.errors import UserError
from gen_jax.encoders import bert
from gen_jax.encoders.weights import torch_from_flax

# Compiling whole towers takes minutes: with the slow tests.
pytestmark = pytest.mark.slow

COUNTS = {
    "bert-base-uncased": 108_891_648,
    "distilbert-base-uncased": 66_362_880,
    "all-MiniLM-L6-v2": 22_565_376,
}


def tower(name, **options):
    case = GOLDEN.BERT[name]
    module = bert.from_hf_config(case["config"], **options)
    want = golden("bert", name)
    return module, loaded(module, state_of(want)), want, case


@pytest.mark.parametrize("name", GOLDEN.BERT)
def test_states_are_those_of_transformers(name):
    module, variables, want, case = tower(name)
    tokens, mask = jnp.array(case["tokens"]), jnp.array(case["mask"], bool)
    types = jnp.array(case["token_types"]) if "token_types" in case else None
    errors = Errors()
    for suffix, arguments in (("", ()), ("_masked", (mask,)), ("_typed", (mask, types))):
        out = jax.jit(module.apply)(variables, tokens, *arguments)
        hidden = want[f"hidden{suffix}"]
        errors.add(f"hidden{suffix}", np.stack(out["hidden_states"]), hidden)
        errors.add(f"last{suffix}", out["last_hidden_state"], hidden[-1])
    sentence = jax.jit(bert.sentence_embedding)(out["last_hidden_state"], mask)
    errors.add("sentence", sentence, want["sentence"])
    errors.check()


def test_padding_changes_nothing_before_it():
    module, variables, _, case = tower("minilm")
    tokens, mask = jnp.array(case["tokens"][:1]), jnp.array(case["mask"][:1], bool)
    apply = jax.jit(module.apply)
    short = apply(variables, tokens[:, :5])["last_hidden_state"]
    padded = apply(variables, tokens, mask)["last_hidden_state"]
    np.testing.assert_allclose(padded[:, :5], short, rtol=0, atol=1e-5)
    whole = jnp.ones((1, 5), bool)
    got = bert.sentence_embedding(padded, mask), bert.sentence_embedding(short, whole)
    np.testing.assert_allclose(*got, rtol=0, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(got[0], axis=-1), 1, rtol=1e-6)
    nothing = bert.sentence_embedding(short, jnp.zeros((1, 5), bool))
    assert not nothing.any()


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(name):
    assert count(bert.BertEncoder(**bert.PRESETS[name])) == COUNTS[name]
    assert set(COUNTS) == set(bert.PRESETS)


def test_a_preset_is_what_its_config_says():
    minilm = {
        "model_type": "bert",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
        "vocab_size": 30522,
        "type_vocab_size": 2,
    }
    assert bert.from_hf_config(minilm) == bert.BertEncoder(**bert.PRESETS["all-MiniLM-L6-v2"])
    distil = {"model_type": "distilbert", "dim": 768, "n_layers": 6, "activation": "gelu"}
    want = bert.BertEncoder(**bert.PRESETS["distilbert-base-uncased"])
    assert bert.from_hf_config(distil) == want
    with pytest.raises(UserError, match="position_embedding_type='relative_key'"):
        bert.from_hf_config({**minilm, "position_embedding_type": "relative_key"})
    with pytest.raises(UserError, match="model_type='clip'"):
        bert.from_hf_config({"model_type": "clip"})


@pytest.mark.parametrize("name", GOLDEN.BERT)
def test_every_spelling_of_a_file_gives_the_same_tower(name):
    module, variables, want, _ = tower(name)
    state = state_of(want)
    prefix = "distilbert." if name == "distilbert" else "bert."
    bare = {k.removeprefix(prefix): v for k, v in state.items()}
    prefixed = {prefix + k: v for k, v in bare.items() if k.startswith(("emb", "enc", "tr", "po"))}
    ids = {"embeddings.position_ids": np.arange(12)[None]}
    old = {re.sub("LayerNorm.weight$", "LayerNorm.gamma", k): v for k, v in bare.items()}
    old = {re.sub("LayerNorm.bias$", "LayerNorm.beta", k): v for k, v in old.items()}
    for spelling in (bare, prefixed, {**bare, **ids}, old):
        assert same(loaded(module, spelling), variables)
    back = torch_from_flax(variables["params"], module.port)
    assert set(back) <= set(bare) and not [k for k in back if k.startswith("pooler")]
    assert all(np.array_equal(back[k], bare[k]) for k in back)


def test_errors_name_the_mistake():
    module, variables, _, _ = tower("distilbert")
    with pytest.raises(UserError, match="8 tokens, but this tower has 7 positions"):
        module.apply(variables, jnp.zeros((1, 8), jnp.int32))
    tokens = jnp.zeros((1, 3), jnp.int32)
    with pytest.raises(UserError, match="no segments"):
        module.apply(variables, tokens, None, tokens)
