"""featurize: the same bytes however it is run, true to the tower, and robust against bad input."""

import dataclasses
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_jax import encoders
from gen_jax.common import checksum
from gen_jax.common.errors import UserError
from gen_jax.data import dataset, schema, shards
from gen_jax.data.features import feature_set
from gen_jax.data.features.codec import Store
from gen_jax.data.load import loader, steps
from gen_jax.encoders import preprocess, text_tokenizer
from gen_jax.encoders.extractors import of_images
from gen_jax.pipelines.features import job, maker, reading, towers
from gen_jax.pipelines.features.plan import Options
from gen_jax.pipelines.features.program import Program
from tests import tiny_text, tiny_towers

FIELDS = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, patch_size=4, image_size=16
)


@pytest.fixture(scope="module", autouse=True)
def _traced_once():
    """Has jobs with the same options share tower and program: tracing them takes most of a job.

    Processes that share nothing are compared in test_featurize_at_scale.py.
    """
    towers_of, programs, open_tower = {}, {}, towers.open_tower

    def shared_tower(options):
        free = dict(data="", out="", task=None, tasks=None, max_bad=0, splits=())
        key = dataclasses.replace(options, **free)
        if key not in towers_of:
            towers_of[key] = open_tower(options)
        return towers_of[key]

    def shared_program(extractor, params, store, bases):
        if bases:  # the program's own
            return Program(extractor, params, store, bases)
        key = (id(extractor), store)
        if key not in programs:
            programs[key] = Program(extractor, params, store, bases)
        return programs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(towers, "open_tower", shared_tower)
        patch.setattr(job, "Program", shared_program)
        yield


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower") / "tiny"
    return folder, *tiny_towers.dinov2_folder(folder, **FIELDS)


def options(tower, photos, out, **changes):
    given = dict(
        data=str(photos), encoder=f"dinov2-small:{tower[0]}", out=str(out), grids=(2, 4),
        batch_size=8, shard_records=48,
    )  # fmt: skip
    return Options(**{**given, **changes})


@pytest.fixture(scope="module")
def made(tower, photos, tmp_path_factory):
    """Features made by one task."""
    out = tmp_path_factory.mktemp("features") / "whole"
    return out, job.featurize(options(tower, photos, out)).info


def digests(out):
    return {name: of["sha256"] for name, of in feature_set.load(out).shards.items()}


def test_description_is_true(made, photos):
    out, info = made
    count = sum(map(dataset.load(photos).num_records, dataset.load(photos).splits))
    assert info.images == count and not info.skipped
    size = sum(p.stat().st_size for p in out.glob("*.arrayrecord"))
    assert info.bytes_per_image == pytest.approx(size / count)
    assert {n: o["shape"] for n, o in info.outputs.items()} == {
        "patches_2": [2, 2, 24], "patches_4": [4, 4, 24], "cls_2": [24], "cls_4": [24],
    }  # fmt: skip
    assert info.outputs["patches_4"]["input"] == 16
    assert 0.999 < info.cosine_p1 <= info.cosine_mean <= 1.0
    for name, of in info.shards.items():
        assert of["sha256"] == checksum.of_file(out / name)
    assert not list(out.glob(".*.tmp"))


def test_two_tasks_and_interrupted_ones_make_the_same_bytes(
    made, tower, photos, tmp_path, monkeypatch
):
    want = digests(made[0])
    assert len(want) >= 5
    first = job.featurize(options(tower, photos, tmp_path / "two", task=1, tasks=2))
    assert first.info is None and 0 < first.left < len(want)
    job.featurize(options(tower, photos, tmp_path / "two", task=0, tasks=2))
    assert digests(tmp_path / "two") == want

    calls = []

    def dying(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *args)

    real = maker.Maker._joined
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(maker.Maker, "_joined", dying)
        with pytest.raises(KeyboardInterrupt):
            job.featurize(options(tower, photos, out))
    assert not (out / feature_set.FILE).exists()
    with pytest.raises(UserError, match=r"no features\.json here.*not finished"):
        feature_set.load(out)
    (out / ".train-00000-of-00004.arrayrecord.0123abcd.tmp").write_bytes(b"left by kill -9")
    shard = next(iter(sorted(out.glob("*.arrayrecord"))))
    shard.write_bytes(shard.read_bytes()[:-1])  # and one that the disk damaged
    outcome = job.featurize(options(tower, photos, out))
    assert outcome.shards == len(want) - 2 and digests(out) == want
    assert not list(out.glob(".*.tmp"))
    again = job.featurize(options(tower, photos, out))
    assert again.shards == 0 and again.info == feature_set.load(out)


