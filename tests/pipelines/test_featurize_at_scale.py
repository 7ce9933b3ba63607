"""featurize on 1,200 faces as real processes, and what the forms cost at a real tower's size."""

import random
import signal
import time
import zipfile

import jax
import numpy as np
import pytest

from gen_jax.data.features import feature_set
from gen_jax.data.load import loader, steps
from gen_jax.data.prepare import build, plan
from gen_jax.encoders import dinov2
from tests import tiny_towers
from tests.processes import environment, finish, start

pytestmark = pytest.mark.slow


def unzip_faces(shared, folder, count):
    """Aligned faces of 256 x 256 pixels."""
    folder.mkdir()
    with zipfile.ZipFile(shared / "faces.zip") as archive:
        names = [n for n in archive.namelist() if "faces256/" in n and n.endswith(".jpg")]
        for name in sorted(names)[:count]:
            (folder / name.rsplit("/", 1)[1]).write_bytes(archive.read(name))


def prepare(source, out):
    rules = plan.Rules(val_fraction=0.0, test_fraction=0.0)
    build.prepare(build.Options(source=str(source), out=str(out), rules=rules))


@pytest.fixture(scope="module")
def faces(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    unzip_faces(shared, folder / "files", 1200)
    prepare(folder / "files", folder / "data")
    tiny_towers.dinov2_folder(
        folder / "tower", hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        patch_size=8, image_size=64,
    )  # fmt: skip
    return folder


def featurize(faces, out, **env):
    return start(
        "featurize", f"--data={faces / 'data'}", f"--encoder=dinov2-small:{faces / 'tower'}",
        f"--out={out}", "--grids=4,8", "--shard_records=100",
        env=environment(**env),
    )  # fmt: skip


def digests(out):
    return {name: of["sha256"] for name, of in feature_set.load(out).shards.items()}


def test_one_process_two_and_killed_ones_make_the_same_bytes(faces, tmp_path):
    finish([featurize(faces, tmp_path / "one")])
    want = digests(tmp_path / "one")
    assert len(want) == 12 and feature_set.load(tmp_path / "one").images >= 1190

    two = {"JAX_NUM_PROCESSES": "2"}
    finish([featurize(faces, tmp_path / "two", JAX_PROCESS_ID=str(i), **two) for i in range(2)])
    assert digests(tmp_path / "two") == want

    rng, out, killed = random.Random(0), tmp_path / "killed", 0
    for _ in range(3):
        had = len(list(out.glob("*.arrayrecord")))
        process = featurize(faces, out)
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if len(list(out.glob("*.arrayrecord"))) > had:
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 2 and not (out / feature_set.FILE).exists()
    finish([featurize(faces, out)])
    assert digests(out) == want and not list(out.glob(".*.tmp"))


@pytest.fixture(scope="module")
def vit_s(shared, tmp_path_factory):
    """Eight faces, and a tower of ViT-S's width: the depth changes no size."""
    folder = tmp_path_factory.mktemp("vit_s")
    unzip_faces(shared, folder / "files", 8)
    prepare(folder / "files", folder / "data")
    tiny_towers.dinov2_folder(
        folder / "tower", **{**dinov2.PRESETS["dinov2-small"], "num_hidden_layers": 2}
    )
    return folder


@pytest.mark.parametrize("store, limit", [("int8", 0.55e6), ("pca64-int8", 0.12e6)])
def test_size_and_fidelity_of_a_pyramid(vit_s, tmp_path, store, limit):
    from gen_jax.pipelines.features import job
    from gen_jax.pipelines.features.plan import Options

    info = job.featurize(
        Options(
            data=str(vit_s / "data"),
            encoder=f"dinov2-small:{vit_s / 'tower'}",
            out=str(tmp_path / "f"),
            store=store,
            batch_size=2,
        )
    ).info
    print(store, info.bytes_per_image, info.cosine_mean, info.cosine_p1)
    assert info.bytes_per_image <= limit
    if store == "int8":
        assert info.cosine_mean >= 0.999 and info.cosine_p1 >= 0.995
    pyramid = feature_set.pyramid(tmp_path / "f")
    select = steps.select(*feature_set.keys(info))
    with loader.make_loader(
        tmp_path / "f", "train", batch_size=2, seed=0, transform=select
    ) as batches:
        batch = next(batches)
    found = jax.jit(lambda b: pyramid.levels(b, (4, 8, 16, 32, 64)))(batch)
    assert {n: x.shape for n, x in found.items()} == {n: (2, n, n, 384) for n in (4, 8, 16, 32, 64)}
    for n in (4, 8, 16, 32):
        basis = feature_set.bases(tmp_path / "f", info)
        native = feature_set.decode(batch, f"patches_{n}", basis)
        np.testing.assert_allclose(found[n], native, atol=1e-5)
    want = jax.image.resize(found[32], (2, 64, 64, 384), "bilinear")
    np.testing.assert_allclose(found[64], want, atol=1e-5)
