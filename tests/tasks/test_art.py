"""The stage art: what its losses count, the decoder that begins as it was, samples by seed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import art
from gen_jax.common.errors import UserError
from gen_jax.models.patch_discriminator import PatchDiscriminator
from gen_jax.tasks import build_task
from tests.moved import moved
from tests.tasks.test_contract import filled

COUNT = 4


@functools.cache
def made(arg="debug"):
    """A task, its parameters (nowhere zero but for the decoder's), frozen VQ-VAE and a batch."""
    config = art.get_config(arg)
    vqvae = build_task(config.requires.vqvae.task.to_dict())
    task = build_task(config.task.to_dict(), {"vqvae": vqvae})
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (COUNT, 16, 16, 3)), jnp.uint8),
        "tokens": jnp.asarray(rng.integers(3, 200, (COUNT, 24)), jnp.int32),
        "token_mask": jnp.arange(24)[None] < jnp.asarray([[24], [5], [9], [2]]),
    }
    params, extra = filled(vqvae)
    frozen = {"vqvae": vqvae.as_frozen({"params": params, "extra": extra})}
    # Compiling the initializers takes seconds; only a decoder that is trained along begins at zero.
    params, _ = jax.jit(task.init)(jax.random.key(1), batch) if "joint" in arg else filled(task)
    params["model"]["prior"] = moved(params["model"]["prior"], 0.2)
    return task, params, frozen, batch


def rngs(task):
    return {name: jax.random.key(i) for i, name in enumerate(task.rng_streams)}


def loss_of(task, params, frozen, batch):
    """A compiled function of the model's parameters: its loss and what is told of it."""
    return jax.jit(lambda p: task._loss(p, params, {}, batch, rngs(task), frozen))


def test_the_loss_is_of_hidden_codes_alone():
    task, params, frozen, batch = made()
    task = dataclasses.replace(task, text_dropout_prob=0.0)
    loss, (metrics, _) = loss_of(task, params, frozen, batch)(params["model"])
    assert float(loss) == pytest.approx(float(metrics["model/prior_nll"]))

    @jax.jit
    def guesses(params, image):
        codes = task.vqvae.codes(frozen["vqvae"], image.astype(jnp.float32) / 127.5 - 1)
        logits, hidden = task._logits(
            params, codes.reshape(COUNT, -1), task.told(params, batch, frozen),
            rngs(task)["hide"], rngs(task)["dropout"],
        )  # fmt: skip
        return codes, jax.nn.log_softmax(logits), hidden

    codes, log_p, hidden = guesses(params["model"], batch["image"])
    picked = np.take_along_axis(np.asarray(log_p), np.asarray(codes).reshape(COUNT, -1, 1), -1)
    want = -picked[..., 0][np.asarray(hidden)].mean()
    assert float(loss) == pytest.approx(want, rel=1e-5)
    assert 0 < hidden.sum() < hidden.size


def test_texts_are_dropped_at_the_rate_of_the_recipe():
    task, _, _, batch = made()
    many = {k: batch[k][1:2].repeat(4096, 0) for k in ("tokens", "token_mask")}
    left = jax.jit(task._with_dropped_text)(many, rngs(task))
    dropped = np.asarray((left["tokens"] != many["tokens"]).any(1))
    assert 0.08 < dropped.mean() < 0.12  # a tenth; its standard deviation is 0.5%
    assert (left["token_mask"].sum(1) == np.where(dropped, 2, 5)).all()


def test_an_ordered_prior_counts_every_code():
    task, params, frozen, batch = made("debug,prior=ordered")
    told = jax.jit(task.told)(params["model"], batch, frozen)
    codes = jnp.zeros((COUNT, 16), jnp.int32)
    _, counted = jax.jit(task._logits)(params["model"], codes, told, jax.random.key(0))
    assert counted.all()


def test_an_ordered_prior_can_begin_with_all_that_a_masked_one_learned():
    (_, masked, _, _), (_, ordered, _, _) = made(), made("debug,prior=ordered")
    shapes = [jax.tree.map(jnp.shape, p) for p in (masked, ordered)]
    assert shapes[0] == shapes[1]


