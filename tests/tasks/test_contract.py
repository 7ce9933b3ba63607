"""Every stage through the contract of `tasks/base.py`, by its `:debug` config."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common.build import build
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh
from gen_jax.pipelines import PIPELINES
from gen_jax.runs import reader
from gen_jax.tasks import TASKS, build_task, lora
from gen_jax.training import loop, optim, rngs
from gen_jax.training import state as state_lib
from gen_jax.training.step import make_train_step
from tests import recipes

CONFIGS = recipes.contract_configs()
FSDP = ((".*", "fsdp"),)
BATCH = 8


def test_every_task_has_a_debug_config():
    assert set(CONFIGS) == set(TASKS)


def debug_config(name):
    module, arg = CONFIGS[name]
    return module.get_config(arg)


class Stage:
    """A built stage with what its losses need."""

    def __init__(self, config):
        self.config = config
        tasks, self.frozen = {}, {}
        for key, needed in self.config.requires.items():
            tasks[key] = build_task(needed.task.to_dict())
            params, extra = filled(tasks[key])
            self.frozen[key] = tasks[key].as_frozen({"params": params, "extra": extra})
        for key, source in self.config.frozen.items():
            if not source:  # required, and trained by the run itself
                continue
            model = reader.load(source)
            tasks[key], self.frozen[key] = model.task, model.task.as_frozen(model.variables)
        self.task = build_task(self.config.task.to_dict(), tasks)
        for key, spec in self.task.frozen_encoders().items():
            self.frozen[key] = encoders.load(*encoders.parse(spec))[1]
        self.optimizers = {
            g: optim.make_optimizer(
                {"learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 0, "b2": 0.999}, 10
            )
            for g in self.task.losses()
        }
        self._steps, self._starts = {}, {}

    def batch(self, step=0):
        return made_batch(self.task.batch_spec(), step)

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
            opt_state={g: jax.jit(o.init)(params[g]) for g, o in self.optimizers.items()},
            ema={"model": params["model"]},
            extra=extra,
        )
        return jax.device_put(state, self.shardings(devices))

    def shardings(self, devices):
        return jax.tree.map(lambda s: s.sharding, self.abstract(devices)[0])

    def steps(self, devices, count, state=None, start=0):
        """Takes some steps; returns the state and the metrics."""
        _, mesh = self.abstract(devices)
        state = self.start(devices) if state is None else state
        frozen = jax.device_put(self.frozen, sharding.replicated(mesh))
        if devices not in self._steps:
            step = make_train_step(self.task, self.optimizers, ema=0.9)
            # As the trainer does: with shardings of XLA's choice, a second step would compile anew.
            out = (self.shardings(devices), None)
            self._steps[devices] = jax.jit(step, out_shardings=out)
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


def made_batch(specs, seed=0):
    """Random arrays of a batch by their shapes and types."""
    rng = np.random.default_rng(seed)
    out = {}
    for key, spec in specs.items():
        shape = (BATCH, *spec.shape)
        if spec.dtype == jnp.uint8:
            out[key] = rng.integers(0, 256, shape).astype(np.uint8)
        elif spec.dtype in (jnp.int32, jnp.uint32):
            out[key] = rng.integers(0, 200, shape).astype(spec.dtype)
        elif spec.dtype == jnp.bool_:
            out[key] = rng.random(shape) < 0.9
        elif spec.dtype == jnp.int8:
            out[key] = rng.integers(-127, 128, shape).astype(np.int8)
        else:
            out[key] = rng.normal(size=shape).astype(spec.dtype)
    return out


def filled(task):
    """Parameters and extra by shape, filled without compiling the initialisers."""
    shapes = jax.eval_shape(
        lambda k: task.init(k, state_lib.zero_batch(task.batch_spec(), 1)), jax.random.key(0)
    )

    def fill(path, s):
        name = sharding.path_name(path)
        if name.split("/")[-1] in ("scale", "latent_var"):
            return jnp.asarray(np.ones(s.shape, s.dtype))  # `jnp.ones` compiles for each shape
        if name.split("/")[-1] in ("updates", "latent_mean", "bias"):
            return jnp.asarray(np.zeros(s.shape, s.dtype))
        rng = np.random.default_rng(abs(hash(s.shape)) % 2**32)
        fan = max(1, int(np.prod(s.shape[:-1])))
        return jnp.asarray(rng.normal(size=s.shape) / np.sqrt(fan), s.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def stage(name):
    return Stage(debug_config(name))


every_stage = pytest.mark.parametrize("name", sorted(TASKS))


def but_slow(*names, nightly=()):
    """Every stage, those that take long to compile with the slow tests or before a release."""
    marks = {n: pytest.mark.slow for n in names} | {n: pytest.mark.nightly for n in nightly}
    return [pytest.param(n, marks=marks.get(n, ())) for n in sorted(TASKS)]


@every_stage
def test_config_fits_the_trainer(name):
    config = debug_config(name)
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


# Of "vqvae" `test_vqvae.py` compares single steps in every run.
@pytest.mark.parametrize(
    "name", but_slow("art", "ldm", "dino", "mask_feat", "restore", nightly=("vqvae",))
)
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
def test_predict_functions_read_and_give_what_they_say(name):
    s = stage(name)
    params, extra = s.filled
    keys = {n: jax.random.key(i) for i, n in enumerate(s.task.rng_streams)}
    specs, image_size = s.task.predict_spec(), s.config.data.image_size
    assert specs.keys() == s.task.predict_fns().keys()
    for fn_name, fn in s.task.predict_fns().items():
        batch = {k: jnp.asarray(v) for k, v in made_batch(specs[fn_name]).items()}
        out = jax.eval_shape(fn, {"params": params, "extra": extra}, batch, keys, s.frozen)
        assert all(v.shape[0] == BATCH for v in out.values()), fn_name
        if "image" in out:
            assert out["image"].shape == (BATCH, image_size, image_size, 3), fn_name
            assert out["image"].dtype == jnp.uint8
        if fn_name == "generate":
            assert {"image", "finite"} <= out.keys() and "seed" in specs[fn_name]


@every_stage
def test_what_is_declared_is_there(name):
    """Pipelines, export and other stages go by these, and by nothing else."""
    s = stage(name)
    params, extra = s.filled
    variables = {"params": params, "extra": extra}
    assert set(s.task.inherited) <= set(extra)
    assert jax.tree.leaves(s.task.as_frozen(variables))
    for component, (module, tree) in s.task.components(variables, s.frozen).items():
        assert isinstance(module, nn.Module) and jax.tree.leaves(tree), component
    settings = s.task.sampling_settings()
    assert dataclasses.replace(s.task, **settings) == s.task
    if "generate" in s.task.predict_fns():
        assert s.task.pipeline in PIPELINES
    if (space := s.task.feature_space) is not None:
        assert space.spec().keys() <= s.task.batch_spec().keys()
    assert (s.task.text_encoder is not None) == ("tokens" in s.task.batch_spec())


@every_stage
def test_every_stage_can_be_adapted(name):
    """Low-rank factors of all kernels take the place of the parameters, and get gradients."""
    s = stage(name)
    task = lora.LowRankTask(s.task, lora.LowRank(r"^model/.*/kernel$", rank=2))
    params, extra = s.filled
    frozen = {**s.frozen, lora.BASE: task.base_of({"params": params}, "X")}
    keys = {n: jax.random.key(i) for i, n in enumerate(task.rng_streams)}
    shapes, _ = jax.eval_shape(task.init_of_zeros, jax.random.key(0))
    names = {sharding.path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(shapes["model"])}
    assert names and all(n.endswith(("/kernel/lora_A", "/kernel/lora_B")) for n in names)
    loss = jax.grad(task.losses()["model"], has_aux=True)
    grads, _ = jax.eval_shape(loss, shapes["model"], shapes, extra, s.batch(), keys, frozen)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, shapes["model"])
    assert task.predict_fns().keys() == s.task.predict_fns().keys() == task.predict_spec().keys()
