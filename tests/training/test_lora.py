"""Low-rank adaptation: of a toy task step by step, and of a whole run."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from configs import vae
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.parallel import sharding
from gen_jax.parallel.mesh import make_mesh
from gen_jax.runs import average, checkpoint_files, export, layout, reader, weights
from gen_jax.tasks import build_task, lora
from gen_jax.tasks.lora import LowRank, LowRankTask
from gen_jax.tasks.vae import VAETask
from gen_jax.training import adaptation, checks, defaults, optim, rngs, stage, warm_start
from gen_jax.training import state as state_lib
from gen_jax.training.checkpoint import Checkpointer
from gen_jax.training.step import make_train_step
from tests.tasks import test_contract as contract
from tests.training.toy import ToyTask, batch_at

RULES = (*lora.RULES, (".*", "fsdp"))
MATCH = r"model/(encoder|decoder).*/kernel$"


def random_tree(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


# The formula.


def test_merged_kernels_by_hand():
    shapes = {
        "model": {
            "dense": {"kernel": np.zeros((6, 5)), "bias": np.zeros(5)},
            "conv": {"kernel": np.zeros((3, 2, 4, 5))},
            "query": {"kernel": np.zeros((6, 2, 4))},
            "out": {"kernel": np.zeros((2, 4, 6))},
        },
        "disc": {"kernel": np.zeros((3, 3))},
    }
    base = random_tree(shapes)
    low_rank = LowRank(r"model/.*/kernel$", rank=3, alpha=6.0)
    fresh = low_rank.factors(base, jax.random.key(0))
    assert set(fresh) == {"model"} and set(fresh["model"]["dense"]) == {"kernel"}
    assert not any(np.any(x["kernel"]["lora_B"]) for x in fresh["model"].values())
    assert fresh["model"]["conv"]["kernel"]["lora_A"].shape == (24, 3)
    assert fresh["model"]["query"]["kernel"]["lora_A"].shape == (6, 3)
    a = np.asarray(fresh["model"]["out"]["kernel"]["lora_A"])
    assert 0.5 / np.sqrt(8) < np.abs(a).max() <= 1 / np.sqrt(8)

    factors = random_tree(fresh, 1)
    params = {**factors, "disc": base["disc"]}
    new = lora.merged(params, base, low_rank.scale)
    assert new["disc"] is base["disc"] and new["model"]["dense"]["bias"] is not None
    np.testing.assert_array_equal(new["model"]["dense"]["bias"], base["model"]["dense"]["bias"])
    for name, spec, split in (
        ("dense", "ir,ro->io", (6,)),
        ("conv", "hwir,ro->hwio", (3, 2, 4)),
        ("query", "ir,rhd->ihd", (6,)),
        ("out", "hdr,ro->hdo", (2, 4)),
    ):
        pair, kernel = factors["model"][name]["kernel"], base["model"][name]["kernel"]
        cols = kernel.shape[len(split) :]
        product = np.einsum(
            spec, pair["lora_A"].reshape(*split, 3), pair["lora_B"].reshape(3, *cols)
        )
        want = kernel + 2.0 * product  # alpha / rank
        np.testing.assert_allclose(new["model"][name]["kernel"], want, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_adapted_is_named():
    params = {"model": {"key": {"kernel": np.zeros((4, 2, 3)), "bias": np.zeros((2, 3))}}}
    key = jax.random.key(0)
    with pytest.raises(UserError, match=r"match='key' matches model/key/bias of shape \[2, 3\]"):
        LowRank("key").factors(params, key)
    with pytest.raises(UserError, match=r"match='flow/' matches no parameter; .* model/key/bias"):
        LowRank("flow/").factors(params, key)
    factors = LowRank("kernel").factors(params, key)
    for base in ({"model": {}}, {}, {"model": {"key": {"kernel": np.zeros((4, 5))}}}):
        with pytest.raises(UserError, match="model/key/kernel: the low-rank factors fit no"):
            lora.merged(factors, base, 1.0)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"rank": 0}, "config.lora.rank=0: expected a whole number of at least 1"),
        ({"alpha": 0.0}, "config.lora.alpha=0.0: expected a number above 0"),
        ({"match": "("}, r"config.lora.match='\(' is no pattern"),
        ({"ranks": 4}, "config.lora: unknown key 'ranks'"),
        ({"match": MATCH}, "adapts a trained model, and config.init_from names none"),
    ],
)
def test_mistakes_in_a_config_are_named(values, words, tmp_path):
    config = vae.get_config("debug")
    with config.unlocked():
        config.lora = values
    with pytest.raises(UserError, match=words):
        checks.check_config(config, tmp_path)


def test_configs_without_the_key_adapt_nothing():
    config = vae.get_config("debug")
    recipe = config.lora.to_dict()
    for change in ("absent", None, {}):
        with config.unlocked():
            del config.lora
            if change != "absent":
                config.lora = change
        assert not LowRank.of_run(config).match
        assert defaults.complete(config).lora.to_dict() == recipe == dataclasses.asdict(LowRank())


# Steps.


class Toy:
    """The toy task with two groups, adapted, and its base."""

    def __init__(self):
        self.inner = ToyTask(two_groups=True, noise=0.1)
        self.task = LowRankTask(self.inner, LowRank(r"^model/.*/kernel$", rank=2, alpha=4.0))
        self.params, self.extra = contract.filled(self.inner)
        self.frozen = {lora.BASE: {"model": self.params["model"]}}
        self.optimizers = {
            g: optim.make_optimizer({"schedule": "constant", "warmup_steps": 0, "b2": 0.999}, 10)
            for g in ("model", "disc")
        }
        step = make_train_step(self.task, self.optimizers, accumulation_steps=2, ema=0.9)
        self.step = jax.jit(step)

    def mesh(self, devices):
        return make_mesh({"fsdp": devices}, jax.devices()[:devices])

    def abstract(self, devices):
        mesh = self.mesh(devices)
        return state_lib.abstract_state(self.task, self.optimizers, ("model",), mesh, RULES)

    def start(self, devices):
        args = (self.task, self.optimizers, ("model",), self.mesh(devices), RULES, 0)
        return state_lib.create_state(*args)

    def steps(self, state, devices, first, last):
        mesh, metrics = self.mesh(devices), []
        rules = sharding.shard_tree(self.frozen, RULES, mesh)
        frozen = jax.tree.map(jax.device_put, self.frozen, rules)
        assert devices == 1 or any(
            not x.sharding.is_fully_replicated for x in jax.tree.leaves(frozen)
        )
        for i in range(first, last):
            batch = {k: v for k, v in batch_at(i).items() if k != "index"}
            batch = jax.device_put(batch, sharding.batch_sharding(mesh))
            state, m = self.step(state, batch, frozen, rngs.root_key(0))
            metrics.append(jax.device_get(m))
        return state, metrics


@pytest.fixture(scope="module")
def toy():
    return Toy()


@pytest.mark.parametrize("is_trained", [False, True])
def test_losses_and_predictions_are_those_of_the_merged_model(toy, is_trained):
    """With fresh factors they are those of the base, to the bit."""
    variables = toy.start(1).variables()
    if is_trained:
        params = {**variables["params"], "model": random_tree(variables["params"]["model"])}
        variables = {**variables, "params": params}
    task, whole = toy.task.as_trained(variables, toy.frozen)
    assert task is toy.inner
    pairs = zip(jax.tree.leaves(toy.params["model"]), jax.tree.leaves(whole["params"]["model"]))
    assert all(np.array_equal(a, b) for a, b in pairs) != is_trained
    batch = {k: jnp.asarray(v) for k, v in batch_at(0).items() if k != "index"}
    keys = {"noise": jax.random.key(3)}
    for group, loss in toy.task.losses().items():
        params = whole["params"]
        theirs = task.losses()[group](params[group], params, toy.extra, batch, keys, {})
        params = variables["params"]
        ours = loss(params[group], params, toy.extra, batch, keys, toy.frozen)
        np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-6 if is_trained else 0)
    want = task.predict_fns()["predict"](whole, batch, keys, {})["y"]
    have = toy.task.predict_fns()["predict"](variables, batch, keys, toy.frozen)["y"]
    np.testing.assert_allclose(want, have, rtol=1e-5 if is_trained else 0)


def test_factors_alone_are_trained_resumed_and_equal_on_eight_devices(toy, tmp_path):
    start = toy.start(1)
    names = {
        sharding.path_name(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(start)
        if "bias" in sharding.path_name(path) or sharding.path_name(path).endswith("kernel")
    }
    assert not names, "the base is in the state"
    first, m1 = toy.steps(start, 1, 0, 1)
    straight, more = toy.steps(first, 1, 1, 3)
    for m in (*m1, *more):
        assert float(m["nonfinite"]) == 0 and all(np.isfinite(v).all() for v in m.values())
    # B is zero in the first step, so that A moves from the second on.
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(start.params), jax.tree.leaves(straight.params)
    ):
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 0, sharding.path_name(path)

    saver = Checkpointer(tmp_path)
    saver.save(first, {}, {})
    saver.wait()
    restored, _ = saver.restore_latest(toy.abstract(1))
    saver.close()
    resumed, _ = toy.steps(restored, 1, 1, 3)
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed)):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    many, m8 = toy.steps(toy.start(8), 8, 0, 3)
    for a, b in zip((*m1, *more), m8):
        np.testing.assert_allclose(a["model/loss"], b["model/loss"], rtol=1e-5)
        np.testing.assert_allclose(a["model/grad_norm"], b["model/grad_norm"], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(straight.params), jax.tree.leaves(many.params)):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-6)


def test_rules_that_name_whole_kernels_do_not_stop_factors(toy):
    mesh = make_mesh({"tensor": 8})
    rules = (*lora.RULES, (r"kernel", "tensor(1)"), (r"guess$", "replicate"))
    state = state_lib.abstract_state(toy.task, toy.optimizers, ("model",), mesh, rules)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    factors = [x for path, x in leaves if "lora_" in sharding.path_name(path)]
    assert len(factors) == 16 and all(x.sharding.is_fully_replicated for x in factors)


def test_other_groups_and_collections_begin_with_those_of_the_base(toy):
    base = {
        "params": {"disc": {"guess": np.float32([7])}},
        "extra": {"seen": np.array(5, np.int32)},
    }
    state = toy.start(1)
    new, text = warm_start.take(state, base, "X", toy.task.inherited, toy.task.required)
    assert new.params["disc"]["guess"] == 7 and new.extra["seen"] == 5
    assert text == "took 1 of 1 parameters from X"
    np.testing.assert_array_equal(*(jax.tree.leaves(s.params["model"])[0] for s in (state, new)))
    base["params"] = {}
    assert warm_start.take(state, base, "X", ("seen",))[1].startswith("took 0 of 1 parameters")


# A whole run.


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """The folder of `base`, exported weights, and of `run`, which adapts them."""
    folder = tmp_path_factory.mktemp("runs")
    config = vae.get_config("debug")
    config.data.update(source="", dir=str(photos), cache=True, num_threads=1)
    config.training.update(num_steps=2, batch_size=8, log_every=1, eval_every=0)
    config.evaluators.reconstruction.update(count=8, batch_size=8)
    config.tensorboard = False
    params, extra = contract.filled(build_task(config.task.to_dict()))
    extra = {**extra, "latent_mean": jnp.float32([1, 2, 3, 4]), "updates": jnp.int32(9)}
    base = layout.make(folder / "base")
    (base / layout.CONFIG).write_text(config_lib.to_json(config))
    weights.save(base / layout.WEIGHTS, {"params": params, "extra": extra})
    with config.unlocked():
        config.init_from = str(base)
        config.lora.update(match=MATCH, rank=2, alpha=3.0)
    config.optimizer.model.update(learning_rate=0.05, schedule="constant")
    stage.run(config, layout.make(folder / "run"))
    return folder


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of `runs` that a test may damage; its run names the copy of the base."""
    folder = tmp_path / "runs"
    shutil.copytree(runs, folder)
    path = folder / "run" / layout.CONFIG
    path.write_text(path.read_text().replace(str(runs / "base"), str(folder / "base")))
    return folder


