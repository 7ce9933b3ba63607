"""From a folder of twelve pictures to samples by adjectives, through the doors."""

import json

import cv2
import numpy as np
import pytest

from tests.processes import call, one_line_error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of configs/art.py:debug on twelve pictures, and what its training printed."""
    base = tmp_path_factory.mktemp("art")
    (base / "pictures").mkdir()
    for seed in range(12):
        low = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
        picture = cv2.resize(low, (48, 48), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(base / "pictures" / f"{seed}.png"), picture)
    flags = [f"--source={base}/pictures", "--size=24", f"--out={base}/data", "--val_fraction=0.2"]
    assert call("prepare", *flags).returncode == 0
    done = call("main", f"--config=configs/art.py:debug,data={base}/data", f"--workdir={base}/run")
    assert done.returncode == 0, done.stderr[-2000:]
    return base / "run", done.stdout


@pytest.mark.slow
def test_twelve_pictures_train_and_the_report_warns(run):
    folder, printed = run
    assert "warning: the training split has" in printed
    for place in (folder, folder / "vqvae"):
        page = (place / "report.html").read_text()
        assert "learns so few by heart" in page and "data:image/png;base64" in page
        assert page.index("learns so few by heart") < page.index("<h2>")
    report = json.loads((folder / "report.json").read_text())
    assert {"art/adjective_accuracy/dark", "art/adjective_accuracy_shuffled"} <= set(report)
    first = json.loads((folder / "vqvae" / "report.json").read_text())
    assert {"vqvae/psnr", "vqvae/usage", "vqvae/ssim"} <= set(first)


@pytest.mark.slow
def test_pictures_are_made_of_words_and_odd_ones_are_named(run, tmp_path):
    folder, _ = run
    flags = [f"--run={folder}", "--prompt=calm, drak, not red", "--num=2", f"--out={tmp_path}/a"]
    done = call("generate", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "did you mean drab or dark?" in done.stdout and "ask for the opposite" in done.stdout
    manifest = json.loads((tmp_path / "a" / "00001.json").read_text())
    assert manifest["seed"] == 1 and manifest["prompt"] == "calm, drak, not red"
    assert manifest["guidance_scale"] == 2.0 and manifest["num_inference_steps"] == 3
    again = call("generate", *flags[:-1], "--batch=1", f"--out={tmp_path}/b")
    assert again.returncode == 0
    for name in ("00000.png", "00001.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    grid = ["--rows=dark,bright", "--columns=calm,lively,cold"]
    assert call("generate", f"--run={folder}", *grid, f"--out={tmp_path}/c").returncode == 0
    assert len(list((tmp_path / "c").glob("0*.png"))) == 6


@pytest.mark.slow
@pytest.mark.parametrize("flags,words", [
    (["--rows=dark"], "--rows and --columns"), (["--prompt=x", "--steps=0"], "--steps=0"),
    (["--prompt=x", "--interpolate=1,2"], "--interpolate"),
    (["--prompt=x", "--guidance=99"], "--guidance=99"),
    (["--prompt=x", "--temperature=-1"], "--temperature=-1"),
])  # fmt: skip
def test_wrong_flags_are_refused_in_a_line(run, tmp_path, flags, words):
    done = call("generate", f"--run={run[0]}", *flags, f"--out={tmp_path}/out")
    assert words in one_line_error(done)
    assert not (tmp_path / "out").exists()
