"""The stage of captioned prints: what each loss sees, and what seeds and prompts decide."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import engravings
from gen_jax.common.errors import UserError
from gen_jax.data.text.tokenizer import CompactTokenizer
from gen_jax.losses.padded_images import feature_distance, pixel_errors
from gen_jax.models.caption_sampling import nucleus, sample_captions
from gen_jax.models.joint_autoencoder import unit_mean_square
from gen_jax.tasks import build_task
from tests.moved import moved
from tests.tasks.test_contract import filled

BOS, EOS, PAD = CompactTokenizer.bos_id, CompactTokenizer.eos_id, CompactTokenizer.pad_id
SIZE, LENGTH = 16, 32


@functools.cache
def task():
    config = engravings.get_config("debug")
    return build_task(config.task.to_dict())


def tokens_of(*words):
    """Returns tokens and mask of captions, each so many words of its number."""
    rows = [[BOS, *ids, EOS] + [PAD] * (LENGTH - 2 - len(ids)) for ids in words]
    tokens = np.array(rows, np.int32)
    return {"tokens": tokens, "token_mask": tokens != PAD}


def as_jax(batch):
    """Returns a batch of device arrays, as the trainer passes it."""
    return {key: jnp.asarray(value) for key, value in batch.items()}


def batch():
    rng = np.random.default_rng(0)
    text = tokens_of([20, 30], [40, 50, 60])
    image = rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    mask = np.ones((2, SIZE, SIZE, 1), bool)
    mask[:, :4] = False
    return {"image": image, "mask": mask, **text}


@functools.cache
def variables():
    params, extra = filled(task())
    # Biases of zero leave outputs that depend on nothing.
    return {"params": moved(params, 0.1, seed=1), "extra": extra}


@functools.cache
def loss():
    made = task()
    # Without its random parts, so that two batches can be compared.
    fixed = dataclasses.replace(
        made, latent_noise=0.0, caption_decoder=made.caption_decoder.clone(dropout=0.0)
    )
    params = variables()["params"]
    keys = {name: jax.random.key(i) for i, name in enumerate(made.rng_streams)}

    def run(batch):
        _, (metrics, _) = fixed.losses()["model"](params["model"], params, {}, batch, keys, {})
        return metrics

    return jax.jit(run)


@functools.cache
def generate():
    return jax.jit(lambda batch: task().predict_fns()["generate"](variables(), batch, {}, {}))


def test_latents_have_a_mean_square_of_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 4)) * 7)
    np.testing.assert_allclose(jnp.square(unit_mean_square(x)).mean((1, 2, 3)), 1.0, rtol=1e-5)
    assert unit_mean_square(x[..., :0]).shape == (3, 2, 2, 0)


def test_padding_of_images_counts_a_tenth():
    mask = jnp.asarray(batch()["mask"])
    errors = []
    for place in (0, 10):  # in the padding and in the image
        error = jnp.zeros((2, SIZE, SIZE, 1)).at[:, place].set(3.0)
        errors.append(pixel_errors(error, mask))
    np.testing.assert_allclose(np.array(errors[0]) / np.array(errors[1]), 0.1, rtol=1e-6)
    assert errors[1][1] == pytest.approx(3 * errors[1][0])
    # The weights are 1 on average: an even error counts as without padding.
    np.testing.assert_allclose(pixel_errors(jnp.full_like(error, 3.0), mask), (3.0, 9.0), rtol=1e-4)


def test_padding_of_captions_counts_nothing():
    plain = batch()
    base = loss()(plain)["model/caption"]
    tokens = plain["tokens"].copy()
    tokens[~plain["token_mask"]] = 77
    assert loss()({**plain, "tokens": tokens})["model/caption"] == base
    tokens[0, 1] += 1
    assert loss()({**plain, "tokens": tokens})["model/caption"] != base


def test_the_contrastive_loss_compares_every_image_with_every_caption():
    plain = batch()
    swapped = {key: value[::-1] for key, value in plain.items() if key.startswith("token")}
    before, after = (float(loss()(b)["model/contrastive"]) for b in (plain, plain | swapped))
    assert abs(before - after) > 1e-4
    both = {key: value[::-1] for key, value in plain.items()}
    assert float(loss()(both)["model/contrastive"]) == pytest.approx(before, rel=1e-5)


def test_the_flow_teaches_the_latents_nothing():
    made = dataclasses.replace(
        task(),
        l1_weight=0.0,
        l2_weight=0.0,
        caption_weight=0.0,
        contrastive_weight=0.0,
        size_weight=0.0,
    )
    params = variables()["params"]
    keys = {name: jax.random.key(i) for i, name in enumerate(made.rng_streams)}

    def run(model):
        return made.losses()["model"](model, params, {}, as_jax(batch()), keys, {})[0]

    slopes = jax.jit(jax.grad(run))(params["model"])
    largest = {name: max(np.abs(g).max() for g in jax.tree.leaves(t)) for name, t in slopes.items()}
    assert largest.pop("flow") > 0 and set(largest.values()) == {0.0}


def test_a_sample_depends_on_its_seed_and_prompt_alone():
    empty, prompt = tokens_of([], [], []), tokens_of([20, 30], [], [40])
    seeds = np.array([5, 6, 5], np.uint32)
    out = generate()({"seed": seeds, **empty})
    for key in ("image", "caption"):
        np.testing.assert_array_equal(out[key][0], out[key][2])
        assert (np.asarray(out[key][0]) != np.asarray(out[key][1])).any()
    prompted = generate()({"seed": seeds, **prompt})
    np.testing.assert_array_equal(prompted["image"][1], out["image"][1])
    assert (np.asarray(prompted["image"][0]) != np.asarray(out["image"][0])).any()
    assert (np.asarray(prompted["image"][0]) != np.asarray(prompted["image"][2])).any()


def test_captions_begin_and_end_once():
    decoder = task().caption_decoder
    context = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3, 16)), jnp.float32)
    params = variables()["params"]["model"]["caption_decoder"]
    # Start, end and padding are likely, so that most captions end early.
    bias = params["head"]["bias"].at[jnp.array([BOS, EOS, PAD])].add(4.0)
    params = {**params, "head": {**params["head"], "bias": bias}}
    keys = jax.random.split(jax.random.key(0), 8)
    ids = dict(bos_id=BOS, eos_id=EOS, pad_id=PAD)
    sample = jax.jit(lambda p: sample_captions(decoder, p, context, keys, **ids, temperature=1.0))
    found = np.asarray(sample(params))
    assert (found == EOS).any(1).sum() >= 4
    for row in found:
        assert row.shape == (LENGTH,) and row[0] == BOS and BOS not in row[1:]
        ends = np.flatnonzero(row == EOS)
        assert len(ends) <= 1
        last = ends[0] if len(ends) else LENGTH - 1
        assert (row[last + 1 :] == PAD).all() and PAD not in row[:last]


def test_the_nucleus_is_the_smallest_set_of_its_probability():
    logits = jnp.log(jnp.array([[0.5, 0.1, 0.3, 0.1]]))
    for top_p, kept in ((0.4, [0]), (0.6, [0, 2]), (0.8001, [0, 1, 2, 3]), (1.0, [0, 1, 2, 3])):
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(nucleus(logits, top_p))), kept)


def test_tokens_that_a_caption_has_are_penalized():
    decoder = task().caption_decoder
    context = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 16)), jnp.float32)
    params = variables()["params"]["model"]["caption_decoder"]
    # One token is the most likely one everywhere.
    bias = params["head"]["bias"].at[30].add(9.0).at[EOS].add(-30.0)
    params = {**params, "head": {**params["head"], "bias": bias}}
    keys, ids = jax.random.split(jax.random.key(0), 4), dict(bos_id=BOS, eos_id=EOS, pad_id=PAD)

    def sample(**penalty):
        draw = jax.jit(lambda p: sample_captions(decoder, p, context, keys, **ids, **penalty))
        return np.asarray(draw(params))

    assert (sample()[:, 1:] == 30).all()
    assert (sample(repetition_penalty=10.0) == 30).sum(1).max() == 1


def test_features_are_compared_by_their_directions():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 5))
    assert feature_distance([x], [7 * x]) == pytest.approx(0.0, abs=1e-6)
    assert feature_distance([x, x], [-x, x]) == pytest.approx(2.0, rel=1e-4)  # 4 and 0


@functools.cache
def predict(name):
    return jax.jit(lambda batch: task().predict_fns()[name](variables(), batch, {}, {}))


def test_latents_are_joined_and_decoded_as_they_were():
    plain = batch()
    inputs = {key: plain[key] for key in ("image", "tokens", "token_mask")}
    latent = predict("encode")(inputs)["latent"]
    assert latent.shape == (2, task().latent_size)
    np.testing.assert_array_equal(task().join(task().split(latent)), latent)
    without = predict("encode")({**inputs, **tokens_of([], [])})["latent"]
    assert (task().split(without).caption == 0).all()
    # Without a latent of the caption, it comes from the image alone, as in a reconstruction.
    seeds = np.zeros(2, np.uint32)
    image = predict("decode")({"latent": without, "seed": seeds})["image"]
    same = predict("reconstruct")({"image": plain["image"]})["image"]
    assert np.abs(np.asarray(image, int) - np.asarray(same, int)).max() <= 1


def test_a_backbone_begins_with_weights_and_is_not_trained():
    config = engravings.get_config("debug,features=file.safetensors").task.to_dict()
    made = build_task({**config, "backbone_size": 32})
    assert made.pretrained() == {"backbone": "mobilenet-v2:file.safetensors"}
    assert made.untrained() == "^backbone/"
    params, _ = jax.eval_shape(made.init, jax.random.key(0), as_jax(batch()))
    assert "classifier" not in params["model"]["backbone"]
    assert "feature_in" in params["model"]["autoencoder"]


def test_the_pooled_latent_alone_is_enough_to_train():
    made = build_task(engravings.get_config("debug,spatial=0").task.to_dict())
    made = dataclasses.replace(made, autoencoder=made.autoencoder.clone(spatial_channels=0))
    params, _ = jax.eval_shape(made.init, jax.random.key(0), as_jax(batch()))
    keys = {name: jax.random.key(i) for i, name in enumerate(made.rng_streams)}
    loss = made.losses()["model"]
    value, _ = jax.eval_shape(
        lambda p: loss(p, {"model": p}, {}, as_jax(batch()), keys, {}), params["model"]
    )
    assert value.shape == () and made.latent_size == 16 + 16


@pytest.mark.parametrize("key,value,message", [
    ("contrastive", "clip", "contrastive=clip: expected siglip or info_nce"),
    ("image_size", 18, "image_size=18: not divisible by 4"),
    ("top_p", 0.0, "top_p=0.0"),
    ("backbone", "vgg:x", "backbone=vgg:x: expected mobilenet-v2:WEIGHTS, or nothing"),
])  # fmt: skip
def test_wrong_values_are_refused(key, value, message):
    values = {**engravings.get_config("debug").task.to_dict(), key: value}
    with pytest.raises(UserError, match=message):
        build_task(values)
