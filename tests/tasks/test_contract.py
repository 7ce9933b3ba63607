"""Every stage through the trainer's contract, by its `:debug` config."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import art, detail, encoder, faces, ldm, restore_text, vae, vqvae
from gen_jax import encoders
from gen_jax.common.build import build
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh
from gen_jax.tasks import TASKS, build_task
from gen_jax.training import loop, optim, rngs
from gen_jax.training import state as state_lib
from gen_jax.training.step import make_train_step

# Each stage's debug config; a stage without one fails `test_every_stage_is_here`.
DEBUG = {
    "vae": lambda: vae.get_config("debug"),
    "ldm": lambda: ldm.get_config("debug,vae=train"),
    "dino": lambda: encoder.get_config("variant=small,debug"),
    "mask_feat": lambda: encoder.get_config("debug"),
    "restore": lambda: restore_text.get_config("debug"),
    "faces": lambda: faces.get_config("debug"),
    "vqvae": lambda: vqvae.get_config("debug,disc"),
    "art": lambda: art.get_config("debug,joint,style"),
    "detail": lambda: detail.get_config("debug"),
}
FSDP = ((".*", "fsdp"),)
BATCH = 8


def test_every_stage_is_here():
    assert set(DEBUG) == set(TASKS)


class Stage:
    """A built stage with what its losses need."""

    def __init__(self, name):
        self.config = DEBUG[name]()
        tasks, self.frozen = {}, {}
        for key, needed in self.config.requires.items():
            tasks[key] = build_task(needed.task.to_dict())
            params, extra = filled(tasks[key])
            self.frozen[key] = tasks[key].as_frozen({"params": params, "extra": extra})
        self.task = build_task(self.config.task.to_dict(), tasks or None)
        for key, spec in (self.task.towers() if hasattr(self.task, "towers") else {}).items():
            self.frozen[key] = encoders.load(*encoders.parse(spec))[1]
        self.optimizers = {
            g: optim.make_optimizer({"learning_rate": 1e-3, "schedule": "constant"}, 10)
            for g in self.task.losses()
        }
        self._steps, self._starts = {}, {}

    def batch(self, step=0):
        rng = np.random.default_rng(step)
        out = {}
        for key, spec in self.task.batch_spec().items():
            shape = (BATCH, *spec.shape)
            if spec.dtype == jnp.uint8:
                out[key] = rng.integers(0, 256, shape).astype(np.uint8)
            elif spec.dtype == jnp.int32:
                out[key] = rng.integers(0, 200, shape).astype(np.int32)
            elif spec.dtype == jnp.bool_:
                out[key] = rng.random(shape) < 0.9
            elif spec.dtype == jnp.int8:
                out[key] = rng.integers(-127, 128, shape).astype(np.int8)
            else:
                out[key] = rng.normal(size=shape).astype(spec.dtype)
        return out

    @functools.cached_property
    def filled(self):
        """Parameters and extra, see `filled`."""
        return filled(self.task)

    def abstract(self, devices):
        """Shapes and shardings of a state on so many devices, and their mesh."""
        if devices not in self._starts:
            mesh = make_mesh({"fsdp": devices}, jax.devices()[:devices])
            state = state_lib.abstract_state(self.task, self.optimizers, ("model",), mesh, FSDP)
            self._starts[devices] = state, mesh
        return self._starts[devices]

    def start(self, devices):
        """A state on so many devices, equal whatever their number."""
        params, extra = self.filled
        state = state_lib.TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state={g: o.init(params[g]) for g, o in self.optimizers.items()},
            ema={"model": params["model"]},
            extra=extra,
        )
        where = jax.tree.map(lambda s: s.sharding, self.abstract(devices)[0])
        return jax.device_put(state, where)

    def steps(self, devices, count, state=None, start=0):
        """Takes some steps; returns the state and the metrics."""
        _, mesh = self.abstract(devices)
        state = self.start(devices) if state is None else state
        frozen = jax.device_put(self.frozen, sharding.replicated(mesh))
        if devices not in self._steps:
            self._steps[devices] = jax.jit(make_train_step(self.task, self.optimizers, ema=0.9))
        metrics = []
        for i in range(start, start + count):
            batch = jax.device_put(self.batch(i), sharding.batch_sharding(mesh))
            state, m = self._steps[devices](state, batch, frozen, rngs.root_key(0))
            metrics.append(jax.device_get(m))
        return state, metrics

    @functools.cached_property
    def straight(self):
        """State and metrics after three steps on one device, and the state after the first."""
        first, one = self.steps(1, 1)
        last, more = self.steps(1, 2, state=first, start=1)
        return first, last, one + more


def filled(task):
    """Parameters and extra by shape, filled without compiling the initialisers."""
    shapes = jax.eval_shape(
        lambda k: task.init(k, state_lib.zero_batch(task.batch_spec(), 1)), jax.random.key(0)
    )

    def fill(path, s):
        name = sharding.path_name(path)
        if name.split("/")[-1] in ("scale", "latent_var"):
            return jnp.ones(s.shape, s.dtype)
        if name.split("/")[-1] in ("updates", "latent_mean", "bias"):
            return jnp.zeros(s.shape, s.dtype)
        rng = np.random.default_rng(abs(hash(s.shape)) % 2**32)
        fan = max(1, int(np.prod(s.shape[:-1])))
        return jnp.asarray(rng.normal(size=s.shape) / np.sqrt(fan), s.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def stage(name):
    return Stage(name)


every_stage = pytest.mark.parametrize("name", sorted(TASKS))


def but_slow(*names):
    """Every stage, those that take long to compile with the slow tests."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in names)) for n in sorted(TASKS)]


