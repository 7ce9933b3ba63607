"""The benchmarks start, measure and say what they could not measure."""

import argparse
import json
import sys
import types

import numpy as np
import pytest

from benchmarks import (
    art_sampling,
    contest,
    day_figures,
    face_objectives,
    restore,
    restore_ablations,
    sampling,
    train_step,
)
from benchmarks import faces as face_speed
from benchmarks import vqvae as vqvae_speed
from gen_jax.models import presets
from tests import tiny_networks


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a benchmark's main with our own contestant alone, and gives what it printed."""

    def run(module, *args):
        monkeypatch.setattr(module, "CONTESTANTS", {"gen_jax": None})
        monkeypatch.setattr(sys, "argv", ["benchmark", "--size=tiny", "--batch=1", *args])
        module.main()
        return capsys.readouterr().out

    return run


def test_sampling_prints_a_table_and_writes_its_numbers(call, tmp_path):
    file = tmp_path / "numbers.json"
    out = call(sampling, "--samplers", "euler", "--steps=2", "--repeats=2", f"--out={file}")
    assert "UNet tiny, batch 1, float32, 2 steps" in out and "\ngen_jax " in out
    report = json.loads(file.read_text())
    (row,) = report["rows"]
    assert len(row["seconds"]) == 2 and 0 < row["median"] < row["first"]
    assert report["ours_over_fastest"] == {"euler": None}


@pytest.mark.nightly
def test_train_step_prints_a_table_and_writes_its_numbers(call, tmp_path):
    file = tmp_path / "numbers.json"
    out = call(train_step, "--steps=1", "--warmup=0", f"--out={file}")
    assert out.splitlines()[-1].startswith("gen_jax ") and out.split()[-1] == "1.00"
    measured = day_figures.of_steps(file)
    assert measured.figures["images/s"] > 0 and measured.device.startswith("cpu, jax")


@pytest.mark.nightly
def test_restore_prints_a_table_for_each_run(monkeypatch, capsys, tmp_path):
    file = tmp_path / "numbers.json"
    size = "--dim=16 --head_dim=8 --depth=1 --size=64 --crop=64 --batch=1 --repeats=2"
    monkeypatch.setattr(restore, "CONTESTANTS", {"gen_jax": None})
    monkeypatch.setattr(sys, "argv", ["benchmark", *size.split(), f"--out={file}"])
    restore.main()
    assert "SCUNet forward, 64 px, batch 1, 3 channels" in capsys.readouterr().out
    results = json.loads(file.read_text())["results"]
    for run in ("forward", "train"):
        (row,) = results[run]["rows"]
        assert len(row["seconds"]) == 2 and 0 < row["median"] < row["first"]


@pytest.mark.slow
def test_faces_prints_a_table_for_each_resolution(monkeypatch, capsys, tmp_path):
    file = tmp_path / "numbers.json"
    monkeypatch.setattr(
        sys, "argv", ["benchmark", *["--res", "16", "--batch=1", "--repeats=2"], f"--out={file}"]
    )
    face_speed.main()
    assert "train 16, batch 1, float32" in capsys.readouterr().out
    results = json.loads(file.read_text())["results"]
    assert {name: rows[0]["who"] for name, rows in results.items()} == {
        "sample 16": "gen_jax",
        "train 16": "gen_jax",
    }


@pytest.mark.nightly
def test_the_step_of_codes_is_the_recipes(monkeypatch, capsys):
    monkeypatch.setattr(vqvae_speed, "CONTESTANTS", {"gen_jax": None})
    options = ["--batch=1", "--repeats=1", "--runs", "train"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options])
    vqvae_speed.main()
    out = capsys.readouterr().out
    assert "train, batch 1, float32" in out and "not measured" not in out


def test_codes_are_searched(monkeypatch, capsys, tmp_path):
    file = tmp_path / "numbers.json"
    monkeypatch.setattr(vqvae_speed, "CONTESTANTS", {"gen_jax": None})
    options = ["--batch=1", "--repeats=2", "--runs", "search", "--search", "16", f"--out={file}"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options])
    vqvae_speed.main()
    assert "search 16, batch 1, float32" in capsys.readouterr().out
    (rows,) = json.loads(file.read_text())["results"].values()
    assert rows[0]["who"] == "gen_jax" and rows[0]["off"] == 0.0


