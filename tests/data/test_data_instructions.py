"""Instructions: what each kind leaves is exactly what was there; words fit what was done."""

import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data import degradations
from gen_jax.data.degradations.base import from_bytes, to_bytes
from gen_jax.data.degradations.instructed import Instructions, contradictory
from gen_jax.data.load import order, steps, transforms
from gen_jax.data.text import instructions
from gen_jax.data.text.tokenizer import train_tokenizer


def picture():
    y, x = np.mgrid[:48, :48] / 48
    waves = [0.5 + 0.2 * np.sin(50 * x * y + c) + 0.15 * np.cos(9 * y) for c in range(3)]
    return to_bytes(np.stack(waves, -1))


def made(kind, seed):
    return contradictory(from_bytes(picture()), kind, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_an_instruction_takes_away_one_fault_and_keeps_the_others(seed):
    clean = np.float32(picture())
    by_kind = {kind: made(kind, seed) for kind in instructions.KINDS}
    target = {k: np.float32(m.target) for k, m in by_kind.items()}
    np.testing.assert_array_equal(target["restore"], clean)
    np.testing.assert_array_equal(by_kind["keep"].target, to_bytes(by_kind["keep"].degraded))
    # Softness and noise are drawn first and alike for all kinds: the noise kept is the one there.
    noise = target["decompress"] - target["denoise"]
    unclipped = np.all([(t > 0) & (t < 255) for t in target.values()], axis=0)
    np.testing.assert_allclose((target["sharpen"] - clean)[unclipped], noise[unclipped], atol=1.01)
    assert np.std(noise) > 6 and np.abs(target["denoise"] - clean).mean() > 1
    assert by_kind["decompress"].drawn["jpeg"] >= 20


def test_the_probabilities_decide_which_crops_have_instructions():
    clean, otherwise = picture(), degradations.build("denoise25")
    rng = np.random.default_rng(0)
    none = [Instructions(0.0, otherwise, prompt_prob=0.0)(clean, rng) for _ in range(5)]
    assert all(m.prompt == "" and m.kind == "restore" for m in none)
    assert all(m.drawn == {"sigma": 25.0} for m in none)
    all_ = [Instructions(1.0, otherwise)(clean, rng) for _ in range(80)]
    assert {m.kind for m in all_} == set(instructions.KINDS) and all(m.prompt for m in all_)
    some = [Instructions(0.0, otherwise, prompt_prob=1.0)(clean, rng) for _ in range(40)]
    prompts = {m.prompt for m in some}
    assert "" not in prompts and any("noisy" in p or "grainy" in p for p in prompts)
    with pytest.raises(UserError, match="contradiction_prob=2"):
        Instructions(2.0, otherwise)


def test_sentences_are_of_one_kind_and_describe_what_is_there():
    every = [s for group in instructions.SENTENCES.values() for s in group]
    assert len(every) == len(set(every)) > 100
    assert all(s == " ".join(s.split()) and " ," not in s for s in instructions.vocabulary())
    assert all(instructions.OPPOSITE[k] != k for k in instructions.KINDS)
    rng = np.random.default_rng(0)
    asked = {instructions.instruct("sharpen", {"scale": 2.0}, rng) for _ in range(60)}
    assert any("four" in s for s in asked) and not any("two" in s or "twice" in s for s in asked)
    assert instructions.describe({"sigma": 3.0}, rng) == ""
    assert "blocky" in {instructions.describe({"jpeg": 80.0}, rng).split()[1] for _ in range(40)}


def test_the_loader_hands_out_tokens_and_the_target():
    tokenizer = train_tokenizer(instructions.vocabulary(), 512)
    named = transforms.InstructedRestoration("denoise25", contradiction_prob=1.0)
    run = named.build(32, train=True, tokenizer=tokenizer, max_length=24)
    example = {"image": picture(), "label": 0, "captions": [], "key": "a", "attributes": {}}
    out, again = (run(example, order.augmentation_rng(0, 5)) for _ in range(2))
    for key, value in out.items():
        np.testing.assert_array_equal(value, again[key])
    assert out["tokens"].shape == out["token_mask"].shape == (24,)
    assert out["image"].shape == out["degraded"].shape == (32, 32, 3)
    assert 0 <= out["kind"] < len(instructions.KINDS)
    longest = max(tokenizer.encode(instructions.vocabulary(), 64).mask.sum(1))
    assert longest <= 24, "a sentence does not fit the recipe's max_length"


def test_the_distance_from_the_clean_picture_is_measured():
    run = steps.degrade(degradations.build("denoise25"))
    vector = run({"image": picture()}, np.random.default_rng(0))["degradation"]
    error = vector[degradations.PARAMETERS.index("error")] * degradations.base.SCALES["error"]
    assert error == pytest.approx(25.0, rel=0.03)


def test_some_training_crops_are_gray_with_gray_noise():
    run = transforms.Restoration("denoise25").build(32, train=True)
    example = {"image": picture(), "label": 0}
    out = [run(example, order.augmentation_rng(0, i)) for i in range(60)]
    gray = [np.ptp(o["image"], axis=-1).max() == 0 for o in out]
    assert 0 < sum(gray) < 25
    for example, is_gray in zip(out, gray):
        assert example["image"].shape == example["degraded"].shape == (32, 32, 3)
        assert (np.ptp(example["degraded"], axis=-1).max() < 1e-6) == is_gray
