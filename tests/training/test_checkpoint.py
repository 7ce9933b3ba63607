import pathlib
import shutil

import jax
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.parallel.mesh import make_mesh
from gen_jax.runs import checkpoint_files
from gen_jax.runs.fingerprint import fingerprint
from gen_jax.training import optim
from gen_jax.training import state as state_lib
from gen_jax.training.checkpoint import Checkpointer
from tests.training.test_step import FSDP, leaves, run_steps
from tests.training.toy import ToyTask


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with checkpoints 3 and 5, and the states they were made of."""
    folder = tmp_path_factory.mktemp("run")
    saver = Checkpointer(folder)
    states = {}
    for count in (3, 5):
        states[count], _ = run_steps(ToyTask(), {"fsdp": 8}, 8, count=count)
        saver.save(states[count], {"place": count}, {})
    saver.close()
    return folder, states


def abstract(devices):
    mesh = make_mesh({"fsdp": devices}, jax.devices()[:devices])
    optimizers = {
        "model": optim.make_optimizer(
            {"schedule": "constant", "warmup_steps": 0, "b2": 0.999, "weight_decay": 0.1}, 10
        )
    }
    return state_lib.abstract_state(ToyTask(), optimizers, ("model",), mesh, FSDP)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_restores_onto_any_number_of_devices(saved, devices):
    folder, states = saved
    saver = Checkpointer(folder)
    state, meta = saver.restore_latest(abstract(devices))
    saver.close()
    assert meta["place"] == 5
    for a, b in zip(leaves(states[5]), leaves(state)):
        np.testing.assert_array_equal(a, b)
    assert len(state.params["model"]["layers_0"]["kernel"].sharding.device_set) == devices


def test_nothing_saved_yet(tmp_path):
    saver = Checkpointer(tmp_path)
    assert saver.restore_latest(abstract(1)) is None
    saver.close()


def damage(folder, step, how):
    """Damages every file of a checkpoint that may hold values, so also those that are read."""
    for path in (folder / "checkpoints" / str(step)).rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data if how == "flip" else data[: len(data) // 2])


def restore_and_compare(folder, states):
    """Restores; the result must be one of the saved states to the bit."""
    lines = []
    saver = Checkpointer(folder, report=lines.append)
    state, meta = saver.restore_latest(abstract(1))
    saver.close()
    want = states[meta["place"]]
    for a, b in zip(leaves(want), leaves(state)):
        np.testing.assert_array_equal(a, b)
    return meta["place"], lines


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_damaged_arrays_fall_back_and_are_kept_aside(saved, tmp_path, how):
    folder, states = saved
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damage(tmp_path, 5, how)
    place, lines = restore_and_compare(tmp_path, states)
    assert place == 3 and len(lines) == 1 and "checkpoint 5 is damaged (" in lines[0]
    assert (tmp_path / "checkpoints/5.damaged").is_dir()
    # The step can be reached and saved again.
    saver = Checkpointer(tmp_path)
    saver.save(states[5], {"place": 5}, {})
    saver.close()
    assert restore_and_compare(tmp_path, states) == (5, [])


@pytest.mark.parametrize("part", ["meta/metadata", "optimizer/d"])
def test_damage_to_the_other_items_is_seen(saved, tmp_path, part):
    """Damage to the model is tested bit by bit in tests/runs/test_checkpoint_files.py."""
    folder, states = saved
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "checkpoints/5" / part
    for file in path.iterdir() if path.is_dir() else [path]:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    place, lines = restore_and_compare(tmp_path, states)
    assert place == 3 and len(lines) == 1 and "checkpoint 5 is damaged (" in lines[0]


def test_all_damaged_stops_and_moves_nothing(saved, tmp_path):
    """If none can be read, the fault may be the program's."""
    folder, _ = saved
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for step in (3, 5):
        for f in (tmp_path / f"checkpoints/{step}/model").rglob("*"):
            if f.is_file():
                f.write_bytes(b"")
    saver = Checkpointer(tmp_path, report=lambda _: None)
    with pytest.raises(UserError, match=r"every checkpoint is damaged \(5: .*; 3: .*\); nothing w"):
        saver.restore_latest(abstract(1))
    saver.close()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3", "5"]


def test_best_and_last_are_kept(tmp_path):
    state, _ = run_steps(ToyTask(), {}, 1, count=1)
    saver = Checkpointer(tmp_path, keep=2, best_metric="vae/psnr", best_mode="max")
    for step, psnr in [(1, 20.0), (2, 30.0), (3, None), (4, 25.0), (5, float("nan")), (6, 26.0)]:
        at = state.replace(step=jax.numpy.int32(step))
        saver.save(at, {}, {} if psnr is None else {"vae/psnr": psnr})
    saver.wait()
    folders = pathlib.Path(tmp_path, "checkpoints").iterdir()
    kept = sorted(int(p.name) for p in folders if p.is_dir())
    assert kept == [2, 5, 6] and saver.best_step() == 2 and saver.latest_step() == 6
    saver.close()
    # Another start knows the metrics too.
    saver = Checkpointer(tmp_path, keep=2, best_metric="vae/psnr", best_mode="max")
    assert saver.best_step() == 2 and saver.best_step({"vae/psnr": 31.0}) == 6
    saver.save(state.replace(step=jax.numpy.int32(7)), {}, {"vae/psnr": 29.0})
    saver.close()
    assert checkpoint_files.steps(tmp_path / "checkpoints") == [2, 6, 7]


def test_fingerprint_sees_every_bit_and_no_layout():
    one, _ = run_steps(ToyTask(), {}, 1, count=1)
    params = one.params
    first = fingerprint(params)
    mesh = make_mesh({"fsdp": 8})
    from gen_jax.parallel import sharding

    moved = jax.device_put(params, sharding.shard_tree(params, FSDP, mesh))
    assert fingerprint(moved) == first
    kernel = np.asarray(params["model"]["layers_0"]["kernel"]).copy()
    for bit in range(32):
        changed = kernel.copy()
        changed.view(np.uint32)[3, 5] ^= np.uint32(1 << bit)
        tree = jax.tree.map(lambda x: x, params)
        tree["model"]["layers_0"]["kernel"] = jax.numpy.asarray(changed)
        different = fingerprint(tree)
        assert [k for k in first if first[k] != different[k]] == ["model/layers_0/kernel"]
