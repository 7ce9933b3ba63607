"""Sampling away from a weaker prior: by how much, for both kinds of prior, and of which runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.pipelines.model_changes import guided_by
from tests.tasks.test_art import COUNT, made

BOTH = pytest.mark.parametrize("arg", ["debug", "debug,prior=ordered"])


def asked(batch):
    found = {k: batch[k] for k in ("tokens", "token_mask")}
    return {**found, "seed": jnp.arange(COUNT, dtype=jnp.uint32)}


def codes(model, batch):
    draw = jax.jit(lambda b: model.task._generate(model.variables, b, {}, model.frozen)["codes"])
    return np.asarray(draw(asked(batch)))


def of_masked(model, given):
    params = model.variables["params"]["model"]
    return jax.jit(lambda ids: model.task.logits_fn(params, given, model.frozen)(ids))


def logits(model, batch, ids):
    """Of a masked prior's step, or of an ordered one's first two."""
    params = model.variables["params"]["model"]
    if not model.task.prior.is_causal:
        return of_masked(model, asked(batch))(ids)

    @jax.jit
    def two(ids):
        step, cache = model.task.step_fn(params, asked(batch), model.frozen)
        first, cache = step(ids[:, 0], jnp.int32(0), cache)
        second, _ = step(ids[:, 1], jnp.int32(1), cache)
        return jnp.stack([first, second], 1)

    return two(ids)


@BOTH
def test_logits_are_taken_so_far_from_the_guides(runs, arg):
    *_, batch = made(arg)
    # A guide that has guidance by text of its own does without.
    model, weak = runs(arg), runs(arg, noise=0.3, guidance_scale=5.0)
    plain = dataclasses.replace(weak, task=dataclasses.replace(weak.task, guidance_scale=1.0))
    ids = jnp.asarray(np.random.default_rng(1).integers(0, 32, (COUNT, 16)), jnp.int32)
    mine, theirs = (logits(m, batch, ids) for m in (model, plain))
    assert np.abs(np.asarray(mine - theirs)).max() > 0.1
    got = logits(guided_by(model, weak, 3.0), batch, ids)
    np.testing.assert_allclose(got, theirs + 3.0 * (mine - theirs), rtol=1e-4, atol=1e-4)


def test_a_guide_is_told_of_no_style(runs):
    *_, batch = made("debug,style")
    model, weak = runs("debug,style"), runs("debug,style", noise=0.3, guidance_scale=1.0)
    ids = jnp.asarray(np.random.default_rng(1).integers(0, 32, (COUNT, 16)), jnp.int32)
    style = jnp.asarray(np.random.default_rng(2).standard_normal((COUNT, 16)), jnp.float32)
    given = {**asked(batch), "style": style}
    have = of_masked(guided_by(model, weak, 3.0), given)(ids)
    mine, theirs = of_masked(model, given)(ids), of_masked(weak, asked(batch))(ids)
    assert np.abs(np.asarray(of_masked(weak, given)(ids) - theirs)).max() > 0.1
    np.testing.assert_allclose(have, theirs + 3.0 * (mine - theirs), rtol=1e-4, atol=1e-4)


@BOTH
def test_a_scale_of_one_changes_nothing_and_another_does(runs, arg):
    *_, batch = made(arg)
    model, weak = runs(arg), runs(arg, noise=0.3)
    plain = codes(model, batch)
    np.testing.assert_array_equal(codes(guided_by(model, weak, 1.0), batch), plain)
    assert (codes(guided_by(model, weak, 2.0), batch) != plain).any()


def test_a_guide_may_have_another_decoder_and_rounded_weights(runs):
    frozen = made()[2]
    rounded = jax.tree.map(
        lambda p: p.astype(jnp.float16).astype(p.dtype) if p.dtype == jnp.float32 else p, frozen
    )
    vqvae = rounded["vqvae"]
    vqvae["params"] = {
        k: jax.tree.map(lambda p: p + 1.0, v) if k.startswith("decoder_") else v
        for k, v in vqvae["params"].items()
    }
    guided_by(runs(), runs(frozen=rounded))


@pytest.mark.parametrize(
    "what,words",
    [
        ("ordered", "one of the priors is masked"),
        ("codebook", "codes are not those of"),
        ("encoder", "codes are not those of"),
        ("words", "its tokens are not those of"),
        ("kind", "needs runs of configs/art.py"),
        ("scale", "guiding_scale=-1"),
    ],
)
def test_runs_that_do_not_belong_together_are_named(runs, what, words):
    model, frozen, scale = runs(), made()[2], 2.0
    guide = runs("debug,prior=ordered") if what == "ordered" else runs()
    vqvae = dict(frozen["vqvae"])
    if what == "codebook":
        vqvae["codebook"] = jax.tree.map(lambda p: p + 1, vqvae["codebook"])
        guide = runs(frozen={"vqvae": vqvae})
    if what == "encoder":
        vqvae["params"] = {
            k: jax.tree.map(lambda p: p + 0.1, v) if k == "patch_in" else v
            for k, v in vqvae["params"].items()
        }
        guide = runs(frozen={"vqvae": vqvae})
    if what == "words":
        guide = runs(words=("bright red", "red and bright"))
    if what == "kind":
        guide = dataclasses.replace(guide, task=guide.task.vqvae)
    if what == "scale":
        scale = -1.0
    with pytest.raises(UserError, match=words):
        guided_by(model, guide, scale)
