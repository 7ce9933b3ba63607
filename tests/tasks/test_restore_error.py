"""The head of expected errors: it learns where a frozen restorer errs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import restore_error
from gen_jax.common.errors import UserError
from gen_jax.models.error_head import ErrorHead
from gen_jax.tasks import build_task
from tests.tasks.test_contract import filled


def test_it_learns_where_errors_are_large():
    head, rng = ErrorHead((8, 8), (1, 1), 4), np.random.default_rng(0)
    x = rng.random((4, 18, 15, 3)).astype(np.float32)
    # The true error is 20 where the restorer changed something and 1 elsewhere.
    changed = np.arange(15)[None, None, :, None] < 6
    y, vector = np.where(changed, x + 0.1, x).astype(np.float32), np.ones((4, 6), np.float32)
    x, y, vector = map(jnp.asarray, (x, y, vector))
    error = np.broadcast_to(np.where(changed, 20.0, 1.0), (*x.shape[:3], 1)).astype(np.float32)
    params = jax.jit(head.init)(jax.random.key(0), x, y, vector)
    adam = optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss(p):
            log_scale = head.apply(p, x, y, vector)
            return (log_scale + error * jnp.exp(-log_scale)).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = adam.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    state = adam.init(params)
    for _ in range(150):
        params, state, _ = step(params, state)
    found = np.exp(jax.jit(head.apply)(params, x, y, vector))
    assert found.shape == error.shape
    np.testing.assert_allclose(np.median(found[:, :, :5]), 20.0, rtol=0.2)
    np.testing.assert_allclose(np.median(found[:, :, 8:]), 1.0, rtol=0.2)


def test_restored_images_may_be_given():
    config = restore_error.get_config("debug")
    stage = build_task(config.requires.first_stage.task.to_dict())
    task = build_task(config.task.to_dict(), {"first_stage": stage})
    params, extra = filled(stage)
    frozen = {"first_stage": stage.as_frozen({"params": params, "extra": extra})}
    mine, extra = filled(task)
    variables = {"params": mine, "extra": extra}
    rng = np.random.default_rng(0)
    batch = {"degraded": rng.random((2, 16, 16, 3), np.float32)}
    batch["degradation"] = rng.random((2, 6), np.float32)
    predict = jax.jit(task.predict_fns()["error"])
    made = predict(variables, batch, {}, frozen)
    again = predict(variables, {**batch, "restored": made["restored"]}, {}, frozen)
    np.testing.assert_allclose(again["error"], made["error"], rtol=1e-4)
    other = predict(variables, {**batch, "restored": batch["degraded"]}, {}, frozen)
    assert np.abs(other["error"] - made["error"]).max() > 1e-4


@pytest.mark.parametrize("change,words", [
    (lambda c, t: t.clear(), "first_stage: errors are those of a restorer"),
    (lambda c, t: c.pop("head"), "task.head is missing"),
    (lambda c, t: c["head"].update(width=3), "width"),
])  # fmt: skip
def test_mistakes_are_named(change, words):
    config = restore_error.get_config("debug")
    tasks = {"first_stage": build_task(config.requires.first_stage.task.to_dict())}
    values = config.task.to_dict()
    change(values, tasks)
    with pytest.raises(UserError, match=words):
        build_task(values, tasks)