def test_ablations_are_trained_measured_and_put_side_by_side(monkeypatch, capsys, tmp_path):
    commands = []

    def run(command, check):
        commands.append(command)
        for out in (a.removeprefix("--out=") for a in command if a.startswith("--out=")):
            values = {"instructions": {"psnr_matching": 20.0 + len(commands)}}
            groups = {name: {} for name in ("photograph", "denoise_blind", "drift")}
            with open(out, "w") as file:
                json.dump(groups | values, file)

    monkeypatch.setattr(restore_ablations.subprocess, "run", run)
    options = ["--data=d", "--images=i", "--steps=8", f"--workdir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["x", *options, "--variants", "block", "film"])
    restore_ablations.main()
    assert "--config=configs/restore_text.py:data=d" in commands[0]
    assert "--config=configs/restore_text.py:data=d,text=film" in commands[2]
    assert "--config.training.num_steps=8" in commands[0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("| block | 22.00 | - |")
    assert lines[-1].startswith("| film | 24.00 | - |")


def test_objectives_of_faces_have_a_mean_and_a_deviation(monkeypatch, capsys, tmp_path):
    seen = []

    def run(command, check):
        seen.append(command)
        folder = next(a.removeprefix("--workdir=") for a in command if a.startswith("--workdir="))
        where = tmp_path / folder.rsplit("/", 1)[-1]
        where.mkdir()
        (where / "done.json").write_text("{}")
        (where / "report.json").write_text(json.dumps({"faces/kid": float(len(seen))}))

    monkeypatch.setattr(face_objectives.subprocess, "run", run)
    monkeypatch.setattr(face_objectives, "sheet", lambda runs: np.zeros((8, 8, 3), np.uint8))
    options = ["--data=d", "--steps=8", "--seeds=2", "--gray", f"--workdir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["x", *options, "--objectives", "paired, no prior", "imle"])
    for _ in range(2):  # the second time, everything stands
        face_objectives.main()
        lines = capsys.readouterr().out.splitlines()
        assert "| paired, no prior | 2.000 ± 1.414 |" in lines
        assert "| imle | 3.000 ± 1.414 |" in lines
    assert len(seen) == 4
    assert "--config=configs/faces.py:data=d,res=32,objective=paired_normal,gray" in seen[0]
    assert "--config.training.seed=1" in seen[2]
    assert (tmp_path / "sheets.png").is_file()


def test_who_takes_too_long_is_named(call, capsys):
    for module, reason in ((train_step, "result"), (sampling, "answer")):
        with pytest.raises(SystemExit):
            call(module, "--timeout=0.1")
        assert f"gen_jax: not measured (no {reason} in 0.1 s)" in capsys.readouterr().out


def test_peers_run_where_they_can(monkeypatch, capsys):
    def taking_part(skip_peer=False, packages=("json", "math"), gpu_only=()):
        args = argparse.Namespace(skip_peer=skip_peer)
        names = ("gen_jax", "gen_jax_full", "eager", "compiled")
        return contest.taking_part(names, args, *packages, gpu_only=gpu_only)

    assert taking_part() == ["gen_jax", "gen_jax_full", "eager", "compiled"]
    assert taking_part(skip_peer=True) == ["gen_jax", "gen_jax_full"]
    assert capsys.readouterr().out == ""
    assert taking_part(packages=("json", "none_such")) == ["gen_jax", "gen_jax_full"]
    expected = "json and none_such are not installed here: only ours is measured\n"
    assert capsys.readouterr().out == expected
    cuda = types.SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert taking_part(gpu_only=["compiled"]) == ["gen_jax", "gen_jax_full", "eager"]


def test_samples_are_judged_by_other_details_than_those_skipped():
    args = argparse.Namespace(skip=3, count=4, batch=2)
    rows = {"image": np.arange(12), "tokens": np.arange(12)}
    mine, target = art_sampling.halves(rows, args, "run")
    np.testing.assert_array_equal(mine["tokens"], [3, 4, 5, 6])
    np.testing.assert_array_equal(target, [7, 8, 9, 10])
    mine, target = art_sampling.halves({"image": np.arange(8)}, args, "run")
    assert mine["image"].tolist() == [3, 4] and target.tolist() == [5, 6]
    with pytest.raises(SystemExit, match="4 training details are too few for --skip=3"):
        art_sampling.halves({"image": np.arange(4)}, args, "run")


def test_no_style_is_zeros_for_each_sample():
    task = argparse.Namespace(style=argparse.Namespace(dim=5))
    asked = {"seed": np.arange(3)}
    given = art_sampling.styled(asked, 0, task)
    np.testing.assert_array_equal(given["style"], np.zeros((3, 5)))
    assert "style" not in art_sampling.styled(asked, 1, argparse.Namespace(style=None))


def test_there_is_no_autoencoder_for_the_small_sizes(call, capsys):
    with pytest.raises(SystemExit):
        call(sampling, "--decode")
    assert "no autoencoder of size tiny" in capsys.readouterr().err


@pytest.mark.nightly
def test_diffusers_samples_the_same(monkeypatch, tmp_path):
    pytest.importorskip("diffusers")
    monkeypatch.setattr(presets, "SD15_UNET", tiny_networks.TINY_UNET)
    monkeypatch.setattr(presets, "SD15_VAE", tiny_networks.TINY_VAE)
    args = argparse.Namespace(
        size="sd15", batch=2, steps=6, dtype="float32", decode=True, folder=str(tmp_path)
    )
    ours, theirs = sampling.ours(args)[0], sampling.theirs(args, compiled=False)[0]
    for sampler in sampling.SAMPLERS:
        (z, image), (other_z, other_image) = ours(sampler)(), theirs(sampler)()
        assert np.abs(z - other_z).max() < 1e-4 * np.abs(z).max()
        assert z.std() > 0.1 and image.std() > 10
        assert np.abs(image.astype(int) - other_image).max() <= 1


@pytest.mark.nightly
def test_memory_is_estimated_from_shapes():
    from benchmarks import step_memory

    result = step_memory.estimate("sd15", "lora", 2, remat=True, debug=True)
    assert 0 < result.state < result.frozen  # the adapted UNet is read, not trained
    assert result.temporary > 0
    cells = step_memory.row(result).split(" | ")
    assert cells[:4] == ["| sd15", "lora", "yes", "2"] and len(cells) == 8
