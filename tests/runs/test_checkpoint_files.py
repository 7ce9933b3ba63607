"""Damage of every kind to a small run, read by the one reader."""

import asyncio
import contextlib
import gc
import json
import os
import random
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.runs import checkpoint_files, fingerprint, layout, manifest, reader, weights
from gen_jax.training.checkpoint import Checkpointer
from gen_jax.training.state import TrainState


def state_at(step):
    """A state of three small arrays that another step has none of."""
    rng = np.random.default_rng(step)

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return TrainState(
        step=jnp.int32(step),
        params={"model": {"kernel": array(8, 16), "bias": array(8)}},
        opt_state={"model": {"mu": array(8, 16)}},
        ema={"model": {"kernel": array(8, 16), "bias": array(8)}},
        extra={"latent_mean": array(8)},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of an autoencoder whose name has brackets; checkpoints 3 (the best), 4 and 5."""
    from configs import vae

    folder = tmp_path_factory.mktemp("runs") / "a[1]?*"
    folder.mkdir()
    config = vae.get_config("debug")
    (folder / layout.CONFIG).write_text(config_lib.to_json(config) + "\n")
    layout.write_json(
        folder / layout.MANIFEST,
        {"config_sha256": config_lib.digest(config), "frozen_weights_sha256": {}},
    )
    saver = Checkpointer(folder, best_metric="vae/psnr", best_mode="max")
    for step, psnr in ((3, 30.0), (4, 20.0), (5, 25.0)):
        saver.save(state_at(step), {}, {"vae/psnr": psnr})
    saver.close()
    layout.write_json(folder / layout.DONE, {"best": 3, "last": 5})
    return folder


@pytest.fixture(scope="module")
def digests(run):
    """Step -> digest of its weights, as they were saved."""
    return {
        step: weights.digest({"params": state_at(step).ema, "extra": state_at(step).extra})
        for step in (3, 4, 5)
    }


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@contextlib.contextmanager
def damaged(path, change):
    """Changes the bytes of a file for a while."""
    content = path.read_bytes()
    path.write_bytes(change(bytearray(content)))
    try:
        yield
    finally:
        path.write_bytes(content)


def flip(data, bit):
    data[bit // 8] ^= 1 << (bit % 8)
    return data


def data_files(step):
    """The files of a checkpoint's model item that may hold values."""
    return [p for p in (step / "model").rglob("d/*") if p.is_file()]


def spoil(step):
    """Flips a bit of each of them, so that one that is read is damaged."""
    for path in data_files(step):
        path.write_bytes(flip(bytearray(path.read_bytes()), 4 * path.stat().st_size))


def test_brackets_in_the_name_do_no_harm(run, digests):
    for which, step in (("best", 3), ("last", 5), ("4", 4)):
        model = reader.load(str(run), which)
        assert (model.step, model.digest) == (step, digests[step])


def test_200_flipped_bits_and_50_cuts_give_no_other_weights(run, digests, capsys):
    """Files of the newest checkpoint that are read are damaged most often, all others too."""
    step = run / layout.CHECKPOINTS / "5"

    def is_refused():
        try:
            tree = checkpoint_files.read_model(step)
        except checkpoint_files.Damaged:
            return True
        digest = weights.digest({"params": tree["ema"], "extra": tree["extra"]})
        assert digest == digests[5]
        return False

    files = [p for p in step.rglob("*") if p.is_file() and p.stat().st_size]
    live = []
    for path in files:
        with damaged(path, lambda _: b""):
            live += [path] if is_refused() else []
    assert 4 <= len(live) < len(files)
    rng, refused = random.Random(0), 0
    for index in range(250):
        path = rng.choice(live if index % 3 else files)
        at = rng.randrange(8 * path.stat().st_size)
        with damaged(path, lambda d: flip(d, at) if index < 200 else d[: at // 8]):  # noqa: B023
            is_damaged = is_refused()
            refused += is_damaged
            if index % 10 == 0:  # what commands see of it
                model = reader.load(str(run), "last")
                assert (
                    (model.step, model.digest) == (4, digests[4]) if is_damaged else (5, digests[5])
                )
                note = f"{step.parent}: checkpoint 5 is damaged ("
                assert (note in capsys.readouterr().err) == is_damaged
    assert refused > 120


def test_a_damaged_checkpoint_is_named_and_nothing_is_moved(copy, capsys):
    folder = copy / layout.CHECKPOINTS
    spoil(folder / "3")
    before = sorted(p for p in copy.rglob("*"))
    assert reader.load(str(copy)).step == 5  # the newest in place of the best
    assert "checkpoint 3 is damaged (" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"checkpoint 3 is damaged .* another step of \[4, 5\]"):
        reader.load(str(copy), "3")
    spoil(folder / "4")
    spoil(folder / "5")
    with pytest.raises(UserError, match=r"3 is damaged .* 5 is damaged .* 4 is damaged .* copy"):
        reader.load(str(copy))
    assert sorted(p for p in copy.rglob("*")) == before


def test_other_files_of_a_run(copy, capsys):
    (copy / layout.DONE).write_text("{")
    assert reader.load(str(copy)).step == 5
    assert "done.json: damaged, it names no best step" in capsys.readouterr().err
    config = copy / layout.CONFIG
    with damaged(config, lambda d: d.replace(b'"num_steps": ', b'"num_steps": 9')):
        reader.load(str(copy))
    assert "config.json: edited or damaged since manifest.json" in capsys.readouterr().err
    with damaged(config, lambda d: d[:99]), pytest.raises(UserError, match=r"config\.json: damag"):
        reader.load(str(copy))


def test_a_tokenizer_of_another_run_is_refused(tmp_path):
    from gen_jax.data.text.tokenizer import train_tokenizer

    one, other = (train_tokenizer(["a red ball", text], 300) for text in ("a cat", "blue dogs"))
    one.save(tmp_path / layout.TOKENIZER)
    layout.write_json(tmp_path / layout.MANIFEST, {"data": {"tokenizer_sha256": one.digest}})
    manifest.check(tmp_path)
    other.save(tmp_path / layout.TOKENIZER)
    with pytest.raises(UserError, match=r"tokenizer\.json: damaged, it is not the tokenizer"):
        manifest.check(tmp_path)


def test_exported_and_packaged_weights_have_a_checksum(copy, tmp_path):
    from gen_jax.runs import export

    out = tmp_path / "out"
    out.mkdir()
    model = reader.load(str(copy))
    export.to_safetensors(model, out, "float32")
    assert reader.load(str(out)).digest == model.digest
    shutil.copytree(reader.PACKAGED / "dino_tiny", tmp_path / "dino")
    for folder in (out, tmp_path / "dino"):
        path = folder / layout.WEIGHTS
        with (
            damaged(path, lambda d: flip(d, 8 * len(d) - 10)),
            pytest.raises(UserError, match=r"model\.safetensors: damaged, its SHA-256"),
        ):
            from gen_jax.encoders import catalog

            reader.load(str(out)) if folder == out else catalog.load("dino_tiny", folder)
    for package in reader.PACKAGED.glob("*/manifest.json"):
        assert "file_sha256" in json.loads(package.read_text())


def test_what_cannot_be_read_is_not_called_damaged(copy, monkeypatch):
    """Too little memory and a refusal by the system leave the checkpoint where it is."""
    place = copy / layout.CHECKPOINTS / "5"

    def refuse(error):
        def read(*_, **__):
            raise error

        return read

    for error, match in (
        (MemoryError(), "5: not enough memory"),
        (ValueError("RESOURCE_EXHAUSTED: out of memory"), "5: not enough memory"),
    ):
        with pytest.raises(UserError, match=match), checkpoint_files.reading(place):
            raise error
    secret = place / "model" / "_METADATA"
    really_open = open

    def opened(path, *args, **kwargs):
        if os.fspath(path) == str(secret):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", opened)
    with (
        pytest.raises(UserError, match=r"5/model/_METADATA: cannot be read \(Permission denied\)"),
        checkpoint_files.reading(place),
    ):
        raise ValueError("any")
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint_files, "check_arrays", refuse(MemoryError()))
    with pytest.raises(UserError, match="5: not enough memory"):
        reader.load(str(copy), "last")
    saver = Checkpointer(copy)
    with pytest.raises(UserError, match="5: not enough memory"):
        saver.restore_latest(abstract())
    saver.close()
    assert checkpoint_files.steps(copy / layout.CHECKPOINTS) == [3, 4, 5]


def abstract():
    """The shapes of `state_at`, on one device."""
    import jax

    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_at(0)
    )