@every_stage
def test_config_fits_the_trainer(name):
    config = DEBUG[name]()
    schedule = build(loop.Schedule, config.training.to_dict(), "config.training")
    schedule.check(make_mesh(config.mesh.to_dict()))


@pytest.mark.parametrize("name", but_slow("dino"))
def test_three_steps_change_every_parameter(name):
    s = stage(name)
    before, (_, after, metrics) = s.start(1), s.straight
    for m in metrics:
        assert float(m["nonfinite"]) == 0 and all(np.isfinite(v).all() for v in m.values())
    flat = jax.tree_util.tree_leaves_with_path(before.params)
    for (path, a), b in zip(flat, jax.tree.leaves(after.params)):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 0, sharding.path_name(path)


@pytest.mark.parametrize("name", ["ldm", "restore", "vae"])
def test_a_batch_is_learnt(name):
    s = stage(name)
    state, losses = s.start(1), []
    for _ in range(10):
        # The same batch and, with the step held at 0, the same draws.
        state, (metrics,) = s.steps(1, 1, state=state.replace(step=s.start(1).step))
        losses.append(float(metrics["model/loss"]))
    assert losses[-1] < 0.98 * losses[0] and np.mean(losses[5:]) < np.mean(losses[:5])


# Of "vqvae" `test_vqvae.py` compares fifty steps.
@pytest.mark.parametrize("name", but_slow("art", "ldm", "dino", "mask_feat", "restore", "vqvae"))
def test_eight_devices_equal_one(name):
    s = stage(name)
    m1 = s.straight[2][:2]
    many, m8 = s.steps(8, 2)
    split = [x for x in jax.tree.leaves(many.params) if not x.sharding.is_fully_replicated]
    assert split, "no parameter was really split"
    for a, b in zip(m1, m8):
        np.testing.assert_allclose(a["model/loss"], b["model/loss"], rtol=1e-5)
        np.testing.assert_allclose(a["model/grad_norm"], b["model/grad_norm"], rtol=1e-4)


@every_stage
def test_going_on_equals_straight_through(name, tmp_path):
    from gen_jax.training.checkpoint import Checkpointer

    s = stage(name)
    first, straight, want = s.straight
    saver = Checkpointer(tmp_path)
    saver.save(first, {}, {})
    saver.wait()
    restored, _ = saver.restore_latest(s.abstract(1)[0])
    saver.close()
    rest, have = s.steps(1, 2, state=restored, start=1)
    assert [m["model/loss"] for m in want[1:]] == [m["model/loss"] for m in have]
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(rest)):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@every_stage
def test_predict_functions_give_what_they_say(name):
    s = stage(name)
    params, extra = s.filled
    batch = {k: jnp.asarray(v) for k, v in s.batch().items()}
    if name == "vae":
        batch["latent"] = jnp.zeros((BATCH, 4, 4, 4))
    if name in ("vqvae", "detail"):
        batch["codes"] = jnp.zeros((BATCH, *getattr(s.task, "vqvae", s.task).grid), jnp.int32)
    if name in ("faces", "art"):
        batch |= {"seed": jnp.arange(BATCH, dtype=jnp.uint32), "z": jnp.zeros((BATCH, 8))}
    keys = {n: jax.random.key(i) for i, n in enumerate(s.task.rng_streams)}
    for fn_name, fn in s.task.predict_fns().items():
        out = jax.eval_shape(fn, {"params": params, "extra": extra}, batch, keys, s.frozen)
        assert all(v.shape[0] == BATCH for v in out.values()), fn_name
        if "image" in out:
            assert out["image"].shape == (BATCH, 16, 16, 3) and out["image"].dtype == jnp.uint8