def test_detail_is_no_part_of_training():
    config = art.get_config("debug")
    vqvae = build_task(config.requires.vqvae.task.to_dict())
    with pytest.raises(UserError, match=r"config\.task\.detail: it has no part in training"):
        build_task({**config.task.to_dict(), "detail": "runs/detail"}, {"vqvae": vqvae})


def test_label_smoothing_mixes_with_even_codes():
    task, params, frozen, batch = made()
    plain = loss_of(task, params, frozen, batch)(params["model"])
    smooth = dataclasses.replace(task, label_smoothing=0.2)
    mixed = loss_of(smooth, params, frozen, batch)(params["model"])
    nll = float(plain[0])
    # Even codes cost ln K at the least.
    assert float(mixed[0]) >= 0.8 * nll + 0.2 * np.log(task.prior.num_codes) - 1e-4
    assert float(mixed[1][0]["model/prior_nll"]) == pytest.approx(nll)


def test_the_decoder_begins_as_it_was_and_deaf():
    task, params, frozen, batch = made("debug,joint")
    grid = jnp.asarray(
        np.random.default_rng(1).integers(0, 32, (COUNT, *task.vqvae.grid)), jnp.int32
    )
    told = jax.jit(task.told)(params["model"], batch, frozen)
    images = jax.jit(task._images)
    now = images(params["model"], frozen, grid, told)
    np.testing.assert_array_equal(now, jax.jit(task.vqvae.images)(frozen["vqvae"], grid))
    moved = jax.tree.map(lambda p: p + 0.05, params["model"]["decoder"])
    later = {**params["model"], "decoder": moved}
    a = images(later, frozen, grid, told)
    b = images(later, frozen, grid, {**told, "text": -told["text"]})
    assert np.abs(np.asarray(a - now)).max() > 1e-3, "what is learnt does nothing"
    assert np.abs(np.asarray(a - b)).max() > 1e-4, "it does not hear"


def test_the_joint_loss_has_both_parts():
    task, params, frozen, batch = made("debug,joint")
    first = dataclasses.replace(
        task.vqvae, l1_weight=0.5, l2_weight=2.0, gradient_weight=3.0, perceptual_weight=0.25,
        discriminator=PatchDiscriminator(channels=8, num_layers=1),  # whose parameters are not here
    )  # fmt: skip
    task = dataclasses.replace(task, vqvae=first, decoder_weight=0.5)
    (loss, (metrics, _)), grads = jax.jit(
        jax.value_and_grad(loss_of(task, params, frozen, batch), has_aux=True)
    )(params["model"])
    weights = {"l1": 0.5, "l2": 2.0, "gradient": 3.0, "perceptual": 0.25}
    parts = [0.5 * w * float(metrics[f"model/image_{n}"]) for n, w in weights.items()]
    assert min(parts) > 0
    assert float(loss) == pytest.approx(float(metrics["model/prior_nll"]) + sum(parts), rel=1e-5)
    for name in ("prior", "decoder", "text_encoder"):
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads[name])) > 0, name


def test_joint_training_alone_reads_the_encoder_of_the_vqvae():
    lpips = {"perceptual": "lpips", "perceptual_encoder": "lpips-st-alex:some.safetensors"}
    for arg, known in (("debug,joint", True), ("debug", False)):
        config = art.get_config(arg)
        values = config.requires.vqvae.task.to_dict() | lpips
        task = build_task(config.task.to_dict(), {"vqvae": build_task(values)})
        wanted = [lpips["perceptual_encoder"]] if known else []
        assert list(task.frozen_encoders().values()) == wanted


