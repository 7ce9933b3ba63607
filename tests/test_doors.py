"""The doors one after another, as a user goes through them, on a model of debug size."""

import html
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests import processes
from tests.forks import call, call_each
from tests.processes import one_line_error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished debug run that trained its autoencoder first, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "ldm"
    arg = "--config=configs/ldm.py:debug,vae=train"
    result = processes.call("main", arg, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr[-3000:]
    return workdir, result.stdout


def test_main_ends_with_table_report_and_grid(run):
    workdir, out = run
    report = json.loads((workdir / "report.json").read_text())
    assert {
        "ldm/prompt_accuracy", "ldm/prompt_accuracy_shuffled", "ldm/kid", "vae/psnr",
    } <= set(report)  # fmt: skip
    for name, number in report.items():
        assert f"{number:.4f}" in next(line for line in out.splitlines() if line.startswith(name))
    grid = next(line for line in out.splitlines()[::-1] if line.startswith("samples")).split()[1]
    assert Image.open(grid).size[0] > 100
    manifest = json.loads((workdir / "manifest.json").read_text())
    assert {"git", "config_sha256", "packages", "mesh", "seed", "data"} <= set(manifest)
    assert len(manifest["frozen_weights_sha256"]["vae"]) == 64
    assert (workdir / "vae" / "report.json").exists() and (workdir / "metrics.png").exists()


def test_the_page_of_a_run_explains_it(run):
    workdir, _ = run
    for folder in (workdir, workdir / "vae"):
        page = (folder / "report.html").read_text()
        for name in json.loads((folder / "report.json").read_text()):
            row = page[page.index(f"<td class=name>{name}<") :].split("<tr>")[0]
            assert "<td class=meaning></" not in row and not row.endswith("<td class=meaning>")
        config = html.escape((folder / "config.json").read_text().strip())
        assert f"<summary>The config</summary><pre>{config}</pre>" in page
        main = f"python -m gen_jax.main --config=configs/ldm.py:debug,vae=train --workdir={workdir}"
        assert main in html.unescape(re.sub("</?(span|i)>", "", page))
        assert ("gen_jax.generate" in page) == (folder == workdir)
    page = re.sub("</?(span|i)>", "", (workdir / "report.html").read_text())
    (sampled,) = re.findall(r"python -m gen_jax.generate --run=(\S+) --prompt=", page)
    assert sampled == str(workdir) and page.count("<li>") >= 4


def generate(run, out, *args, call=call):
    result = call("generate", f"--run={run[0]}", f"--out={out}", *args)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def pixels(path):
    return np.asarray(Image.open(path))


def test_generate_writes_pictures_manifests_and_a_grid(run, tmp_path):
    # A sampler that draws noise at every step, and more images than a batch.
    sampling = ("--sampler=ddpm", "--steps=3", "--prompt=a cat")
    out = generate(run, tmp_path / "a", *sampling, "--num=3", "--seed=5", "--batch=2")
    assert "grid.png" in out
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == [f"{i:05d}.{s}" for i in range(3) for s in ("json", "png")] + ["grid.png"]
    manifest = json.loads((tmp_path / "a" / "00002.json").read_text())
    assert manifest["prompt"] == "a cat" and manifest["seed"] == 7
    assert manifest["sampler"] == "ddpm" and len(manifest["weights_sha256"]) == 64

    # A picture depends on its seed and prompt alone: one at a time, the same.
    generate(run, tmp_path / "b", *sampling, "--num=1", "--seed=7")
    a, b = pixels(tmp_path / "a" / "00002.png"), pixels(tmp_path / "b" / "00000.png")
    assert np.abs(a.astype(int) - b).max() <= 1

    # What is there already is replaced on demand alone, and other files never.
    (tmp_path / "a" / "mine.png").write_bytes(b"mine")
    again = (f"--run={run[0]}", f"--out={tmp_path / 'a'}", *sampling, "--num=1", "--seed=7")
    assert "holds earlier results" in one_line_error(call("generate", *again))
    result = call("generate", *again, "--overwrite", "--negative=zorp", "--guidance=1")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "--negative has no effect" in result.stdout and "'zorp'" in result.stdout
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["00000.json", "00000.png", "grid.png", "mine.png"]


def test_generate_takes_any_prompt_and_interpolates(run, tmp_path):
    out = generate(
        run, tmp_path, f"--prompt={'word ' * 2000}", "--prompt=猫の写真 🐈", "--prompt=",
        "--negative=text", "--interpolate=1,2", "--frames=3", "--sampler=euler", "--steps=2",
        "--guidance_interval=0.5,1",
    )  # fmt: skip
    assert "longer than the 8 tokens" in out
    assert len(list(tmp_path.glob("0*.png"))) == 9
    manifest = json.loads((tmp_path / "00004.json").read_text())
    assert manifest["frame"] == 1
    assert manifest["guidance_interval"] == [0.5, 1.0]


def test_export_is_a_run(run, tmp_path):
    result = call("export", f"--run={run[0]}", f"--out={tmp_path / 'x'}")
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "x" / "vae" / "model.safetensors").exists()  # its autoencoder came along
    generate(run, tmp_path / "a", "--prompt=a cat", "--num=1")
    # In a process of its own, as users run it.
    own = processes.call
    generate((tmp_path / "x",), tmp_path / "b", "--prompt=a cat", "--num=1", call=own)
    np.testing.assert_array_equal(
        pixels(tmp_path / "a" / "00000.png"), pixels(tmp_path / "b" / "00000.png")
    )
    again = call("export", f"--run={run[0]}", f"--out={tmp_path / 'x'}")
    assert "not empty" in one_line_error(again)


