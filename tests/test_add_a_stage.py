"""The stage and the network of docs/add-a-stage.md, added to a copy by the page's own blocks."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CACHE
from tests.forks import call
from tests.processes import ROOT, environment

PAGE = (ROOT / "docs/add-a-stage.md").read_text()
# A block follows the name of its file, or the name of a file and the table that it is a line of.
FILES = re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.M | re.S)
LINES = re.findall(r"^In `([\w/]+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.M | re.S)
TABLES = {"gen_jax/tasks/__init__.py": "TASKS = {\n", "gen_jax/tasks/restore.py": "NETWORKS = {\n"}


def test_the_page_has_a_task_a_line_and_a_config_and_no_more():
    names = [name for name, _ in FILES]
    assert names == [
        "gen_jax/tasks/pixel_flow.py",
        "configs/pixel_flow.py",
        "gen_jax/models/wide_net.py",
    ]
    assert [name for name, _ in LINES] == list(TABLES)
    assert all(block.count("\n") == 1 for _, block in LINES)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the page's blocks in it, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("gen_jax", "configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, block in FILES:
        assert not (folder / name).exists()
        (folder / name).write_text(block)
    for name, line in LINES:
        text = (folder / name).read_text()
        assert text.count(TABLES[name]) == 1
        (folder / name).write_text(text.replace(TABLES[name], TABLES[name] + line))
    return folder


def run(project, command, *arguments):
    done = call(command, *map(str, arguments), root=project)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_stage_of_one_file_one_line_and_one_config_does_everything(project, tmp_path):
    folder = tmp_path / "run"
    train = ("main", "--config=configs/pixel_flow.py:debug", f"--workdir={folder}")
    run(project, *train, "--config.training.checkpoint_every=2")
    report = json.loads((folder / "report.json").read_text())
    assert np.isfinite(report["pixel_flow/fd_untrained"])
    # Resumed: the last checkpoint is removed, and the same command makes it again.
    shutil.rmtree(folder / "checkpoints" / "4")
    (folder / "done.json").unlink()
    again = run(project, *train, "--config.training.checkpoint_every=2")
    assert "resumed from step 2" in again
    assert json.loads((folder / "report.json").read_text()) == report

    out = tmp_path / "images"
    run(project, "generate", f"--run={folder}", "--num=3", "--steps=3", f"--out={out}")
    first = np.asarray(Image.open(out / "00000.png"))
    assert first.shape == (16, 16, 3) and first.std() > 0
    assert json.loads((out / "00001.json").read_text())["num_inference_steps"] == 3
    numbers = tmp_path / "metrics.json"
    run(project, "evaluate", f"--run={folder}", f"--out={numbers}")
    assert json.loads(numbers.read_text()) == pytest.approx(report)
    exported = tmp_path / "exported"
    run(project, "export", f"--run={folder}", f"--out={exported}")
    run(project, "generate", f"--run={exported}", "--num=1", f"--out={tmp_path / 'b'}",
        "--steps=3")  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b" / "00000.png")), first)


@pytest.mark.slow
def test_the_contract_tests_cover_the_new_stage(project):
    env = environment() | {"GEN_JAX_TEST_CACHE": str(CACHE), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "-v",
         "tests/tasks/test_contract.py", "-k", "pixel_flow or debug_config"],
        cwd=project, env={k: v for k, v in env.items() if k != "PYTEST_CURRENT_TEST"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("PASSED") >= 6 and "SKIPPED" not in done.stdout


@pytest.mark.slow
def test_a_network_of_one_file_and_one_line_restores(project, tmp_path):
    folder = tmp_path / "run"
    run(project, "main", "--config=configs/restore.py:variant=wide_net,debug",
        f"--workdir={folder}")  # fmt: skip
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(photo)
    out = tmp_path / "restored.png"
    run(project, "restore", photo, f"--run={folder}", f"--out={out}")
    restored = np.asarray(Image.open(out))
    assert restored.shape == (40, 50, 3)
    assert (restored != np.asarray(Image.open(photo))).any()
    assert os.path.getsize(out) > 100