def test_features_are_the_towers_through_the_loader(made, tower, photos):
    out, info = made
    _, module, params = tower
    pyramid = feature_set.pyramid(out)
    select = steps.select(*feature_set.keys(info), "label")
    with (
        loader.make_loader(out, "val", batch_size=4, seed=0, transform=select) as ours,
        loader.make_loader(photos, "val", batch_size=4, seed=0) as theirs,
    ):
        found, images = next(ours), next(theirs)
        keys = ours.keys(found["index"])
        assert keys == theirs.keys(images["index"])
    # Stored by position, so that shuffled batches of both data sets go together.
    np.testing.assert_array_equal(found["index"], images["index"])
    squares = np.stack([reading.square(image, 16) for image in images["image"]])
    want = jax.jit(module.apply)({"params": params}, preprocess.normalize(squares, "dinov2-small"))
    level = np.asarray(pyramid.level(found, 4))
    step_sizes = found["patches_4.scale"][:, None, None]
    assert (np.abs(level - want["patches"]) <= 0.51 * step_sizes).all()
    cls = feature_set.decode(found, "cls_4")
    np.testing.assert_allclose(cls, want["cls"], rtol=2**-7, atol=1e-3)
    assert pyramid.level(found, 64).shape == (4, 64, 64, 24)


def test_pca_is_fitted_once_and_read_back(tower, photos, tmp_path):
    how = dict(store="pca8-int8", splits=("val",), shard_records=4, grids=(4,))
    info = job.featurize(options(tower, photos, tmp_path / "a", **how)).info
    assert info.outputs["patches_4"]["shape"] == [4, 4, 24]
    assert 0.1 < info.outputs["patches_4"]["explained"] <= 1.0
    for task in (1, 0):
        job.featurize(options(tower, photos, tmp_path / "b", **how, task=task, tasks=2))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    with loader.make_loader(
        tmp_path / "a",
        "val",
        batch_size=2,
        seed=0,
        transform=steps.select(*feature_set.keys(info)),
    ) as batches:
        batch = next(batches)
    assert batch["patches_4"].shape == (2, 4, 4, 8)
    assert feature_set.pyramid(tmp_path / "a").level(batch, 8).shape == (2, 8, 8, 24)
    bases = tmp_path / "a" / feature_set.BASES
    bases.write_bytes(bases.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"pca\.safetensors: its SHA-256 is not"):
        feature_set.pyramid(tmp_path / "a")


def test_devices_change_no_more_than_rounding(tower):
    _, module, params = tower
    extractor = of_images("dinov2-small", module, "0,last", (4,))
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    store = Store.parse("int8")
    eight = Program(extractor, params, store, {})
    assert eight.num_devices == 8
    many = jax.device_get(eight({"image_16": images}))
    one = Program(extractor, params, store, {}, jax.local_devices()[:1])
    alone = jax.device_get(one({"image_16": images}))
    assert {"layer0.patches_4", "layer1.patches_4", "layer1.cls_4"} <= set(alone.arrays)
    for name, array in alone.arrays.items():
        if array.dtype == np.int8:
            wrong = np.abs(array.astype(int) - many.arrays[name])
            assert wrong.max() <= 1 and (wrong > 0).mean() < 1e-3
        else:
            np.testing.assert_allclose(
                array.astype(np.float32), many.arrays[name].astype(np.float32), rtol=2**-7
            )


def damaged_copy(photos, folder):
    """The validation split with one image that does not decode, properly described."""
    info = dataset.load(photos)
    records = dataset.records_of(photos, info, "val")
    payloads = []
    for i in range(len(records)):
        record = schema.unpack(records[i])
        if i == 2:
            record = schema.Record(**{**vars(record), "image": b"no image"})
        payloads.append(schema.pack(record))
    folder.mkdir()
    name = shards.shard_name("val", 0, 1)
    written = shards.write_shard(folder / name, payloads)
    shard = dataset.Shard(name, *written)
    changed = {**vars(info), "splits": {"val": (shard,)}}
    dataset.write(folder, dataset.DatasetInfo(**changed))
    return schema.unpack(payloads[2]).key