def test_a_run_of_another_shape_is_no_diffusers_pipeline(run, tmp_path):
    result = call("export", f"--run={run[0]}", "--format=diffusers", f"--out={tmp_path / 'd'}")
    words = "is no Stable Diffusion pipeline: its UNet reads coordinates"
    assert words in one_line_error(result) and "use format=safetensors" in result.stderr
    assert not list(tmp_path.iterdir())


def test_evaluate_a_run(run, tmp_path):
    result = call("evaluate", f"--run={run[0]}", f"--out={tmp_path / 'm.json'}")
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = json.loads((tmp_path / "m.json").read_text())
    report = json.loads((run[0] / "report.json").read_text())
    assert set(metrics) == set(report)
    assert metrics["vae/psnr"] == pytest.approx(report["vae/psnr"], abs=1e-3)


def test_evaluate_two_folders(tmp_path):
    rng = np.random.default_rng(0)
    for name, shift in (("a", 0), ("b", 40)):
        (tmp_path / name).mkdir()
        for i in range(12):
            noise = rng.integers(0, 200, (40, 50, 3)) + shift
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    out = tmp_path / "m.json"
    found = {}
    for fake in ("a", "b"):
        args = (f"--real={tmp_path / 'a'}", f"--fake={tmp_path / fake}", f"--out={out}")
        result = call("evaluate", *args, "--size=32")
        assert result.returncode == 0, result.stderr[-3000:]
        found[fake] = json.loads(out.read_text())
    assert found["a"]["fd_untrained"] == pytest.approx(0.0, abs=1e-6)
    fd = found["b"]["fd_untrained"]
    assert fd > 1.0
    assert found["a"]["ssim"] == pytest.approx(1.0) and found["b"]["psnr"] < 20
    assert found["b"]["fd_untrained_low"] <= fd <= found["b"]["fd_untrained_high"]


def test_evaluate_a_restorer(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(60, 200, (12, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{i}.png")
    result = call(
        "evaluate", "--benchmark=denoise_gray", f"--images={tmp_path / 'a'}", "--sigma=15",
        "--restorer=identity", f"--out={tmp_path / 'm.json'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads((tmp_path / "m.json").read_text())
    assert 23 < found["psnr"] < 26 and found["n"] == 2 and found["sigma"] == 15
    assert "denoise_gray 2/2" in result.stdout  # the progress line
    assert f"{found['psnr']:.2f}" in result.stdout.splitlines()[-2]


MISTAKES = [
    ("generate", ("--run=/nowhere", "--prompt=x", "--out=o"), "no such folder"),
    ("generate", ("--run=tests", "--prompt=x", "--out=o"), "config.json"),
    ("generate", ("--run=package:none", "--prompt=x", "--out=o"), "vae_photos"),
    ("generate", ("--run=package:vae_photos", "--prompt=x", "--out=o"), "does not generate"),
    ("generate", ("--run=x", "--prompt=x", "--out=o", "--interpolate=1"), "two seeds"),
    ("generate", ("--run=x", "--prompt=x", "--out=o", "--size=64"), "--size=64: expected WIDTHxHE"),
    ("generate", ("--run=x", "--out=o", "--mask=m.png"), "--mask goes with --image"),
    (
        "generate",
        ("--run=x", "--out=o", "--image=a.png", "--interpolate=1,2"),
        "--interpolate does not go with --image",
    ),
    (
        "generate",
        ("--run=x", "--prompt=x", "--out=o", "--guidance=nan"),
        "--guidance=nan: expected a number from 0 to 50",
    ),
    (
        "generate",
        ("--run=x", "--prompt=x", "--out=o", "--seed=4294967295", "--num=2"),
        "2 seeds from there pass the largest one",
    ),
    (
        "generate",
        ("--run=x", "--prompt=x", "--out=pyproject.toml"),
        "--out=pyproject.toml: is a file",
    ),
    (
        "generate",
        ("--run=x", "--prompt=x", "--out=o", "--guidance_interval=1"),
        "expected LOW,HIGH",
    ),
    ("evaluate", ("--real=tests", "--fake=tests", "--out=o.json"), "no image in this folder"),
    (
        "evaluate",
        ("--real=tests", "--fake=tests", "--metrics=fid,is", "--out=o.json"),
        "unknown metric 'is'",
    ),
    ("evaluate", ("--run=x", "--out=tests"), "--out=tests: is a folder, expected a file"),
    ("evaluate", ("--run=x", "--restorer=identity", "--out=o.json"), "goes with --benchmark"),
    ("evaluate", ("--benchmark=jpeg", "--out=o.json"), "needs --images="),
    (
        "evaluate",
        ("--real=a", "--fake=b", "--guiding_run=c", "--out=o.json"),
        "--guiding_run goes with --run",
    ),
    (
        "evaluate",
        ("--real=a", "--fake=b", "--refiner=c", "--out=o.json"),
        "--refiner goes with --run",
    ),
    (
        "evaluate",
        ("--real=a", "--fake=b", "--steps=4", "--out=o.json"),
        "--steps goes with --run",
    ),
    ("evaluate", ("--run=x", "--guiding_scale=3", "--out=o.json"), "goes with --guiding_run"),
    (
        "evaluate",
        (
            "--benchmark=jpeg",
            "--images=x",
            "--restorer=identity",
            "--guiding_run=c",
            "--out=o.json",
        ),
        "--guiding_run does not go with --benchmark",
    ),
    ("export", ("--run=/nowhere", "--out=o"), "no such folder"),
]


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_mistakes_are_one_line(command):
    given, words = zip(*(rest for name, *rest in MISTAKES if name == command))
    for done, expected in zip(call_each(command, *given), words, strict=True):
        assert expected in one_line_error(done), done.args