def test_numpy_and_jax_have_the_same_fingerprints():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 255, 2**20 + 12, np.uint8)
    arrays = {
        "f32": large[: 4 * 6 * 11].view(np.float32).reshape(3, 2, 11),
        "long": large.view(np.uint32),
        "f16": rng.normal(size=(5, 7)).astype(np.float16),
        "bf16": np.asarray(jnp.asarray(rng.normal(size=9), jnp.bfloat16)),
        "i32": np.int32([[-3], [5]]),
        "u8": large[:10],
        "bool": np.array([True, False]),
        "scalar": np.asarray(np.float32(0.5)),
        "empty": np.zeros((0, 3), np.float32),
    }
    there = fingerprint.fingerprint({k: jnp.asarray(v) for k, v in arrays.items()})
    assert fingerprint.fingerprint(arrays) == there
    # The same bytes in another shape or of another type are something else.
    for other in (arrays["f32"].reshape(2, 3, 11), arrays["f32"].view(np.int32)):
        assert fingerprint.fingerprint({"f32": other})["f32"] != there["f32"]


def test_fingerprints_of_version_0_1_0_are_verified():
    """They were the digits alone."""
    model = {"model": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}}
    digits = {k: v.split()[-1] for k, v in fingerprint.fingerprint(model).items()}
    checkpoint_files.check_arrays({"fingerprint": digits}, model)
    other = {"model": {"kernel": model["model"]["kernel"] + 1}}
    with pytest.raises(checkpoint_files.Damaged, match="kernel"):
        checkpoint_files.check_arrays({"fingerprint": digits}, other)
    with pytest.raises(checkpoint_files.Damaged, match="kernel"):
        checkpoint_files.check_arrays({"fingerprint": {}}, model)


def test_several_reads_that_fail_are_one_error(tmp_path, caplog):
    async def fail():
        raise ValueError("DATA_LOSS")

    async def read():
        first, *_ = (asyncio.ensure_future(fail()) for _ in range(3))
        await first

    with (
        pytest.raises(checkpoint_files.Damaged, match="DATA_LOSS"),
        checkpoint_files.reading(tmp_path),
    ):
        asyncio.run(read())
    gc.collect()
    assert not caplog.records
