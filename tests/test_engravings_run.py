"""From the recipe's command to images with captions."""

import json

import pytest
from PIL import Image

from tests.forks import call
from tests.processes import finish, losses, start_group


@pytest.mark.slow
def test_a_run_writes_images_and_their_captions(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    done = call("main", "--config=configs/engravings.py:debug", f"--workdir={run}")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((run / "report.json").read_text())
    names = (
        *("psnr", "cider", "cider_nearest", "bleu4", "kid_prior", "kid_normal", "kid_mixture"),
        *("coherence", "coherence_shuffled", "loop_rate", "copies"),
    )
    assert {f"engravings/{name}" for name in names} <= set(report)
    assert {p.name.split("_", 2)[2] for p in (run / "samples").glob("*.png")} == {
        "captions.png", "samples.png", "mixture.png", "normal.png", "nearest.png",
    }  # fmt: skip

    prompts = ["--prompt=a cat", "--prompt="]
    done = call("generate", f"--run={run}", *prompts, "--num=2", f"--out={out}", "--batch=3")
    assert done.returncode == 0, done.stderr[-2000:]
    manifests = [json.loads((out / f"{i:05d}.json").read_text()) for i in range(4)]
    assert [m["prompt"] for m in manifests] == ["a cat", "a cat", "", ""]
    assert all(isinstance(m["caption"], str) for m in manifests)
    with Image.open(out / "00002.png") as image:
        assert image.text.get("Description", "") == manifests[2]["caption"]
    # The prompt changes what a seed draws.
    pictures = [(out / f"{i:05d}.png").read_bytes() for i in range(4)]
    assert manifests[0]["seed"] == manifests[2]["seed"] and pictures[0] != pictures[2]

    # Neighbors begin with the seed itself, and an image is described and drawn by another's hand.
    for name, flags in (
        ("near", ["--near=0", "--num=3"]),
        ("walk", ["--interpolate=0,1", "--frames=3"]),
        ("image", [f"--image={out}/00000.png"]),
        ("mixed", [f"--image={out}/00000.png", f"--style_image={out}/00001.png"]),
    ):
        done = call("generate", f"--run={run}", *flags, f"--out={tmp_path / name}")
        assert done.returncode == 0, done.stderr[-2000:]
    first = [(tmp_path / name / "00000.png").read_bytes() for name in ("near", "walk")]
    assert first == [pictures[2], pictures[2]]
    assert (tmp_path / "image" / "00000.png").read_bytes() != (
        tmp_path / "mixed" / "00000.png"
    ).read_bytes()
    done = call("generate", f"--run={run}", "--image=nothing.png", f"--out={tmp_path / 'no'}")
    assert done.returncode == 2 and "nothing.png: No such file" in done.stderr
    assert not (tmp_path / "no").exists()


# Sharded equals one device: tests/tasks/test_contract.py. Evaluators: tests/test_reliability.py.
@pytest.mark.nightly
def test_two_processes_train_and_measure_as_one(tmp_path):
    config = "--config=configs/engravings.py:debug"
    run, workdir = tmp_path / "run", tmp_path / "two"
    done = call("main", config, f"--workdir={run}")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((run / "report.json").read_text())
    finish(start_group(2, config, f"--workdir={workdir}"))
    # The captions' dropout is drawn for the whole batch, so that only rounding differs.
    assert losses(workdir) == pytest.approx(losses(run), rel=1e-4)
    have = json.loads((workdir / "report.json").read_text())
    names = ("psnr", "ssim", "kid_prior", "cider_nearest")
    assert {n: have[f"engravings/{n}"] for n in names} == pytest.approx(
        {n: report[f"engravings/{n}"] for n in names}, rel=1e-2, abs=1e-3
    )
