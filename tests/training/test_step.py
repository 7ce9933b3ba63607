import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from gen_jax.common.errors import UserError
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh
from gen_jax.training import muon, optim, rngs
from gen_jax.training import state as state_lib
from gen_jax.training.step import make_train_step
from tests.training import plain_step
from tests.training.toy import ToyTask, batch_at

FSDP = ((".*", "fsdp"),)
TENSOR = (("layers_0/kernel", "tensor(1)"), ("layers_2/kernel", "tensor(0)"), (".*", "fsdp"))


@functools.cache
def on_one_device(task, parts):
    return run_steps(task, {}, 1, parts=parts)


def run_steps(task, mesh_shape, devices, count=5, rules=FSDP, parts=1):
    mesh = make_mesh(mesh_shape, jax.devices()[:devices])
    config = {
        "learning_rate": 0.05,
        "schedule": "constant",
        "warmup_steps": 0,
        "b2": 0.999,
        "weight_decay": 0.1,
    }
    optimizers = {g: optim.make_optimizer(config, 10) for g in task.losses()}
    state = state_lib.create_state(task, optimizers, ("model",), mesh, rules, seed=0)
    step = make_train_step(task, optimizers, accumulation_steps=parts, ema=0.9)
    # As the trainer does: with shardings of XLA's choice, a second step would compile anew.
    step = jax.jit(step, out_shardings=(jax.tree.map(lambda x: x.sharding, state), None))
    metrics = []
    for i in range(count):
        rows = {k: v for k, v in batch_at(i).items() if k != "index"}
        batch = jax.device_put(rows, sharding.batch_sharding(mesh))
        state, m = step(state, batch, {}, rngs.root_key(0))
        metrics.append(jax.device_get(m))
    return state, metrics


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


SKIPPED = (0, 2, 4)  # steps of `both` that are not finite


@pytest.fixture(scope="module", params=[1, 2])
def both(request):
    """The same steps by the trainer and by `plain_step.train`, and all that losses drew.

    Of the steps that are not finite, the first is so in a gradient of the last group, the second
    in the loss of the first group and with it the second, the third in the last group alone.
    """
    parts, rng = request.param, np.random.default_rng(0)
    sizes = {"x": plain_step.WIDTH, "y": 1, "z": 1}
    batches = [
        {k: np.float32(rng.normal(size=(plain_step.ROWS, n))) for k, n in sizes.items()}
        for _ in range(8)
    ]
    batches[0]["z"] *= 0.0
    batches[2]["y"][3] = np.nan
    batches[4]["z"][5] = np.inf
    kept = [i for i in range(len(batches)) if i not in SKIPPED]
    task = plain_step.ThreeGroups(len(kept) * 3 * parts, plain_step.ROWS // parts)
    config = {
        "learning_rate": plain_step.LEARNING_RATE,
        "schedule": "constant",
        "warmup_steps": 0,
        "b2": 0.999,
        "weight_decay": plain_step.WEIGHT_DECAY,
        "clip_norm": plain_step.CLIP_NORM,
        "no_decay": "^$",
    }
    optimizers = {g: optim.make_optimizer(config, len(batches)) for g in task.losses()}
    mesh = make_mesh({}, jax.devices()[:1])
    state = state_lib.create_state(task, optimizers, tuple(task.losses()), mesh, FSDP, seed=0)
    start = jax.device_get(state.params)
    step = make_train_step(task, optimizers, accumulation_steps=parts, ema=plain_step.EMA)
    step = jax.jit(step, out_shardings=(jax.tree.map(lambda x: x.sharding, state), None))
    metrics = []
    for batch in batches:
        state, m = step(state, batch, {}, rngs.root_key(0))
        metrics.append(jax.device_get(m))
    state = jax.device_get(state)
    drawn = np.zeros((len(batches), 3, parts, task.rows))
    drawn[kept] = state.extra["drawn"].reshape(len(kept), 3, parts, task.rows)
    return state, metrics, plain_step.train(start, batches, drawn, parts), drawn[kept]


def test_a_step_is_that_of_plain_numpy(both):
    state, metrics, (params, _, wanted), _ = both
    for i, (have, want) in enumerate(zip(metrics, wanted)):
        assert set(have) == set(want)
        if i not in SKIPPED:
            assert want["model/grad_norm"] > 1, "nothing was clipped"
            for name, value in want.items():
                np.testing.assert_allclose(have[name], value, rtol=1e-4, err_msg=f"{i} {name}")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state.params, params)


def test_the_average_follows_every_group(both):
    state, _, (params, average, _), _ = both
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state.ema, average)
    lags = jax.tree.map(lambda a, b: np.abs(a - b).max() > 1e-3, average, params)
    assert jax.tree.all(lags)


