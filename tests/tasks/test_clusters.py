"""Clusters that are found along the way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.tasks import build_task
from gen_jax.tasks.objectives import clusters
from tests.tasks.test_contract import filled
from tests.tasks.test_faces import BATCH, batch_of, config, hearing, keys, tower

MIDDLES = np.array([[0, 0], [8, 0], [0, 8], [8, 8]], np.float32)
SHARES = (0.4, 0.3, 0.2, 0.1)


def blobs(seed, count=200):
    rng = np.random.default_rng(seed)
    of = rng.choice(4, count, p=SHARES)
    return jnp.asarray(MIDDLES[of] + rng.normal(size=(count, 2)).astype(np.float32)), of


def followed(steps=60):
    state = clusters.empty(4, 2)
    for step in range(steps):
        rows, _ = blobs(step)
        state = clusters.started(state, rows)
        state = clusters.moved(state, rows, clusters.labels_of(state, rows))
    return state


def test_clusters_are_found_with_their_sizes():
    state = followed()
    far = np.linalg.norm(MIDDLES[:, None] - np.asarray(state["cluster_means"])[None], axis=-1)
    assert far.min(1).max() < 0.5, "a middle without a cluster"
    order = far.argmin(1)
    np.testing.assert_allclose(state["cluster_sizes"][order], SHARES, atol=0.07)
    assert state["cluster_sizes"].sum() == pytest.approx(1.0, abs=1e-5)


def test_a_cluster_that_nobody_is_of_begins_anew():
    rows, _ = blobs(0)
    state = {
        "cluster_means": jnp.array([[0.0, 0], [8, 0], [0, 8], [1e3, 1e3]]),
        "cluster_sizes": jnp.array([0.33, 0.33, 0.33, 0.01]),
    }
    state = clusters.moved(state, rows, clusters.labels_of(state, rows))
    assert np.linalg.norm(state["cluster_means"][3] - MIDDLES[3]) < 4


def test_latents_are_of_clusters_as_often_as_images_are():
    z = jax.random.normal(jax.random.key(0), (5000, 3))
    of = clusters.drawn(jnp.array([0.7, 0.0, 0.3]), z)
    np.testing.assert_allclose(np.bincount(of, minlength=3) / 5000, [0.7, 0, 0.3], atol=0.03)
    assert np.abs(np.corrcoef(of, z[:, 1])[0, 1]) < 0.05


def test_drifting_by_clusters_teaches_their_latents():
    how = dict(
        name="drifting",
        real_per_generated=2,
        samples_per_prompt=2,
        num_clusters=3,
        memory_bank_size=5,
    )
    task = build_task(config(objective=how))
    params, extra = filled(task)
    extra = jax.tree.map(jnp.zeros_like, extra)
    batch = batch_of(task)
    loss = jax.jit(jax.value_and_grad(task.losses()["model"], has_aux=True))
    for step in range(3):
        (value, (_, extra)), grads = loss(
            params["model"], params, extra, batch, keys(task, step), tower()
        )
        assert np.isfinite(value)
    assert extra["cluster_sizes"].sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(grads["clusters"]).max() > 0
    seeds = {"seed": jnp.arange(4, dtype=jnp.uint32)}
    variables = {"params": params, "extra": extra}
    draw = jax.jit(task.predict_fns()["generate"])
    made = np.int32(draw(variables, seeds, {}, {})["image"])
    one = {**params["model"], "clusters": params["model"]["clusters"] + 5.0}
    other = draw({**variables, "params": {**params, "model": one}}, seeds, {}, {})["image"]
    assert np.abs(made - np.int32(other)).max() > 1


def test_real_images_of_other_clusters_do_not_count():
    how = dict(name="drifting", real_per_generated=2, samples_per_prompt=2, num_clusters=2)
    task = build_task(config(objective=how))
    params, extra = filled(task)
    batch = batch_of(task)
    scene = task._scene(batch, params, extra, keys(task), tower())
    objective, images = task.objective, scene.real[:2] * 0.5
    rows = objective._sets(scene.features.stored(batch), scene.real)["global"]
    rows = jnp.concatenate([x[0] for x in rows.values()], -1)
    known = {"cluster_means": rows[:2], "cluster_sizes": jnp.full((2,), 0.5)}
    of_real = np.asarray(clusters.labels_of(known, rows))
    assert 0 < of_real.sum() < BATCH
    others = np.flatnonzero(of_real)
    assert len(others) > 1
    # The same with one of the other cluster's images in place of all of them.
    batch = jax.tree.map(lambda v: v.at[others].set(v[others[0]]), batch)
    swapped = task._scene(batch, params, extra, keys(task), tower())
    # Of all features as one vector the scales are of all images, whoever attracts.
    alone = dataclasses.replace(objective, joint_weight=0.0)
    fake, labels = jax.jit(task.features.computed)(tower(), images), jnp.array([0, 0])

    def losses(*more):
        def of(scene):
            return jax.jit(lambda x: alone.of_images(scene, x, fake, 1, *more)[0])(images)

        return of(scene), of(swapped)

    a, b = losses(known, labels)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    a, b = losses()
    assert abs(a - b) > 1e-3 * abs(a)


def test_sentences_and_clusters_do_not_go_together():
    task, *_, batch = hearing("objective=drifting")
    odd = dataclasses.replace(task, objective=dataclasses.replace(task.objective, num_clusters=2))
    with pytest.raises(UserError, match="num_clusters: expected 0"):
        odd.init(jax.random.key(0), batch)