def test_an_adapted_model_has_its_encoders_already(runs, tmp_path, monkeypatch):
    config = reader.load(str(runs / "run")).config
    monkeypatch.setattr(VAETask, "pretrained", lambda self: {"encoder": "dino-tiny:missing"})
    assert stage.build(config, tmp_path).pretrained == {}


def test_the_checkpoint_has_the_factors_and_readers_the_merged_model(runs):
    base = reader.load(str(runs / "base"))
    stored = checkpoint_files.read_model(runs / "run" / layout.CHECKPOINTS / "2")
    for tree in (stored["params"]["model"], stored["ema"]["model"]):
        names = {name.split("/")[-1] for name in weights.flatten(tree)}
        assert names == {"lora_A", "lora_B"}
    assert stored["extra"]["updates"] == 9 + 2
    model = reader.load(str(runs / "run"))
    have = weights.flatten(model.variables["params"])
    for name, kernel in weights.flatten(base.variables["params"]).items():
        is_adapted = name.endswith("/kernel") and name.startswith(("model/en", "model/de"))
        assert np.array_equal(have[name], kernel) != is_adapted, name

    task = LowRankTask(model.task, model.lora.config)
    assert model.lora.config == LowRank(MATCH, 2, 3.0)
    variables = {"params": stored["ema"], "extra": stored["extra"]}
    frozen = {lora.BASE: base.variables["params"]}
    image = {"image": jnp.asarray(contract.made_batch(model.task.batch_spec())["image"])}
    ours = task.predict_fns()["reconstruct"](variables, image, {}, frozen)["image"]
    theirs = model.task.predict_fns()["reconstruct"](model.variables, image, {}, {})["image"]
    assert np.abs(np.int32(ours) - np.int32(theirs)).max() <= 1  # a level of 255, by rounding
    manifest = json.loads((runs / "run" / layout.MANIFEST).read_text())
    assert manifest["frozen_weights_sha256"] == {"init": base.digest}
    assert model.lora.base_digest == base.digest


