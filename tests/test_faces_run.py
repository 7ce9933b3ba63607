"""The face stage through the doors: trained, sampled, interpolated."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import face_objectives
from tests.forks import call, call_each
from tests.processes import one_line_error

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "run"
    result = call("main", "--config=configs/faces.py:debug,objective=paired", f"--workdir={folder}")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def pixels(path):
    return np.asarray(Image.open(path))


def generate(run, out, *args):
    result = call("generate", f"--run={run}", f"--out={out}", *args)
    assert result.returncode == 0, result.stderr[-3000:]
    return out


def test_a_run_ends_with_a_sheet_and_a_report(run):
    report = json.loads((run / "report.json").read_text())
    assert {f"faces/{n}_untrained" for n in ("fd", "kid", "recall", "precision")} <= set(report)
    assert (run / "samples" / "step_0000004_samples.png").is_file()
    assert (run / "features" / "features.json").is_file()


@pytest.fixture(scope="module")
def samples(run, tmp_path_factory):
    """Pictures of seeds 0 to 5."""
    return generate(run, tmp_path_factory.mktemp("samples") / "out", "--num=6")


def test_a_picture_is_its_seed(run, samples, tmp_path):
    one = generate(run, tmp_path / "one", "--num=1", "--seed=5", "--batch=1")
    near = np.int32(pixels(samples / "00005.png")) - np.int32(pixels(one / "00000.png"))
    assert np.abs(near).max() <= 1
    assert json.loads((samples / "00005.json").read_text())["seed"] == 5
    assert json.loads((one / "00000.json").read_text())["seed"] == 5


def test_interpolations_begin_and_end_with_their_seeds(run, samples, tmp_path):
    out = generate(run, tmp_path / "path", "--interpolate=1,2", "--frames=5")
    assert len(list(out.glob("0*.png"))) == 5
    assert Image.open(out / "frames.gif").n_frames >= 2
    for frame, seed in ((0, 1), (4, 2)):
        end = np.int32(pixels(samples / f"0000{seed}.png"))
        assert np.abs(pixels(out / f"0000{frame}.png") - end).max() <= 1


def test_truncation_brings_pictures_together(run, samples, tmp_path):
    none = generate(run, tmp_path / "0", "--num=4", "--truncation=0")
    spread = [
        np.std([pixels(f / f"0000{i}.png").astype(float) for i in range(4)], 0).mean()
        for f in (samples, none)
    ]
    assert spread[1] < 0.5 * spread[0] + 0.5


def refused(run, out, *mistakes):
    """Each pair of arguments and words ends `generate` in a line with the words."""
    commands = [[f"--run={run}", f"--out={out}", *args] for args, _ in mistakes]
    for done, (_, words) in zip(call_each("generate", *commands), mistakes, strict=True):
        assert words in one_line_error(done)
    assert not out.exists()


def test_mistakes_cost_one_line(run, tmp_path):
    refused(
        run,
        tmp_path / "x",
        (("--prompt=a man",), "--prompt=a man: "),
        (("--truncation=5",), "--truncation=5"),
        (("--interpolate=1,2", "--path=round"), "--path=round"),
        (("--interpolate=-1,2",), "--interpolate"),
        (("--sampler=ddim",), "is a run of faces, which does not use it"),
        (("--interpolate=1,2,3", "--frames=2"), "at least the 3 seeds"),
    )


def test_runs_stand_side_by_side(run):
    sheet = face_objectives.sheet({"paired": run, "again": run})
    assert sheet.dtype == np.uint8 and sheet.shape[1] > 8 * 16


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """A run on small pictures whose attributes stand in captions.jsonl."""
    folder = tmp_path_factory.mktemp("text")
    rng, lines = np.random.default_rng(0), []
    (folder / "pictures").mkdir()
    for index in range(600):
        known = {
            "glasses": ("without", "with")[index % 2],
            "gender": ("man", "woman")[index % 3 % 2],
        }
        pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{index}.png")
        lines.append(json.dumps({"file": f"{index}.png", "caption": "a face", **known}))
    (folder / "pictures" / "captions.jsonl").write_text("\n".join(lines))
    for args in (
        ("prepare", f"--source={folder / 'pictures'}", f"--out={folder / 'data'}"),
        (
            "main",
            f"--config=configs/faces_text.py:debug,gray,data={folder / 'data'}",
            f"--workdir={folder / 'run'}",
        ),
    ):
        result = call(*args)
        assert result.returncode == 0, result.stderr[-3000:]
    return folder / "run"


def test_text_is_measured(text_run):
    report = json.loads((text_run / "report.json").read_text())
    for name in ("glasses", "gender"):
        assert 0 <= report[f"faces/attribute_accuracy/{name}"] <= 1
        assert f"faces/attribute_real/{name}" in report
        assert 0 <= report[f"faces/attribute_accuracy_empty/{name}"] <= 1
    assert (text_run / "samples" / "step_0000004_asked.png").is_file()


def test_the_evaluate_door_measures_what_the_run_did(text_run, tmp_path):
    found = tmp_path / "metrics.json"
    result = call("evaluate", f"--run={text_run}", f"--out={found}")
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((text_run / "report.json").read_text())
    assert json.loads(found.read_text()) == pytest.approx(report, abs=1e-4)


def test_prompts_in_any_script_make_pictures(text_run, tmp_path):
    prompts = ("a man with glasses", "", "眼鏡をかけた女性 👓", "a man " + "with glasses " * 40)
    args = [f"--prompt={text}" for text in prompts]
    result = call(
        "generate", f"--run={text_run}", f"--out={tmp_path}", "--num=2", "--guidance=2", *args
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "longer than the 24 tokens" in result.stdout
    made = [json.loads((tmp_path / f"{i:05d}.json").read_text()) for i in range(8)]
    assert [one["prompt"] for one in made[::2]] == list(prompts)
    assert made[0]["guidance_scale"] == 2 and made[1]["seed"] == 1
    assert np.abs(np.int32(pixels(tmp_path / "00000.png")) - pixels(tmp_path / "00002.png")).max()


def test_mistakes_with_prompts_cost_one_line(text_run, tmp_path):
    refused(
        text_run,
        tmp_path / "x",
        (("--negative=a woman",), "which does not use it"),
        (("--guidance=-1",), "--guidance=-1"),
    )


def test_a_run_by_text_may_begin_with_one_without_and_notes_unknown_faces(run, tmp_path):
    result = call(
        "main",
        "--config=configs/faces_text.py:debug,text=cross",
        f"--config.init_from={run}",
        "--config.training.num_steps=1",
        "--config.evaluators={}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"parameters from {run}" in result.stdout
    assert "none of its first 500 records has an attribute" in result.stdout
