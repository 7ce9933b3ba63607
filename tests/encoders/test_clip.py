import jax
import jax.numpy as jnp
import numpy as np
import pytest
from towers import GOLDEN, GRADIENT_TOLERANCE, Errors, count, golden, loaded, same, state_of

from gen_jax.common.errors import UserError
from gen_jax.encoders import clip
from gen_jax.encoders.weights import torch_from_flax

# Compiling whole towers takes minutes: with the slow tests.
pytestmark = pytest.mark.slow

# Text tower, image tower, both with their projection; the whole model has `logit_scale` too.
COUNTS = {
    "clip-vit-base-patch32": (63_428_096, 87_849_216, 151_277_313),
    "clip-vit-base-patch16": (63_428_096, 86_192_640, 149_620_737),
    "clip-vit-large-patch14": (123_650_304, 303_966_208, 427_616_513),
    "CLIP-ViT-B-32-laion2B-s34B-b79K": (63_428_096, 87_849_216, 151_277_313),
    "CLIP-ViT-H-14-laion2B-s32B-b79K": (354_032_640, 632_076_800, 986_109_441),
}


def towers(name, **options):
    case = GOLDEN.CLIP[name]
    want = golden("clip", name)
    state = state_of(want)
    text = clip.text_from_hf_config(case["config"], **options)
    vision = clip.vision_from_hf_config(case["config"], **options)
    return (text, loaded(text, state)), (vision, loaded(vision, state)), want, case


@pytest.mark.parametrize("name", GOLDEN.CLIP)
def test_text_tower_is_that_of_transformers(name):
    (text, variables), _, want, case = towers(name)
    tokens = jnp.array(case["tokens"])
    errors = Errors()
    for suffix, mask in (("", None), ("_masked", jnp.array(case["mask"], bool))):
        out = jax.jit(text.apply)(variables, tokens, mask)
        errors.add(f"last{suffix}", out["last_hidden_state"], want[f"text_last{suffix}"])
        errors.add(f"pooled{suffix}", out["pooled"], want[f"text_pooled{suffix}"])
        errors.add(f"embeds{suffix}", out["text_embeds"], want[f"text_embeds{suffix}"])
        hidden = want[f"text_hidden{suffix}"]
        errors.add(f"hidden{suffix}", np.stack(out["hidden_states"]), hidden)
        errors.add(f"penultimate{suffix}", out["penultimate"], hidden[-2])
        normed = want[f"text_penultimate{suffix}"]
        errors.add(f"penultimate, normalised{suffix}", out["penultimate_norm"], normed)
    errors.check()


@pytest.mark.parametrize("name", GOLDEN.CLIP)
def test_image_tower_is_that_of_transformers(name):
    _, (vision, variables), want, case = towers(name)
    errors = Errors()
    for i, size in enumerate(case["sizes"]):
        out = jax.jit(vision.apply)(variables, GOLDEN.images(name, size))
        hidden = want[f"image_hidden{i}"]
        errors.add(f"hidden{i}", np.stack(out["hidden_states"]), hidden)
        errors.add(f"last{i}", out["last_hidden_state"], hidden[-1])
        rows, columns = size[1] // vision.patch_size, size[2] // vision.patch_size
        grid = hidden[-1][:, 1:].reshape(size[0], rows, columns, -1)
        errors.add(f"patches{i}", out["patches"], grid)
        errors.add(f"pooled{i}", out["pooled"], want[f"image_pooled{i}"])
        errors.add(f"embeds{i}", out["image_embeds"], want[f"image_embeds{i}"])
    errors.check()


@pytest.mark.parametrize("name", GOLDEN.CLIP)
def test_gradient_with_respect_to_the_image(name):
    _, (vision, variables), want, case = towers(name)

    def scalar(x):
        out = vision.apply(variables, x)
        outputs = {"last": out["last_hidden_state"], "embeds": out["image_embeds"]}
        return sum(jnp.vdot(y, GOLDEN.noise(f"{name}.{k}", y.shape)) for k, y in outputs.items())

    got = jax.jit(jax.grad(scalar))(GOLDEN.images(name, case["sizes"][1]))
    errors = Errors()
    errors.add("gradient", got, want["gradient"])
    errors.check(GRADIENT_TOLERANCE)


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(name):
    text = clip.CLIPText(**clip.TEXT_PRESETS[name])
    vision = clip.CLIPVision(**clip.VISION_PRESETS[name])
    assert (count(text), count(vision), count(text) + count(vision) + 1) == COUNTS[name]
    assert set(COUNTS) == set(clip.TEXT_PRESETS) == set(clip.VISION_PRESETS)


def test_the_text_tower_of_stable_diffusion():
    # As its text_encoder/config.json has it: no projection, and the old id of the end.
    config = {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "projection_dim": 768,
        "eos_token_id": 2,
        "vocab_size": 49408,
    }
    text = clip.text_from_hf_config(config)
    assert count(text) == 123_060_480
    assert text.eos_token_id == 2 and text.projection_dim is None
    config["architectures"] = ["CLIPTextModelWithProjection"]
    assert clip.text_from_hf_config(config).projection_dim == 768
    assert clip.text_from_hf_config(config, projection=False) == text


def test_every_spelling_of_a_file_gives_the_same_tower():
    (text, text_variables), (vision, vision_variables), want, case = towers("openai")
    state = state_of(want)
    extra = {"embeddings.position_ids": np.arange(9)[None]}
    for tower, full, prefix, projection in (
        (text, text_variables, "text_model.", "text_projection"),
        (vision, vision_variables, "vision_model.", "visual_projection"),
    ):
        plain = tower.clone(projection_dim=None)
        alone = {k: v for k, v in state.items() if k.startswith(prefix)}
        bare = {k.removeprefix(prefix): v for k, v in alone.items()}
        kept = {k: v for k, v in full["params"].items() if k != projection}
        prefixed = {prefix + k: v for k, v in extra.items()}
        for spelling in (state, {**alone, **prefixed}, {**bare, **extra}):
            assert same(loaded(plain, spelling), {"params": kept})
        with pytest.raises(UserError, match=f"{projection}.weight"):
            loaded(tower, alone)
        back = torch_from_flax(full["params"], tower.port)
        want_back = {k: v for k, v in state.items() if k.startswith((prefix, projection))}
        assert back.keys() == want_back.keys()
        assert all(np.array_equal(back[k], want_back[k]) for k in back)
    # Twice the same in old files, of which the second counts.
    config = case["config"]
    old = {**config, "text_config": {"hidden_size": 4}, "text_config_dict": config["text_config"]}
    assert clip.text_from_hf_config(old) == text
    assert clip.vision_from_hf_config({**config, "vision_config_dict": None}) == vision


def test_errors_name_the_mistake():
    (text, text_variables), (vision, vision_variables), _, _ = towers("openai")
    with pytest.raises(UserError, match="10 tokens, but this tower has 9 positions"):
        text.apply(text_variables, jnp.zeros((1, 10), jnp.int32))
    with pytest.raises(UserError, match="multiples of the patch size 8"):
        vision.apply(vision_variables, jnp.zeros((1, 32, 30, 3)))
    with pytest.raises(UserError, match="model_type='bert'"):
        clip.text_from_hf_config({"model_type": "bert"})
