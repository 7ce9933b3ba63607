"""A head by the commands that a user types: prepare, train, evaluate."""

import json

import numpy as np
import pytest
from PIL import Image

from gen_jax.pipelines.heads import Head
from gen_jax.runs import reader
from tests.processes import call

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Own images with label maps of three values, one of them ignored."""
    root = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(0)
    for index in range(40):
        mask = np.kron(rng.choice([10, 20, 255], (4, 4), p=[0.5, 0.4, 0.1]), np.ones((10, 10)))
        image = mask[..., None] + rng.integers(0, 30, (40, 40, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / f"{index}.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / f"{index}_mask.png")
    return root


def succeeded(*arguments):
    result = call(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_own_images_with_masks_are_learnt_and_measured(fields, tmp_path):
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "metrics.json"
    pattern = "--masks={folder}/{stem}_mask.png"
    options = ("--val_fraction=0.3", "--nonear_duplicates", "--workers=1")
    succeeded("prepare", f"--source={fields}", pattern, f"--out={data}", *options)
    values = ("--config.data.transform.label_values=(10, 20)",)
    values += ("--config.data.transform.ignored_values=(255,)",)
    config = f"--config=configs/heads.py:debug,data={data}"
    succeeded("main", config, f"--workdir={run}", *values)
    assert "heads/miou" in json.loads((run / "report.json").read_text())
    assert list((run / "samples").glob("*.png"))
    succeeded("evaluate", f"--run={run}", f"--out={out}")
    assert 0 <= json.loads(out.read_text())["heads/miou"] <= 1
    head = Head(reader.load(str(run)))
    image = np.zeros((30, 50, 3), np.uint8)
    assert head.read(image=image)["mask"].shape == (30, 50)


@pytest.mark.parametrize(("head", "metric"), [("plates", "plate_exact"), ("change", "change_f1")])
def test_embedded_data_needs_no_preparation(head, metric, tmp_path):
    run = tmp_path / "run"
    small = ("--config.data.num=60", "--config.training.num_steps=2")
    succeeded("main", f"--config=configs/heads.py:head={head},debug", f"--workdir={run}", *small)
    assert f"heads/{metric}" in json.loads((run / "report.json").read_text())
