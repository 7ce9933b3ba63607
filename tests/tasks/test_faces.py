"""The face stage: its feature space, its objectives, its mistakes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import faces, faces_text
from gen_jax import encoders
from gen_jax.common.errors import UserError
from gen_jax.data.features import codec
from gen_jax.tasks import build_task
from gen_jax.tasks.feature_space import FROZEN, FeatureSpace
from gen_jax.tasks.objectives.base import asked_of, fits
from gen_jax.tasks.objectives.drifting import joined
from gen_jax.tasks.objectives.paired import Paired
from tests.tasks.test_contract import filled

OBJECTIVES = ("drifting", "paired", "imle", "adversarial", "projected", "guided")
BATCH = 8


def config(which="drifting", **changes):
    return faces.get_config(f"debug,objective={which}").task.to_dict() | changes


@functools.cache
def tower():
    return {FROZEN: encoders.load("dino_tiny")[1]}


@functools.cache
def images():
    rng = np.random.default_rng(0)
    flat = rng.integers(40, 216, (BATCH, 4, 4, 3)).astype(np.float32)
    smooth = jax.image.resize(jnp.asarray(flat), (BATCH, 16, 16, 3), "cubic")
    return np.asarray(jnp.clip(smooth, 0, 255)).astype(np.uint8)


@functools.cache
def computed(features):
    return jax.jit(features.computed)(tower(), jnp.asarray(images()) / 127.5 - 1.0)


def batch_of(task):
    """Images, and their features as a loader gives them."""
    store = codec.Store.parse(task.features.store)
    out = {"image": jnp.asarray(images())}
    for name, x in computed(task.features).items():
        for ending, value in codec.encode(x, store).items():
            out[name + ("." + ending if ending else "")] = value
    return out


@functools.cache
def stage(objective):
    task = build_task(config(objective))
    params, extra = filled(task)
    extra = {**extra, **({"latent_covariance": jnp.eye(8)} if objective == "paired" else {})}
    return task, params, extra, batch_of(task)


def keys(task, seed=0):
    return {n: jax.random.key(seed + i) for i, n in enumerate(task.rng_streams)}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_teaches_every_parameter(objective):
    task, params, extra, batch = stage(objective)
    for group, loss_fn in task.losses().items():
        run = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
        (loss, (metrics, changed)), grads = run(
            params[group], params, extra, batch, keys(task), tower()
        )
        assert np.isfinite(loss) and all(np.isfinite(v) for v in metrics.values())
        assert set(changed) == set(extra), "a collection came or went"
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            assert np.isfinite(g).all() and np.abs(g).max() > 0, jax.tree_util.keystr(path)


def test_batch_is_what_a_loader_gives():
    task, _, _, batch = stage("drifting")
    spec = task.batch_spec()
    assert {k: (v.shape[1:], v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in spec.items()
    }
    stored = task.features.stored(batch)
    for name, x in stored.items():
        assert codec.cosine(x, computed(task.features)[name]).min() > 0.999


def test_gray_images_have_the_features_of_their_copies():
    space = FeatureSpace(layers="0", grids=(2,))
    gray = jnp.asarray(images()[..., :1]) / 127.5 - 1.0
    run = jax.jit(space.computed)
    one, three = run(tower(), gray), run(tower(), gray.repeat(3, -1))
    for name in one:
        np.testing.assert_allclose(one[name], three[name], atol=1e-4)


def test_drifting_pulls_several_real_images_for_each_generated():
    task, params, extra, batch = stage("drifting")
    seen = []

    def make(params, z, key, prompts=None):
        seen.append(z.shape)
        return jnp.zeros((len(z), 16, 16, 3))

    @jax.jit
    def told(p):
        scene = task._scene(batch, params, extra, keys(task), tower())
        object.__setattr__(scene, "make", make)
        return task.objective.loss(scene, p)[1]

    metrics = told(params["model"])
    assert seen == [(BATCH // task.objective.real_per_generated, 8)]
    kinds = ("local", "pooled", "global", "pixel", "joint")
    assert set(metrics) == {"force", *(f"force_{kind}" for kind in kinds)}


def test_a_bank_of_earlier_images_attracts_as_a_larger_batch_does():
    how = dict(name="drifting", real_per_generated=1, memory_bank_size=6)
    task, large = (
        build_task(config(objective=how)),
        build_task(config(objective={**how, "memory_bank_size": 0})),
    )
    params, extra = filled(task)
    extra = jax.tree.map(jnp.zeros_like, extra)
    batch = batch_of(task)
    noise = jax.random.uniform(jax.random.key(0), (4, 16, 16, 1))
    fixed = jax.jit(task.features.computed)(tower(), noise)

    def run(task, rows, extra):
        @jax.jit
        def loss(part, extra):
            scene = task._scene(part, params, extra, keys(task), tower())
            return task.objective.of_images(scene, noise.repeat(3, -1), fixed)

        return loss({k: v[rows] for k, v in batch.items()}, extra)

    first, _, filled_once = run(task, slice(0, 4), extra)
    alone, _, _ = run(large, slice(0, 4), {})
    np.testing.assert_allclose(first, alone, rtol=1e-4)  # an empty bank does not count
    assert filled_once["bank_images"] == 4
    second, _, filled_twice = run(task, slice(4, 8), {**extra, **filled_once})
    whole, _, _ = run(large, jnp.array([4, 5, 6, 7, 0, 1, 2, 3]), {})
    np.testing.assert_allclose(second, whole, rtol=1e-4)
    assert filled_twice["bank_images"] == 6  # the oldest leave
    kept = jax.tree.leaves(filled_twice["bank"])
    assert all(leaf.shape[1] == 6 for leaf in kept)


def test_the_gaussian_prior_has_the_moments_of_the_latents():
    z = jax.random.normal(jax.random.key(0), (4000, 3)) @ jnp.array(
        [[2.0, 0, 0], [1, 1, 0], [0, 0, 0.1]]
    )
    z = z + jnp.array([1.0, 2, 3])[None]
    how, extra = (
        Paired(momentum=0.9, prior="gaussian"),
        {
            "latent_mean": jnp.zeros(3),
            "latent_covariance": jnp.eye(3),
            "latent_updates": jnp.zeros((), jnp.int32),
        },
    )
    for part in jnp.split(z, 20):
        extra = how._moments(extra, part)
    drawn = how.draw({"extra": extra}, jax.random.normal(jax.random.key(1), (4000, 3)))
    np.testing.assert_allclose(drawn.mean(0), z.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(z.T), atol=0.5)
    normal = jax.random.normal(jax.random.key(1), (4, 3))
    np.testing.assert_array_equal(Paired(prior="none").draw({"extra": extra}, normal), normal)


def test_imle_chooses_samples_that_are_nearer_than_chance():
    task, params, extra, batch = stage("imle")

    def told(task):
        def loss(p):
            scene = task._scene(batch, params, extra, keys(task), tower())
            return task.objective.loss(scene, p)[1]

        return jax.jit(loss)(params["model"])

    one = build_task(config("imle", objective=dict(name="imle", samples_per_image=1)))
    metrics, alone = told(task), told(one)
    assert metrics["distance"] < alone["distance"]
    assert 1 / BATCH <= metrics["distinct"] <= 1


@pytest.mark.parametrize("objective", ["drifting", "paired"])
def test_a_picture_depends_on_its_seed_alone(objective):
    task, params, extra, _ = stage(objective)
    variables = {"params": params, "extra": extra}
    generate = jax.jit(task.predict_fns()["generate"])
    seeds = jnp.array([5, 6, 7], jnp.uint32)
    whole = generate(variables, {"seed": seeds}, keys(task), {})["image"]
    alone = generate(variables, {"seed": seeds[1:2]}, keys(task, 9), {})["image"]
    assert np.abs(np.int32(whole[1]) - np.int32(alone[0])).max() <= 1
    assert np.abs(np.int32(whole[0]) - np.int32(whole[1])).max() > 1


def test_a_new_block_fades_in_by_updates():
    task = build_task(config(fade_steps=10))
    params, extra = filled(task)
    batch, z = batch_of(task), jnp.ones((2, 8))
    made = []

    @jax.jit
    def draw(p, updates):
        scene = task._scene(batch, params, {**extra, "updates": updates}, {}, {})
        return scene.make(p, z, jax.random.key(0))

    for updates in (0, 5, 10, 20):
        made.append(draw(params["model"], jnp.int32(updates)))
    np.testing.assert_allclose(made[1], (made[0] + made[2]) / 2, atol=1e-4)
    np.testing.assert_array_equal(made[2], made[3])
    assert np.abs(made[0] - made[2]).max() > 1e-3
    # What is sampled on the way is what is trained on the way.
    seed = {"seed": jnp.arange(2, dtype=jnp.uint32)}
    generate = jax.jit(task._generate)
    drawn = [
        np.int32(
            generate({"params": params, "extra": {"updates": jnp.int32(n)}}, seed, {}, {})["image"]
        )
        for n in (0, 10, 20)
    ]
    np.testing.assert_array_equal(drawn[1], drawn[2])
    assert np.abs(drawn[0] - drawn[1]).max() > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(image_size=32), "block_out_channels"),
        (dict(objective=dict(name="magic")), "objective.name"),
        (dict(objective=dict(name="paired", prior="magic")), "prior"),
        (dict(objective=dict(name="imle", samples_per_image=0)), "samples_per_image=0"),
        (dict(objective=dict(name="adversarial", discriminator="magic")), "discriminator"),
        (dict(features=dict(store="pca64-int8")), "store"),
        (dict(features=dict(encoder="dino_huge")), "dino_huge"),
        (dict(perceptual="multiscale_gradient", perceptual_weight=0.1), "only paired and imle"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        build_task(config(**changes)).batch_spec()


def test_as_one_vector_every_feature_weighs_the_same():
    real = {
        "local": {"fine": 100.0 * jax.random.normal(jax.random.key(0), (4, 6, 3)) + 7.0},
        "global": {"class": 0.01 * jax.random.normal(jax.random.key(1), (1, 6, 5))},
        "pixel": {"pixel": jax.random.normal(jax.random.key(2), (1, 6, 2))},
    }
    fake = jax.tree.map(lambda x: x[:, :2], real)
    there = jnp.arange(6) < 4
    for mask, count in ((None, 6), (there, 4)):
        x, y = joined(fake, real, mask)
        assert x.shape == (1, 2, 19) and y.shape == (1, 6, 19)
        np.testing.assert_array_equal(x, y[:, :2])
        spread = jnp.var(y[0, :count], 0)
        for part in (spread[:12], spread[12:17], spread[17:]):
            assert part.sum() == pytest.approx(1.0, rel=1e-3)


# All that "objective=adversarial" computes, "objective=guided" computes as well.
HEARING = ("objective=drifting", "objective=guided", "text=cross")


@functools.cache
def hearing(how):
    values = faces_text.get_config(f"debug,{how}").task.to_dict()
    task = build_task(values)
    params, extra = filled(task)
    batch = batch_of(task)
    rng = np.random.default_rng(0)
    length = task.text_encoder.max_length
    batch["tokens"] = jnp.asarray(rng.integers(3, 200, (BATCH, length)).astype(np.int32))
    batch["token_mask"] = jnp.arange(length)[None] < jnp.arange(3, 3 + BATCH)[:, None]
    facts = rng.integers(0, 2, (BATCH, 3)).astype(np.int8)
    batch["facts"] = jnp.asarray(facts)
    batch["asked"] = jnp.asarray(np.where(rng.random((BATCH, 3)) < 0.5, facts, -1).astype(np.int8))
    return task, params, extra, batch


@pytest.mark.parametrize("how", HEARING)
def test_text_is_learnt_by_every_parameter(how):
    task, params, extra, batch = hearing(how)
    assert {k: (v.shape[1:], v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in task.batch_spec().items()
    }
    # Many real images for few samples, so that some share a sentence.
    many = jax.tree.map(lambda v: jnp.concatenate([v, v]), batch)
    for group, loss_fn in task.losses().items():
        run = jax.jit(jax.grad(loss_fn, has_aux=True))
        grads, (metrics, _) = run(params[group], params, extra, many, keys(task), tower())
        assert all(np.isfinite(v) for v in metrics.values())
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            assert np.isfinite(g).all() and np.abs(g).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize("how", ["objective=drifting", "text=cross"])
def test_a_picture_is_its_seed_and_its_sentence(how):
    task, params, extra, batch = hearing(how)
    variables = {"params": params, "extra": extra}
    generate = jax.jit(task.predict_fns()["generate"])

    def draw(**more):
        rows = {"seed": jnp.array([3, 3, 4], jnp.uint32), **more}
        return np.int32(generate(variables, rows, {}, {})["image"])

    said = {k: batch[k][jnp.array([0, 1, 0])] for k in ("tokens", "token_mask")}
    made, silent = draw(**said), draw()
    assert np.abs(made[0] - made[1]).max() > 1 and np.abs(made[0] - made[2]).max() > 1
    assert np.abs(silent[0] - silent[1]).max() <= 1 < np.abs(silent[0] - made[0]).max()
    alone = generate(
        variables,
        {"seed": jnp.array([3], jnp.uint32), **{k: v[1:2] for k, v in said.items()}},
        {},
        {},
    )["image"]
    assert np.abs(made[1] - np.int32(alone[0])).max() <= 1
    if task.generator.text == "latent":
        one, none = (draw(**said, guidance=jnp.full(3, g, jnp.float32)) for g in (1.0, 0.0))
        assert np.abs(one - made).max() <= 1 and np.abs(none - silent).max() <= 1
    mean = draw(**said, truncation=jnp.zeros(3))
    if task.generator.text == "latent":  # each sentence has a mean of its own
        assert np.abs(mean[0] - mean[1]).max() > 1
    assert np.abs(draw(**said, truncation=jnp.ones(3)) - made).max() <= 1


def test_real_faces_attract_what_was_asked_to_be_like_them():
    facts = jnp.array([[0, 1, -1], [1, 1, 0], [0, -1, 0]], jnp.int8)
    asked = jnp.array([[-1, -1, -1], [0, -1, -1], [0, 1, -1], [-1, -1, 1]], jnp.int8)
    np.testing.assert_array_equal(fits(asked, facts), [[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0]])
    found = asked_of({"asked": asked}, 6, 3)
    np.testing.assert_array_equal(found, asked[jnp.array([0, 0, 1, 1, 2, 2])])
    # Samples that are asked for the same and more are of the kind, not the other way round.
    np.testing.assert_array_equal(
        fits(asked, asked), [[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )


def test_a_dropped_sentence_is_empty_and_asks_for_nothing():
    task, *_, batch = hearing("objective=drifting")
    for share in (0.0, 1.0):
        changed = dataclasses.replace(task, text_dropout_prob=share)
        left = changed._scene(batch, {}, {}, keys(task), {}).batch  # what losses see
        if share:
            assert (left["asked"] == -1).all() and (left["token_mask"].sum(1) == 2).all()
        else:
            assert all((left[k] == batch[k]).all() for k in ("asked", "tokens", "token_mask"))
        assert (left["facts"] == batch["facts"]).all()
    many = {k: v[:1].repeat(4096, 0) for k, v in batch.items()}
    assert 0.08 < (task._with_dropped_text(many, keys(task))["asked"] == -1).all(1).mean() < 0.12


def test_a_bank_keeps_what_is_known_of_its_images():
    task, *_, batch = hearing("objective=drifting")
    objective = dataclasses.replace(task.objective, memory_bank_size=12, samples_per_prompt=2)
    task = dataclasses.replace(task, objective=objective)
    params, extra = filled(task)
    extra = {**jax.tree.map(jnp.zeros_like, extra), "bank_facts": extra["bank_facts"] * 0 - 1}
    many = jax.tree.map(lambda v: jnp.concatenate([v, v]), batch)
    loss = jax.jit(task.losses()["model"])
    _, (_, once) = loss(params["model"], params, extra, many, keys(task), tower())
    np.testing.assert_array_equal(once["bank_facts"], many["facts"][:12])
    _, (metrics, _) = loss(params["model"], params, once, many, keys(task, 1), tower())
    assert np.isfinite(metrics["model/force"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(objective=dict(name="paired")), "with a text_encoder expected drifting"),
        (dict(objective=dict(name="adversarial", discriminator="projected")), "discriminator"),
        (dict(generator=dict(block_out_channels=(8, 8, 8))), "generator.text"),
        (dict(text_encoder=dict(name="magic")), "text_encoder.name"),
    ],
)
def test_mistakes_of_text_are_named(changes, message):
    values = faces_text.get_config("debug").task.to_dict()
    with pytest.raises(UserError, match=message):
        build_task(values | changes)


def test_groups_of_a_sentence_must_come_out_even():
    task, params, extra, batch = hearing("objective=drifting")
    odd = dataclasses.replace(
        task, objective=dataclasses.replace(task.objective, samples_per_prompt=1)
    )
    with pytest.raises(UserError, match="samples_per_prompt=1"):
        odd.losses()["model"](params["model"], params, extra, batch, keys(task), tower())