def test_a_step_that_is_not_finite_in_any_group_is_only_counted(both):
    state, metrics, _, _ = both
    assert [i for i, m in enumerate(metrics) if m["nonfinite"]] == list(SKIPPED)
    assert int(state.step) == len(metrics)
    assert all(np.isfinite(x).all() for x in leaves(state))
    assert int(state.extra["count"]) == len(state.extra["drawn"])


def test_no_draw_repeats_in_any_step_group_or_part(both):
    *_, drawn = both
    values = drawn.reshape(-1, drawn.shape[-1])
    assert len(values) >= 15 and len(np.unique(values.round(6), axis=0)) == len(values)


@pytest.mark.parametrize(
    "shape,rules",
    [({"fsdp": 8}, FSDP), ({"replica": 2, "fsdp": 2, "tensor": 2}, TENSOR), ({"replica": 8}, FSDP)],
)
@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_sharded_equals_one_device(shape, rules, parts):
    task = ToyTask(two_groups=True, noise=0.1)
    one, m1 = on_one_device(task, parts)
    many, m8 = run_steps(task, shape, 8, rules=rules, parts=parts)
    for a, b in zip(leaves(one), leaves(many)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        [m["model/loss"] for m in m1], [m["model/loss"] for m in m8], rtol=1e-5
    )


def test_leaves_are_really_split():
    task = ToyTask()
    mesh = make_mesh({"fsdp": 2, "tensor": 4}, jax.devices())
    optimizers = {"model": optim.make_optimizer({"warmup_steps": 0, "b2": 0.999}, 10)}
    state = state_lib.create_state(task, optimizers, ("model",), mesh, TENSOR, seed=0)
    step = jax.jit(make_train_step(task, optimizers, ema=0.9))
    rows = {k: v for k, v in batch_at(0).items() if k != "index"}
    batch = jax.device_put(rows, sharding.batch_sharding(mesh))
    for now in (state, step(state, batch, {}, rngs.root_key(0))[0]):
        kernels = {
            collection: [
                x
                for path, x in jax.tree_util.tree_leaves_with_path(getattr(now, collection))
                if "layers_0/kernel" in sharding.path_name(path)
            ]
            for collection in ("params", "ema", "opt_state")
        }
        assert {k: len(v) for k, v in kernels.items()} == {"params": 1, "ema": 1, "opt_state": 2}
        # 16 x 64 over fsdp and tensor; the copies that a device holds of others cost memory.
        for collection, leaves_of_it in kernels.items():
            shapes = {x.sharding.shard_shape(x.shape) for x in leaves_of_it}
            assert shapes == {(8, 16)}, collection


def test_streams_are_named_and_never_repeat():
    root = rngs.root_key(3)
    a = rngs.stream_keys(root, ("t", "noise"), 5)
    b = rngs.stream_keys(root, ("noise", "t"), 5)
    c = rngs.stream_keys(root, ("t", "noise"), 6)
    data = lambda k: tuple(np.asarray(jax.random.key_data(k)))  # noqa: E731
    assert data(a["t"]) == data(b["t"])
    assert len({data(x[n]) for x in (a, c) for n in ("t", "noise")}) == 4


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_optimizers_fit(name):
    task = ToyTask()
    optimizer = optim.make_optimizer(
        {
            "name": name,
            "learning_rate": 0.01,
            "schedule": "constant",
            "warmup_steps": 2,
            "b2": 0.999,
        },
        100,
    )
    mesh = make_mesh({"fsdp": 4}, jax.devices()[:4])
    state = state_lib.create_state(task, {"model": optimizer}, (), mesh, FSDP, seed=0)
    step = jax.jit(make_train_step(task, {"model": optimizer}))
    losses = []
    for i in range(60):
        rows = {k: v for k, v in batch_at(i).items() if k != "index"}
        state, m = step(state, rows, {}, rngs.root_key(0))
        losses.append(float(m["model/loss"]))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_schedules():
    c = {"learning_rate": 1.0, "warmup_steps": 10, "end_factor": 0.1}
    cosine = optim.make_schedule({**c, "schedule": "cosine"}, 110)
    linear = optim.make_schedule({**c, "schedule": "linear"}, 110)
    constant = optim.make_schedule({**c, "schedule": "constant"}, 110)
    for f in (cosine, linear, constant):
        assert 0 < float(f(0)) < float(f(5)) < float(f(10)) == pytest.approx(1.0)
    assert float(constant(110)) == pytest.approx(1.0)
    assert float(cosine(60)) == pytest.approx(0.55) == float(linear(60))
    assert float(cosine(110)) == pytest.approx(0.1) == float(linear(110))