def test_a_base_that_changed_or_is_missing_is_refused(copied):
    config = config_lib.from_json((copied / "run" / layout.CONFIG).read_text())
    file = copied / "base" / layout.WEIGHTS
    tree = weights.load(file)
    tree["params"]["model"]["patch_in"]["bias"][0] += 1  # of no adapted kernel
    weights.save(file, tree)
    words = "its low-rank factors were trained on other weights than those that .*base has now"
    with pytest.raises(UserError, match=words):
        reader.load(str(copied / "run"))
    with pytest.raises(UserError, match=words):
        stage.build(config, copied / "run")
    shutil.rmtree(copied / "base")
    with pytest.raises(UserError, match=r"run holds low-rank factors of another run: .*no such"):
        reader.load(str(copied / "run"))
    with pytest.raises(UserError, match=r"config\.init_from: .*no such folder"):
        stage.run(config, copied / "run")


def test_a_base_of_another_architecture_is_refused(runs, tmp_path):
    config = config_lib.from_json((runs / "run" / layout.CONFIG).read_text())
    config.task.autoencoder.latent_channels = 6
    with pytest.raises(UserError, match=r"its model/decoder_in/kernel is \[3, 3, 4, 8\], of this"):
        stage.run(config, layout.make(tmp_path / "run"))
    assert not list((tmp_path / "run").iterdir())


