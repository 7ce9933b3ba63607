"""A prior's pictures with detail: whose, by which seeds, and of which runs."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.pipelines.model_changes import with_refiner
from gen_jax.runs.reader import TrainedModel
from tests.tasks import test_detail
from tests.tasks.test_art import COUNT, made


def trained(name, task, params, frozen):
    return TrainedModel(
        path=pathlib.Path(f"runs/{name}"),
        config=ml_collections.ConfigDict({"task": {"name": name}}),
        task=task,
        variables={"params": params, "extra": {}},
        frozen=frozen,
        step=1,
        digest="",
    )


@pytest.fixture
def runs():
    """A prior, and detail of the same VQ-VAE."""
    task, params, frozen, _ = made()
    own, learnt, _, _ = test_detail.made()
    own = dataclasses.replace(own, vqvae=task.vqvae)
    return trained("art", task, params, frozen), trained("detail", own, learnt, frozen)


def drawn(model, name, batch, seeds):
    asked = {k: batch[k] for k in ("tokens", "token_mask")} | {"seed": seeds}
    keys = {n: jax.random.key(i) for i, n in enumerate(model.task.rng_streams)}
    if name == "reconstruct":
        asked["image"] = batch["image"]
    run = jax.jit(getattr(model.task, f"_{name}"))
    made = run(model.variables, asked, keys, model.frozen)
    return {k: np.asarray(v) for k, v in made.items()}


@pytest.mark.parametrize("name", ["generate", "reconstruct", "random"])
def test_pictures_of_the_same_codes_get_detail(runs, name):
    *_, batch = made()
    seeds = jnp.arange(COUNT, dtype=jnp.uint32)
    plain, fine = (drawn(m, name, batch, seeds) for m in (runs[0], with_refiner(*runs)))
    if name != "random":
        np.testing.assert_array_equal(plain["codes"], fine["codes"])
    assert (plain["image"] != fine["image"]).any((1, 2, 3)).all()


def test_a_picture_with_detail_is_of_its_seed_and_text_alone(runs):
    *_, batch = made()
    model = with_refiner(*runs)
    whole = drawn(model, "generate", batch, jnp.asarray([5, 6, 7, 8], jnp.uint32))
    one = {k: v[2:3] for k, v in batch.items()}
    alone = drawn(model, "generate", one, jnp.asarray([7], jnp.uint32))
    assert np.abs(whole["image"][2:3].astype(int) - alone["image"]).max() <= 1


@pytest.mark.parametrize("what,words", [
    ("decoder", "was trained on another VQ-VAE"), ("codes", "was trained on another VQ-VAE"),
    ("detail", "expected a run of configs/detail.py"), ("art", "images of a run of configs/art"),
])  # fmt: skip
def test_runs_that_do_not_belong_together_are_named(runs, what, words):
    model, detail = runs
    if what == "decoder":
        vqvae = dict(detail.frozen["vqvae"])
        vqvae["params"] = {
            k: jax.tree.map(lambda p: p + 0.1, v) if k.startswith("decoder_") else v
            for k, v in vqvae["params"].items()
        }
        detail = dataclasses.replace(detail, frozen={"vqvae": vqvae})
    if what == "codes":
        quantizer = dataclasses.replace(detail.task.vqvae.quantizer, cosine=False)
        vqvae = dataclasses.replace(detail.task.vqvae, quantizer=quantizer)
        task = dataclasses.replace(detail.task, vqvae=vqvae)
        detail = dataclasses.replace(detail, task=task)
    if what == "detail":
        detail = model
    if what == "art":
        model = detail
    with pytest.raises(UserError, match=words):
        with_refiner(model, detail)
