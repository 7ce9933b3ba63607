"""Styles: what passes the noisy channel, who teaches whom, and what a prior makes of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import art
from gen_jax.common.errors import UserError
from gen_jax.tasks import build_task
from gen_jax.tasks.style import Style
from tests.moved import moved
from tests.tasks import test_art
from tests.tasks.test_art import COUNT, loss_of, rngs

SMALL = {"encoder": {"dim": 6, "hidden": 8}, "flow": {"hidden": 32, "num_layers": 2}, "noise": 0.5}


@functools.cache
def made(arg="debug,style"):
    """As of `test_art`, the style's parameters nowhere zero, either."""
    task, params, frozen, batch = test_art.made(arg)
    style = moved(params["model"]["style"], 0.2)
    return task, {"model": {**params["model"], "style": style}}, frozen, batch


def test_a_style_is_a_point_on_a_sphere_and_noise():
    style = Style.from_config(SMALL)
    z = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    params = jax.jit(style.init)(jax.random.key(1), z, jnp.zeros((1, 5)))
    keys = jax.random.split(jax.random.key(2), 4096)
    many = jax.jit(style.of)(params, jnp.tile(z, (4096, 1, 1, 1)), keys)
    np.testing.assert_allclose(np.asarray(many).std(0), 0.5, rtol=0.05)
    np.testing.assert_allclose(np.square(np.asarray(many).mean(0)).mean(), 1.0, rtol=0.05)


def test_the_flow_learns_which_styles_go_with_which_text():
    style = Style.from_config(SMALL)
    params = jax.jit(style.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 1)))
    optimizer = optax.adam(3e-3)

    def batch_of(key):
        text = jnp.sign(jax.random.normal(key, (128, 1)))
        return 2.0 * text + 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (128, 6)), text

    @jax.jit
    def step(carry, key):
        params, state = carry
        x, text = batch_of(key)
        grads = jax.grad(style.loss)(params, x, text, key)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(1), 600)
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    text = jnp.asarray([[1.0], [-1.0]] * 32)
    drawn = jax.jit(style.draw)(params, text, jax.random.split(jax.random.key(2), 64))
    np.testing.assert_allclose(drawn, 2.0 * jnp.tile(text, (1, 6)), atol=1.0)
    assert np.abs(np.asarray(drawn - 2.0 * jnp.tile(text, (1, 6)))).mean() < 0.25


def test_the_flow_teaches_the_encoder_nothing_and_the_prior_does():
    task, params, frozen, batch = made()

    def terms(style):
        metrics = loss_of(task, params, frozen, batch)({**params["model"], "style": style})[1][0]
        return jnp.stack([metrics["model/style"], metrics["model/prior_nll"]])

    slopes = jax.jit(jax.jacrev(terms))(params["model"]["style"])

    def most(part):
        """The largest gradient of the flow's loss and of the prior's."""
        return np.max([np.abs(g).reshape(2, -1).max(1) for g in jax.tree.leaves(part)], 0)

    np.testing.assert_array_equal(most(slopes["encoder"]) > 0, [False, True])
    np.testing.assert_array_equal(most(slopes["flow"]) > 0, [True, False])


def test_styles_are_left_out_where_the_text_is_and_now_and_then_besides():
    task, params, frozen, _ = made()
    task = dataclasses.replace(
        task, text_dropout_prob=0.3, style=dataclasses.replace(task.style, dropout_prob=0.25)
    )
    many = 2048
    told = {
        "text": jnp.zeros((many, 3, task.text_encoder.hidden_size)),
        "mask": jnp.ones((many, 3), bool),
    }
    grid = jnp.zeros((many, *task.prior.grid), jnp.int32)
    keys = rngs(task)
    learn = jax.jit(lambda p: task._learn_style(p, grid, told, frozen, keys)[1])
    style = learn(params["model"])
    out = np.asarray(style == 0.0).all(-1)
    without = np.asarray(task._dropped(many, keys))
    assert out[without].all()
    assert out[~without].mean() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("arg", ["debug,style", "debug,style,prior=ordered"])
def test_a_sample_is_of_its_seed_text_and_style_alone(arg):
    task, params, frozen, batch = made(arg)
    variables = {"params": params, "extra": {}}
    asked = {k: batch[k] for k in ("tokens", "token_mask")}
    asked["seed"] = jnp.asarray([5, 6, 7, 5], jnp.uint32)
    draw = jax.jit(lambda b: task._generate(variables, b, {}, frozen)["codes"])
    whole = np.asarray(draw(asked))
    # At another place, among other seeds and texts.
    order = jnp.asarray([2, 2, 2, 1])
    moved = draw({k: v[order] for k, v in asked.items()})
    np.testing.assert_array_equal(whole[1], moved[3])
    given = np.asarray(draw({**asked, "like": batch["image"]}))
    assert (given != whole).any((1, 2, 3)).all(), "the style is not heard"
    again = np.asarray(draw({**asked, "like": batch["image"][::-1]}))
    assert (given != again).any((1, 2, 3)).all(), "any style does the same"
    moved = draw({k: v[order] for k, v in {**asked, "like": batch["image"]}.items()})
    np.testing.assert_array_equal(given[1], moved[3])


def test_the_style_drawn_is_that_of_the_text():
    task, params, frozen, batch = made()
    keys = jax.random.split(jax.random.key(0), COUNT)
    asked = {k: batch[k] for k in ("tokens", "token_mask")}
    styled = jax.jit(lambda p, asked: task.with_style(p, asked, frozen, keys)["style"])
    mine = styled(params["model"], asked)
    theirs = styled(params["model"], {k: v[::-1] for k, v in asked.items()})
    assert np.abs(np.asarray(mine - theirs)).max(-1).min() > 1e-3
    np.testing.assert_array_equal(styled(params["model"], {**asked, "style": mine}), mine)


def test_styles_hear_the_guidance_of_codes_or_none():
    task, params, frozen, batch = made()
    keys = jax.random.split(jax.random.key(0), COUNT)
    asked = {k: batch[k] for k in ("tokens", "token_mask")}

    def styles(batch, **changes):
        mine = dataclasses.replace(task, **changes)
        styled = jax.jit(lambda p, asked: mine.with_style(p, asked, frozen, keys)["style"])
        return np.asarray(styled(params["model"], batch))

    plain, guided = styles(asked, guidance_scale=1.0), styles(asked, guidance_scale=3.0)
    assert np.abs(plain - guided).max(-1).min() > 1e-3
    each = {**asked, "guidance": jnp.asarray([3.0, 1.0] * (COUNT // 2))}
    found = styles(each, guidance_scale=1.0)
    np.testing.assert_allclose(found[::2], guided[::2], atol=1e-5)
    np.testing.assert_allclose(found[1::2], plain[1::2], atol=1e-5)
    none = styles({}, guidance_scale=1.0)
    np.testing.assert_allclose(styles({}, guidance_scale=3.0), none, atol=1e-5)


def test_a_key_that_does_not_fit_is_named():
    config = art.get_config("debug,style")
    vqvae = {"vqvae": build_task(config.requires.vqvae.task.to_dict())}
    for change, words in (
        ({"x": 1}, r"config\.task\.style"),
        ({"encoder": {"x": 1}}, r"style\.encoder"),
        ({"noise": -0.1}, r"config\.task\.style\.noise=-0\.1"),
        ({"dropout_prob": 1.0}, r"config\.task\.style\.dropout_prob=1\.0"),
    ):
        values = config.task.to_dict()
        values["style"] = {**values["style"], **change}
        with pytest.raises(UserError, match=words):
            build_task(values, vqvae)