def test_exports(runs, tmp_path):
    model = reader.load(str(runs / "run"))
    merged, factors = tmp_path / "merged", tmp_path / "factors"
    merged.mkdir()
    factors.mkdir()
    export.to_safetensors(model, merged, "float32")
    again = reader.load(str(merged))
    assert again.lora is None
    assert weights.digest(again.variables) == weights.digest(model.variables)

    export.to_lora(model, factors, "float32")
    assert {p.name for p in factors.iterdir()} == {"lora.safetensors", "manifest.json"}
    tree = weights.load(factors / "lora.safetensors")
    base = reader.load(str(runs / "base"))
    by_hand = lora.merged(tree, base.variables["params"], 1.5)
    for a, b in zip(jax.tree.leaves(by_hand), jax.tree.leaves(model.variables["params"])):
        np.testing.assert_array_equal(a, b)
    with safe_open(factors / "lora.safetensors", "np") as file:
        known = file.metadata()
    assert known["base_sha256"] == base.digest and known["match"] == MATCH
    assert (known["rank"], known["alpha"], known["task"]) == ("2", "3.0", "vae")
    with pytest.raises(UserError, match="trained no low-rank factors"):
        export.to_lora(again, factors, "float32")
    with pytest.raises(UserError, match="trained no low-rank factors"):
        export.to_lora(average.mean([model, model]), factors, "float32")


def test_factors_of_factors(runs, tmp_path):
    """A run that adapts an adapted run: its base is the merged model."""
    config = config_lib.from_json((runs / "run" / layout.CONFIG).read_text())
    model = reader.load(str(runs / "run"))
    adapted = adaptation.adapt(config, model.task, model, tmp_path)
    assert adapted.frozen[lora.BASE]["model"] is model.variables["params"]["model"]
    assert adapted.start["params"] == {} and "latent_mean" in adapted.start["extra"]
    assert "low-rank factors of 6 kernels" in adapted.text and "6,680 of" in adapted.text