@pytest.mark.parametrize("arg", ["debug", "debug,prior=ordered"])
def test_a_sample_is_of_its_seed_and_text_alone(arg):
    task, params, frozen, batch = made(arg)
    variables = {"params": params, "extra": {}}
    asked = {k: batch[k] for k in ("tokens", "token_mask")}
    asked["seed"] = jnp.asarray([5, 6, 7, 5], jnp.uint32)
    draw = jax.jit(lambda b: task._generate(variables, b, {}, frozen))
    whole = draw(asked)
    # At another place, among other seeds and texts.
    moved = {k: v[jnp.asarray([2, 2, 2, 1])] for k, v in asked.items()}
    np.testing.assert_array_equal(whole["codes"][1], draw(moved)["codes"][3])
    assert (np.asarray(whole["codes"][0]) != np.asarray(whole["codes"][1])).any()
    assert (np.asarray(whole["codes"][0]) != np.asarray(whole["codes"][3])).any(), "text is deaf"
    assert (whole["codes"] >= 0).all() and (whole["codes"] < task.prior.num_codes).all()
    assert whole["image"].shape == (COUNT, 16, 16, 3)


def test_guidance_is_by_scale():
    task, params, frozen, batch = made()
    variables = {"params": params, "extra": {}}
    asked = {
        **{k: batch[k] for k in ("tokens", "token_mask")},
        "seed": jnp.arange(4, dtype=jnp.uint32),
    }

    def codes(task, asked=asked, **more):
        draw = jax.jit(lambda b: task._generate(variables, b, {}, frozen)["codes"])
        return np.asarray(draw({**asked, **more}))

    none = dataclasses.replace(task, guidance_scale=1.0)
    plain, guided = codes(none), codes(task)
    # A scale of 0 is the empty text's.
    blank = codes(none, {"seed": asked["seed"]})
    each = codes(task, guidance=jnp.asarray([1.0, 0.0, task.guidance_scale, 1.0]))
    np.testing.assert_array_equal(each, np.stack([plain[0], blank[1], guided[2], plain[3]]))
    assert (plain != guided).any((1, 2, 3)).all() and (plain != blank).any((1, 2, 3)).all()


def test_random_codes_are_even():
    task, params, frozen, _ = made()
    seeds = {"seed": jnp.arange(64, dtype=jnp.uint32)}
    draw = jax.jit(lambda b: task._random({"params": params, "extra": {}}, b, {}, frozen)["image"])
    out = draw(seeds)
    assert (
        out.shape == (64, 16, 16, 3)
        and len(np.unique(np.asarray(out).reshape(64, -1), axis=0)) == 64
    )


def test_scores_are_of_each_picture():
    task, params, frozen, batch = made("debug,prior=ordered")
    variables = {"params": params, "extra": {}}
    score = jax.jit(lambda b: task._score(variables, b, rngs(task), frozen)["nll"])
    alone = score({k: v[2:3] for k, v in batch.items()})
    np.testing.assert_allclose(score(batch)[2:3], alone, rtol=1e-5)


def test_what_makes_no_sense_is_refused():
    config = art.get_config("debug")
    with pytest.raises(UserError, match=r"config\.frozen\.vqvae"):
        build_task(config.task.to_dict())
    vqvae = {"vqvae": build_task(config.requires.vqvae.task.to_dict())}
    for key, value, words in (
        ("num_inference_steps", 0, "num_inference_steps=0"), ("prior", None, "prior is missing"),
    ):  # fmt: skip
        values = {**config.task.to_dict(), key: value}
        if value is None:
            del values[key]
        with pytest.raises(UserError, match=words):
            build_task(values, vqvae)
    with pytest.raises(UserError, match="prior=x"):
        art.get_config("prior=x")


def test_attention_to_the_words_of_a_text_is_shared_out_at_each_place():
    task, params, frozen, batch = made()
    asked = {**batch, "seed": jnp.arange(COUNT, dtype=jnp.uint32)}
    variables = {"params": params, "extra": {}}
    look, draw = (jax.jit(task.predict_fns()[n]) for n in ("look", "generate"))
    found = look(variables, asked, rngs(task), frozen)
    rows, columns, _ = task.prior.grid
    assert found["attention"].shape == (COUNT, rows, columns, 24)
    np.testing.assert_allclose(
        found["attention"].sum(-1), np.ones((COUNT, rows, columns)), rtol=1e-5
    )
    unseen = ~np.asarray(batch["token_mask"])
    assert np.asarray(found["attention"]).max((1, 2))[unseen].max() == 0.0
    made_too = draw(variables, asked, rngs(task), frozen)
    np.testing.assert_array_equal(found["image"], made_too["image"])