def test_an_image_that_does_not_decode_is_named_and_stepped_over(tower, photos, tmp_path):
    key = damaged_copy(photos, tmp_path / "data")
    info = job.featurize(options(tower, tmp_path / "data", tmp_path / "f")).info
    assert list(info.skipped) == [key] and "cannot decode" in info.skipped[key]
    count = dataset.load(tmp_path / "f").num_records("val")
    assert info.images == count - 1
    select = steps.select("cls_4")
    with loader.make_loader(
        tmp_path / "f", "val", batch_size=count, seed=0, shuffle=False, transform=select
    ) as batches:
        batch = next(batches)
    assert np.isfinite(batch["cls_4"].astype(np.float32)).all()
    assert batch["index"][2] == 3  # its neighbour stands in
    with pytest.raises(UserError, match=rf"{key} cannot be read.*more than max_bad=0"):
        job.featurize(options(tower, tmp_path / "data", tmp_path / "g", max_bad=0))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(layers="7"), r"layers=7: '7' is not a layer of dinov2-small: expected last, pooled"),
        (dict(layers="0,-2"), "a layer is named twice"),
        (dict(grids=(4, 4)), "grids="),
        (dict(grids=(0,)), "grids: 0 is not a number of tokens"),
        (dict(store="int4"), "store=int4"),
        (
            dict(store="pca24-int8"),
            r"store=pca24-int8: dinov2-small has no features of more than 24",
        ),
        (dict(encoder="dino"), "encoder 'dino' is unknown: expected one of"),
        (dict(encoder="dinov2-small:nowhere"), "weights 'nowhere': no such file or folder"),
        (dict(encoder="vae"), "encoder=vae: name the autoencoder after a colon"),
        (dict(encoder="vae:package:vae_photos", layers="0"), "only has a mean and"),
        (dict(splits=("all",)), "no split 'all'; it has train, val, test"),
        (dict(data="nowhere"), r"nowhere: no dataset\.json here; prepare the data first"),
        (dict(dtype="float16"), "dtype=float16: expected float32 or bfloat16"),
        (dict(batch_size=0), "batch_size=0: expected a whole number from 1"),
        (dict(task=2, tasks=2), "task 2 of 2: expected a number from 0"),
        (dict(task=2), "task and tasks belong together"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(tower, photos, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        job.featurize(options(tower, photos, tmp_path / "f", **changes))
    assert not (tmp_path / "f").exists()


def test_a_folder_of_something_else_is_left_alone(made, tower, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made[0], copy)
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    with pytest.raises(UserError, match="holds features of other data, another encoder or other"):
        job.featurize(options(tower, photos, copy, store="bf16"))
    with pytest.raises(UserError, match="holds files that are not featurize's"):
        job.featurize(options(tower, photos, photos))
    assert before == {p: p.stat().st_mtime_ns for p in copy.rglob("*")}


def test_latents_of_an_autoencoder(photos, tmp_path):
    how = dict(encoder="vae:package:vae_photos", splits=("val",), image_size=32, store="bf16")
    info = job.featurize(options((None,), photos, tmp_path / "f", **how)).info
    assert {n: o["shape"] for n, o in info.outputs.items()} == {
        "mean": [8, 8, 4], "deviation": [8, 8, 4],
    }  # fmt: skip
    assert info.outputs["deviation"]["mean"] > 0 and info.cosine_p1 > 0.999
    with loader.make_loader(
        tmp_path / "f", "val", batch_size=2, seed=0, transform=steps.select("mean")
    ) as batches:
        assert next(batches)["mean"].dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", ["clip", "distilbert"])
def test_captions_are_read_by_text_towers(photos, tmp_path, kind):
    folder = tiny_text.tower_folder(kind, tmp_path / "tower")
    name = {"clip": "clip-vit-base-patch32-text", "distilbert": "distilbert-base-uncased"}[kind]
    how = dict(encoder=f"{name}:{folder}", splits=("val",), captions=7, layers="pooled,last")
    info = job.featurize(options((None,), photos, tmp_path / "f", **how)).info
    width = {"clip": 16, "distilbert": 24}[kind]
    assert {n: o["shape"] for n, o in info.outputs.items()} == {
        "embedding": [7, width], "tokens": [7, 8, width], "token_mask": [7, 8, 1],
    }  # fmt: skip
    with loader.make_loader(
        tmp_path / "f",
        "val",
        batch_size=2,
        seed=0,
        transform=steps.select(*feature_set.keys(info)),
    ) as batches:
        batch = next(batches)
        (record, _) = batches.records(batch["index"])
    module, params = encoders.load(name, folder)
    tokenizer = text_tokenizer.find(name, module, folder)
    texts = [record.captions[i % len(record.captions)] for i in range(7)]
    encoded = tokenizer.encode(texts, 8)
    given = (encoded.ids,) if kind == "clip" else (encoded.ids, encoded.mask)
    out = jax.jit(module.apply)({"params": params}, *map(jnp.asarray, given))
    want = out["last_hidden_state"]
    mask = feature_set.decode(batch, "token_mask")[0]
    np.testing.assert_allclose(mask[..., 0], encoded.mask, atol=1e-6)
    found = feature_set.decode(batch, "tokens")[0]
    assert (np.abs(found - want) <= 0.51 * batch["tokens.scale"][0]).all()
    if kind == "clip":
        return
    # The mask has fewer channels than components: it has no basis, the states have.
    info = job.featurize(options((None,), photos, tmp_path / "p", **how, store="pca4-int8")).info
    assert {n for n, of in info.outputs.items() if "explained" in of} == {"embedding", "tokens"}


@pytest.mark.parametrize(
    "env, expected",
    [
        ({}, (0, 1)),
        ({"JAX_PROCESS_ID": "1", "JAX_NUM_PROCESSES": "4"}, (1, 4)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "5",
                "SLURM_PROCID": "1", "SLURM_NTASKS": "2",
            },
            (5, 10),
        ),
        ({"JOB_COMPLETION_INDEX": "6", "JOB_COMPLETIONS": "7"}, (6, 7)),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, (1, 2)),
    ],
)  # fmt: skip
def test_a_task_finds_its_number(monkeypatch, env, expected):
    from gen_jax.parallel import job_array

    for name in os.environ:
        if name.startswith(("SLURM_", "JAX_PROCESS", "JAX_NUM", "JOB_COMPLETION", "TPU_WORKER")):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert job_array.task_of() == expected
    if "JOB_COMPLETIONS" in env:
        monkeypatch.delenv("JOB_COMPLETIONS")
        with pytest.raises(UserError, match="JOB_COMPLETION_INDEX is set but JOB_COMPLETIONS"):
            job_array.task_of()
