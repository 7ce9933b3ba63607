"""From the recipe's command to images with captions."""

import json

import pytest

from tests.processes import call


@pytest.mark.slow
def test_a_run_writes_images_and_their_captions(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    done = call("main", "--config=configs/engravings.py:debug", f"--workdir={run}")
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((run / "report.json").read_text())
    names = ("psnr", "cider", "cider_nearest", "bleu4", "loop_rate", "distinct_captions")
    assert {f"engravings/{name}" for name in names} <= set(report)
    assert {p.name.split("_", 2)[2] for p in (run / "samples").glob("*.png")} == {
        "captions.png", "samples.png",
    }  # fmt: skip

    prompts = ["--prompt=a cat", "--prompt="]
    done = call("generate", f"--run={run}", *prompts, "--num=2", f"--out={out}", "--batch=3")
    assert done.returncode == 0, done.stderr[-2000:]
    manifests = [json.loads((out / f"{i:05d}.json").read_text()) for i in range(4)]
    assert [m["prompt"] for m in manifests] == ["a cat", "a cat", "", ""]
    assert all(isinstance(m["caption"], str) for m in manifests)
    # The prompt changes what a seed draws.
    pictures = [(out / f"{i:05d}.png").read_bytes() for i in range(4)]
    assert manifests[0]["seed"] == manifests[2]["seed"] and pictures[0] != pictures[2]
