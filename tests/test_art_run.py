"""From a folder of twelve pictures to samples by adjectives, through the doors."""

import hashlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.forks import call, call_each
from tests.processes import ROOT, environment, one_line_error


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
    done = call(
        "main", f"--config=configs/art.py:debug,style,data={base}/data", f"--workdir={base}/run"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return base / "run", done.stdout


@pytest.mark.slow
def test_twelve_pictures_train_and_the_report_warns(run):
    folder, printed = run
    assert "warning: the training split has" in printed
    for place in (folder, folder / "vqvae"):
        page = (place / "report.html").read_text()
        assert "memorizes so few" in page and "data:image/png;base64" in page
        assert page.index("memorizes so few") < page.index("<h2>")
    report = json.loads((folder / "report.json").read_text())
    for control in ("shuffled", "empty"):
        assert 0 <= report[f"art/adjective_accuracy_{control}"] <= 1
    first = json.loads((folder / "vqvae" / "report.json").read_text())
    assert {"vqvae/psnr", "vqvae/usage", "vqvae/ssim"} <= set(first)
    assert (folder / "adjective_accuracy_by_step.png").is_file()
    assert list((folder / "samples").glob("*_word_attention.png"))


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
    # The run follows its text at guidance 2, and guides itself at guidance 1.
    guide = [f"--guiding_run={folder}", "--guiding_scale=20", f"--out={tmp_path}/e"]
    away = call("generate", *flags[:-1], *guide)
    assert away.returncode == 0, away.stderr[-2000:]
    manifest = json.loads((tmp_path / "e" / "00001.json").read_text())
    assert manifest["guiding_run"] == str(folder) and manifest["guiding_scale"] == 20.0
    assert manifest["guiding_sha256"] == manifest["weights_sha256"]
    pictures = [(tmp_path / name / "00001.png").read_bytes() for name in "ae"]
    assert pictures[0] != pictures[1]
    # The style of an image of the folder, which so few steps have not taught the prior to follow.
    like = folder.parent / "pictures" / "3.png"
    styled = call(
        "generate", *flags[:-1], "--weights=int8", f"--style_image={like}", f"--out={tmp_path}/f"
    )
    assert styled.returncode == 0, styled.stderr[-2000:]
    manifest = json.loads((tmp_path / "f" / "00001.json").read_text())
    assert manifest["weights"] == "int8" and manifest["style_image"] == str(like)
    assert manifest["style_image_sha256"] == hashlib.sha256(like.read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_run_is_measured_with_a_guide(run, tmp_path):
    flags = [f"--run={run[0]}", f"--guiding_run={run[0]}", "--guiding_scale=20"]
    done = call("evaluate", *flags, f"--out={tmp_path}/guided.json")
    assert done.returncode == 0, done.stderr[-2000:]
    guided = json.loads((tmp_path / "guided.json").read_text())
    own = json.loads((run[0] / "report.json").read_text())
    words = [k for k in own if k.startswith("art/adjective_")]
    assert words and any(guided[k] != own[k] for k in words)
    steps = call("evaluate", *flags[:1], "--steps=1", "--guidance=5", f"--out={tmp_path}/1.json")
    assert steps.returncode == 0, steps.stderr[-2000:]
    once = json.loads((tmp_path / "1.json").read_text())
    assert once.keys() == own.keys() and any(once[k] != own[k] for k in words)


@pytest.fixture(scope="module")
def detail(run, tmp_path_factory):
    """A run of configs/detail.py:debug on the VQ-VAE of `run`."""
    folder = tmp_path_factory.mktemp("detail") / "run"
    config = f"--config=configs/detail.py:debug,data={run[0].parent}/data"
    vqvae = f"--config.frozen.vqvae={run[0]}/vqvae"
    done = call("main", config, vqvae, f"--workdir={folder}")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_detail_is_trained_and_added(run, detail, tmp_path):
    report = json.loads((detail / "report.json").read_text())
    assert {"detail/psnr", "detail/psnr_decoded", "detail/contrast"} <= set(report)
    assert list((detail / "samples").glob("*_detail.png"))
    flags = [f"--run={run[0]}", "--prompt=dark", "--num=2"]
    for name, more in (("a", []), ("b", [f"--refiner={detail}"])):
        done = call("generate", *flags, *more, f"--out={tmp_path}/{name}")
        assert done.returncode == 0, done.stderr[-2000:]
    pictures = [(tmp_path / name / "00001.png").read_bytes() for name in "ab"]
    assert pictures[0] != pictures[1]
    manifest = json.loads((tmp_path / "b" / "00001.json").read_text())
    assert manifest["refiner"] == str(detail) and len(manifest["refiner_sha256"]) == 64
    wrong = call("generate", *flags, f"--refiner={run[0]}", f"--out={tmp_path}/c")
    assert "expected a run of configs/detail.py" in one_line_error(wrong)
    assert not (tmp_path / "c").exists()
    done = call("evaluate", f"--run={run[0]}", f"--refiner={detail}", f"--out={tmp_path}/d.json")
    assert done.returncode == 0, done.stderr[-2000:]
    fine, own = (json.loads(p.read_text()) for p in (tmp_path / "d.json", run[0] / "report.json"))
    assert fine.keys() == own.keys() and any(fine[k] != own[k] for k in own)


@pytest.mark.nightly
def test_settings_of_sampling_are_compared(run, detail, tmp_path):
    command = [sys.executable, "-m", "benchmarks.art_sampling", f"--runs={run[0]}", "--count=4"]
    command += ["--batch=2", f"--guide={run[0]}", f"--out={tmp_path}/out.json"]
    command += [f"--detail={detail}", f"--pictures={tmp_path}/pictures"]
    command += ["--settings", "steps=1", "weights=int8", "guide=3", "guide=1", "detail=1"]
    command += ["style=0"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    own, one_step, int8, away, same, fine, plain = json.loads((tmp_path / "out.json").read_text())[
        "rows"
    ]
    assert own["as_first"] == 1.0 and one_step["as_first"] < 1.0
    assert int8["mib"] < 0.5 * own["mib"] and own["mib"] == one_step["mib"]
    assert away["as_first"] < same["as_first"] == fine["as_first"] == 1.0
    assert fine["mib"] > own["mib"] and fine["kid"] != own["kid"]
    assert fine["to_reconstructions"] != own["to_reconstructions"]
    assert plain["mib"] == own["mib"]
    names = {path.stem.removeprefix("run_") for path in (tmp_path / "pictures").iterdir()}
    assert names >= {"details", "reconstructions", "random_codes", "own", "style=0", "detail=1"}
    assert done.stdout.count("| weights=int8 |") == 1


@pytest.mark.slow
def test_wrong_flags_are_refused_in_a_line(run, tmp_path):
    flags, words = zip(
        (["--rows=dark"], "--rows goes with --columns"), (["--prompt=x", "--steps=0"], "--steps=0"),
        (["--prompt=x", "--interpolate=1,2"], "--interpolate"),
        (["--prompt=x", "--guidance=99"], "--guidance=99"),
        (["--prompt=x", "--temperature=-1"], "--temperature=-1"),
        (["--prompt=x", "--weights=int4"], "--weights=int4"),
        (["--prompt=x", "--guiding_scale=3"], "--guiding_scale goes with --guiding_run"),
        (["--prompt=x", "--guiding_run=package:restore"], "needs runs of configs/art.py"),
        (["--prompt=x", "--style_image=none.png"], "none.png: No such file"),
    )  # fmt: skip
    commands = [[f"--run={run[0]}", *given, f"--out={tmp_path}/out"] for given in flags]
    for done, expected in zip(call_each("generate", *commands), words, strict=True):
        assert expected in one_line_error(done)
    assert not (tmp_path / "out").exists()
