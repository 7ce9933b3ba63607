"""Objectives of domain heads; the contract tests train the segmentation one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import heads
from gen_jax.common.errors import UserError
from gen_jax.losses import overlap
from gen_jax.tasks import build_task
from gen_jax.tasks.head_objectives import HEADS, landmarks, plates
from gen_jax.tasks.head_objectives.base import HeadObjective
from gen_jax.tasks.head_objectives.segmentation import Segmentation
from tests.tasks.test_contract import filled, made_batch


def made_task(head):
    return build_task(heads.get_config(f"head={head},debug").task.to_dict())


def test_every_head_has_a_recipe():
    assert set(heads.RECIPES) == set(HEADS)


# The contract tests train the first one.
@pytest.mark.parametrize("head", sorted(set(HEADS) - {"segmentation"}))
def test_a_step_has_gradients_for_every_parameter_and_lowers_the_loss(head):
    task = made_task(head)
    assert isinstance(task.head, HeadObjective)
    params, extra = filled(task)
    batch = jax.tree.map(jnp.asarray, made_batch(task.batch_spec()))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        loss = task.losses()["model"]
        grad = jax.value_and_grad(loss, has_aux=True)
        (value, _), grads = grad(params, {"model": params}, extra, batch, {}, {})
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value, grads

    model, state, losses = params["model"], optimizer.init(params["model"]), []
    for _ in range(8):
        model, state, value, grads = step(model, state)
        losses.append(float(value))
    assert losses[-1] < losses[0]
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, path


def test_maps_have_the_size_of_their_image_and_are_cut_to_it():
    task = made_task("segmentation")
    params, extra = filled(task)
    image = np.random.default_rng(0).integers(0, 256, (2, 21, 37, 3)).astype(np.uint8)
    read = task.predict_fns()["read"]
    out = jax.jit(read)({"params": params, "extra": extra}, {"image": image}, {}, {})
    assert out["mask"].shape == out["confidence"].shape == (2, 21, 37)
    one = {k: np.asarray(v[0]) for k, v in out.items()}
    assert task.head.describe(one, (20, 30))["mask"].shape == (20, 30)


def test_overlap_losses_ignore_what_is_ignored():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    target = np.random.default_rng(0).integers(0, 3, (2, 4, 5))
    valid = np.ones(target.shape, bool)
    valid[0] = False
    p = np.asarray(jax.nn.softmax(logits))[1].reshape(-1, 3)
    labels = target[1].ravel()
    want = -np.log(p[np.arange(20), labels]).mean()
    got = overlap.cross_entropy(logits, jnp.asarray(target), jnp.asarray(valid))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    one_hot = np.eye(3)[labels]
    dice = (2 * (p * one_hot).sum(0) + 1) / ((p + one_hot).sum(0) + 1)
    got = overlap.soft_dice(logits, jnp.asarray(target), jnp.asarray(valid))
    np.testing.assert_allclose(got, 1 - dice.mean(), rtol=1e-5)
    none = overlap.cross_entropy(logits, jnp.asarray(target), jnp.zeros(target.shape, bool))
    assert float(none) == 0.0


def test_ctc_is_the_sum_over_all_alignments():
    logits = jax.random.normal(jax.random.key(1), (1, 4, plates.CLASSES)) * 2
    p = np.asarray(jax.nn.softmax(logits))[0]
    symbols = (0, 1, 2)
    total = {}
    for path in itertools.product(symbols, repeat=4):
        kept = [c for i, c in enumerate(path) if c and (i == 0 or c != path[i - 1])]
        total[tuple(kept)] = total.get(tuple(kept), 0) + np.prod(p[range(4), path])
    for text in ((1,), (1, 2), (1, 1), (2, 1, 2)):
        padded = np.zeros((1, plates.MAX_LENGTH), np.int32)
        padded[0, : len(text)] = text
        np.testing.assert_allclose(
            plates.ctc(logits, jnp.asarray(padded))[0], -np.log(total[text]), rtol=1e-4
        )


def test_the_best_path_drops_repeats_and_blanks():
    path = [3, 3, 0, 3, 5, 5, 0, 0, 7, 0]
    logits = 9.0 * jax.nn.one_hot(jnp.asarray([path]), plates.CLASSES)
    text = plates.best_path(logits)
    np.testing.assert_array_equal(text[0], [3, 3, 5, 7] + [0] * 6)
    head = plates.Plates()
    read = {k: np.asarray(v[0]) for k, v in head.predict(logits, (16, 40)).items()}
    assert head.describe(read, (16, 40))["text"] == "2246"
    assert 0.9 < float(read["confidence"]) <= 1.0


def test_a_heatmap_is_read_between_its_cells():
    truth = jnp.asarray([[[0.40, 0.55], [0.61, 0.30]]])
    head = landmarks.Landmarks(points=2)
    logits = head._target_logits((24, 32), truth)
    heatmaps = logits.swapaxes(1, 2).reshape(1, 24, 32, 2)
    np.testing.assert_allclose(landmarks.expected(heatmaps), truth, atol=1e-3)
    loss, terms = head.loss(heatmaps, {"points": truth})
    far, _ = head.loss(heatmaps, {"points": truth + 0.1})
    assert float(terms["distance"]) < 0.05 and float(far) > float(loss) + 2
    outside, _ = head.loss(heatmaps, {"points": truth.at[0, 0].set(1.2)})
    assert float(outside) < float(loss) + 0.5
    read = {k: np.asarray(v[0]) for k, v in head.predict(heatmaps, (48, 64)).items()}
    points = head.describe(read, (100, 200))["points"]
    np.testing.assert_allclose(points, np.asarray(truth[0]) * [200, 100], atol=0.3)


def test_mistakes_in_a_config_are_one_line():
    config = heads.get_config("debug").task.to_dict()
    for change, message in (
        ({"head": {"name": "tooth"}}, "config.task.head.name='tooth': expected one of"),
        ({"head": {"name": "segmentation", "classes": 1}}, "config.task.head.classes=1: expected"),
        ({"trunk": {"depth": 3}}, "config.task.trunk: unknown key 'depth'"),
    ):
        with pytest.raises(UserError, match=message):
            build_task({**config, **change})
    with pytest.raises(UserError, match=r"config.task.head is missing"):
        build_task({"name": "heads"})
    with pytest.raises(UserError, match="head=tooth: expected"):
        heads.get_config("head=tooth")
    assert Segmentation().inputs == ("image",)