def test_freeze_and_decay_masks():
    params = {"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "b": {"kernel": jnp.ones(2)}}
    optimizer = optim.make_optimizer(
        {
            "learning_rate": 0.1,
            "schedule": "constant",
            "warmup_steps": 0,
            "b2": 0.999,
            "weight_decay": 0.5,
            "freeze": "^b/",
        },
        10,
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates = jax.jit(lambda p: optimizer.update(zeros, optimizer.init(p), p)[0])(params)
    new = optax.apply_updates(params, updates)
    assert float(new["a"]["kernel"][0, 0]) == pytest.approx(0.95)
    assert float(new["a"]["bias"][0]) == 1.0 and float(new["b"]["kernel"][0]) == 1.0


def test_muon_moves_every_direction_of_a_kernel_alike():
    rng = np.random.default_rng(0)
    # A gradient of rank 2 whose second direction is a thousandth of the first.
    u, v = (np.linalg.qr(rng.normal(size=(n, 2)))[0] for n in (18, 8))
    gradient = jnp.asarray(u @ np.diag([1.0, 1e-3]) @ v.T, jnp.float32).reshape(3, 3, 2, 8)
    params = {
        "conv": {"kernel": jnp.zeros((3, 3, 2, 8)), "bias": jnp.zeros(8)},
        "query": {"kernel": jnp.zeros((6, 2, 3))},
        "token_embedding": {"embedding": jnp.zeros((5, 8))},
    }
    optimizer = optim.make_optimizer(
        {
            "name": "muon",
            "learning_rate": 0.1,
            "schedule": "constant",
            "warmup_steps": 0,
            "b2": 0.999,
        },
        10,
    )
    grads = jax.tree.map(jnp.ones_like, params)
    grads["conv"]["kernel"] = gradient
    # Without clipping's factor: Muon does not see the gradient's size.

    def first_update(optimizer):
        run = jax.jit(lambda grads: optimizer.update(grads, optimizer.init(params), params)[0])
        return run(grads)

    updates = first_update(optimizer)
    moved = -np.asarray(updates["conv"]["kernel"]).reshape(18, 8)
    first, second = (float(u[:, i] @ moved @ v[:, i]) for i in (0, 1))
    assert 0.5 < second / first < 2
    # 0.2 of the root mean square of an orthogonal matrix scaled by its larger side.
    assert first == pytest.approx(0.1 * 0.2 * 18**0.5, rel=0.4)
    # Adam's (here Nadam's) first step is about the learning rate, whatever the gradient.
    for leaf in (updates["conv"]["bias"], updates["token_embedding"]["embedding"]):
        np.testing.assert_allclose(leaf, -0.1, rtol=0.6)
    assert np.isfinite(updates["query"]["kernel"]).all()
    # One iteration leaves the weak direction behind.
    once = optim.make_optimizer(
        {"name": "muon", "learning_rate": 0.1, "ns_steps": 1, "warmup_steps": 0}, 10
    )
    moved = np.asarray(first_update(once)["conv"]["kernel"])
    first, second = (float(u[:, i] @ moved.reshape(18, 8) @ v[:, i]) for i in (0, 1))
    assert second / first < 0.1


def test_muon_equals_optax():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    # Higher than wide, wider than high, and of rank one.
    gradients = lambda: {  # noqa: E731
        "a": draw(3, 3, 8, 6),
        "b": draw(8, 24),
        "c": draw(5, 1) * draw(1, 7),
    }
    params = gradients()
    rows = lambda tree: jax.tree.map(lambda x: x.ndim - 1, tree)  # noqa: E731
    axes = lambda tree: jax.tree.map(  # noqa: E731
        lambda x: contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), (x.ndim - 1,)), tree
    )
    for steps in (1, 3, 5):
        ours = muon.scale_by_muon(rows, ns_steps=steps)
        theirs = contrib.muon(
            -1.0, ns_steps=steps, muon_weight_dimension_numbers=axes, consistent_rms=0.2
        )
        state, reference = ours.init(params), theirs.init(params)
        step, reference_step = jax.jit(ours.update), jax.jit(theirs.update)
        for _ in range(4):
            grads = gradients()
            update, state = step(grads, state, params)
            expected, reference = reference_step(grads, reference, params)
            for name in params:
                size = float(jnp.abs(expected[name]).max())
                # Rounding of the Gram matrix is lifted with the smallest singular values; what
                # Muon makes of them differs by tens of percent between 3 and 5 iterations.
                np.testing.assert_allclose(update[name], expected[name], atol=2e-3 * size)


@pytest.mark.parametrize(
    "config,word",
    [({"lr": 1.0}, "lr"), ({"name": "sgd"}, "sgd"), ({"schedule": "step"}, "step")],
)
def test_mistakes_are_named(config, word):
    with pytest.raises(UserError, match=word):
        optim.make_optimizer(config, 10)
