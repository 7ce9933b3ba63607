"""A day on an accelerator: what runs when, for how long, and what stays of it."""

import argparse
import dataclasses
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks import day_figures, day_runner, gpu_day
from benchmarks.day_figures import PEER, Goal, Measured, Row
from benchmarks.day_runner import Day, Entry
from gen_jax.common import config as config_lib
from tests.processes import ROOT, environment

WRITES = """-c "
import json, os, sys, time
began = time.time()
time.sleep(0.4)
memory = os.environ['XLA_PYTHON_CLIENT_MEM_FRACTION']
cache = os.environ['JAX_COMPILATION_CACHE_DIR']
values = dict(speed=150.0, began=began, ended=time.time(), memory=float(memory))
json.dump(values | dict(cache=cache), open(sys.argv[1], 'w'))
" {json}"""
SLEEPS = '-c "import time; time.sleep(60)"'


def numbers(path):
    values = json.loads(path.read_text())
    return Measured({k: v for k, v in values.items() if k != "cache"}, "a card")


@pytest.fixture
def day(tmp_path, monkeypatch):
    monkeypatch.setattr(day_runner, "GRACE", 0.4)
    return Day(tmp_path, tmp_path / "data", tmp_path / "cache", budget=30.0, device="the card")


def run(day, *entries):
    lines = []
    rows = day_runner.run(entries, day, show=lines.append)
    assert [row.name for row in rows] == [entry.name for entry in entries]
    return {row.name: row for row in rows}, lines


def test_a_day_goes_on_after_what_fails(day):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    rows, lines = run(
        day,
        Entry("fails", """-c "print('first'); raise ValueError('no such | layer')" """),
        Entry("slow", SLEEPS, goals=(Goal("speed", least=1),), cap=0.3),
        Entry("stubborn", SLEEPS.replace('"', f'"{stubborn}', 1), cap=0.6),
        Entry("too_long", SLEEPS, seconds=1000),
        Entry("no_data", SLEEPS, needs=("{data}/faces/dataset.json",)),
        Entry("silent", '-c "pass"', read=numbers),
        Entry("works", WRITES, goals=(Goal("speed", least=144),), read=numbers),
    )
    assert {name: row.outcome for name, row in rows.items()} == {
        "fails": "failed",
        "slow": "at its limit",
        "stubborn": "at its limit",
        "too_long": "not run",
        "no_data": "not run",
        "silent": "failed",
        "works": "done",
    }
    assert rows["fails"].note == "ValueError: no such | layer"
    assert rows["slow"].seconds < 5 and 1.0 <= rows["stubborn"].seconds < 5
    assert re.fullmatch(r"\d+ s left, an estimated 1000 s needed", rows["too_long"].note)
    assert rows["no_data"].note == f"{day.data}/faces/dataset.json: no such file or folder"
    assert "no figures: FileNotFoundError" in rows["silent"].note
    assert (rows["works"].device, rows["fails"].device) == ("a card", "the card")
    assert json.loads((day.out / "works.json").read_text())["cache"] == str(day.cache)
    kept = json.loads((day.out / "day.json").read_text())
    assert kept["budget"] == 30.0 and kept["device"] == "the card"
    assert [r["met"] for r in kept["rows"]] == [None] * 6 + [True]
    assert kept["rows"][-1]["goals"] == ["speed at least 144"]
    table = (day.out / "day.md").read_text().splitlines()
    assert len(table) == 2 + len(rows) and "failed: ValueError: no such \\| layer" in table[2]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 9 for line in table)
    assert "slow: at its limit after" in "\n".join(lines)


def test_results_of_an_earlier_day_are_not_taken_for_new_ones(day):
    for name in ("run", "export"):
        (day.out / name).mkdir()
        (day.out / name / "kept").write_text("")
    (day.out / "silent.json").write_text('{"speed": 1.0}')
    rows, _ = run(
        day,
        Entry("silent", '-c "pass"', read=numbers),
        Entry("training", '-c "pass"', result="{out}/run"),
        Entry("exporting", '-c "pass"', result="{out}/export", is_replaced=True),
    )
    assert rows["silent"].outcome == "failed" and rows["silent"].figures == {}
    assert (day.out / "run" / "kept").is_file() and not (day.out / "export").exists()


def test_the_budget_ends_what_runs(day):
    began = time.monotonic()
    rows, _ = run(dataclasses.replace(day, budget=1.2), Entry("one", SLEEPS), Entry("two", SLEEPS))
    assert time.monotonic() - began < 10
    assert rows["one"].outcome == "at its limit" and rows["two"].outcome == "not run"


def test_two_share_the_card_and_a_measurement_has_it_alone(day):
    shared = {"read": numbers, "is_shareable": True, "seconds": 1.0}
    rows, _ = run(
        day,
        Entry("alone", WRITES, read=numbers),
        Entry("first", WRITES, **shared),
        Entry("second", WRITES, **shared),
        Entry("after", WRITES, after="first", **shared),
    )
    times = {name: row.figures for name, row in rows.items()}
    assert [times[name]["memory"] for name in times] == [0.9, 0.45, 0.45, 0.45]
    assert times["first"]["began"] < times["second"]["ended"]
    assert times["second"]["began"] < times["first"]["ended"], "they ran together"
    assert times["alone"]["ended"] < min(times["first"]["began"], times["second"]["began"])
    assert times["after"]["began"] > times["first"]["ended"]


def test_less_important_programs_overtake_if_they_delay_nothing():
    def training(name, seconds):
        return Entry(name, "", seconds=seconds, is_shareable=True)

    measurement = Entry("measurement", "", seconds=10)
    running = [SimpleNamespace(entry=training("long", 100), seconds=lambda: 40.0)]
    chosen = day_runner.choose(
        [measurement, training("longer", 70), training("short", 50)], running
    )
    assert chosen.name == "short"
    assert day_runner.choose([measurement, training("longer", 70)], running) is None
    assert day_runner.choose([training("longer", 70), measurement], running).name == "longer"
    assert day_runner.choose([training("x", 1)], running * 2) is None
    alone = [SimpleNamespace(entry=measurement, seconds=lambda: 1.0)]
    assert day_runner.choose([training("x", 1)], alone) is None
    dependent = dataclasses.replace(measurement, name="dependent", after="measurement")
    assert day_runner.choose([dependent, measurement], []).name == "measurement"


def test_sigterm_ends_the_programs_and_writes_the_table(tmp_path):
    code = f"""
import pathlib
from benchmarks import contest, day_runner
from benchmarks.day_runner import Day, Entry
out = pathlib.Path({str(tmp_path)!r})
contest.end_on_sigterm()
sleeps = '-c "import os, time; print(os.getpid(), flush=True); time.sleep(60)"'
def show(text):
    raise BrokenPipeError("the terminal is gone")
day_runner.run([Entry("one", sleeps), Entry("two", sleeps)], Day(out, out, out, 60.0), show)
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment())
    log, deadline = tmp_path / "one.log", time.monotonic() + 60
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 143
    rows = json.loads((tmp_path / "day.json").read_text())["rows"]
    assert [(r["name"], r["outcome"]) for r in rows] == [("one", "stopped"), ("two", "not run")]
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


@pytest.mark.parametrize(
    ("figures", "met", "words"),
    [
        ({"images/s": 150.0, PEER: 0.85}, True, "yes"),
        ({"images/s": 150.0, PEER: 0.95}, False, f"no: {PEER}"),
        ({"images/s": 150.0}, None, f"yes; not measured: {PEER}"),
        ({"images/s": float("nan")}, False, f"no: images/s; not measured: {PEER}"),
        ({}, None, f"not measured: images/s, {PEER}"),
    ],
)
def test_goals_are_met_missed_or_open(figures, met, words):
    goals = (Goal("images/s", least=144), Goal(PEER, most=0.9))
    row = Row("a", "", "done", figures=figures, goals=goals)
    assert row.verdict() == (met, words)
    assert dataclasses.replace(row, is_tiny=True).verdict() == (None, "tiny")
    row.peer = "torch.compile"
    cell = f"{figures[PEER]} (torch.compile)" if PEER in figures else "-"
    assert f"| {words} | {cell} | 0 | - |" in day_figures.table([row])
    assert str(goals[1]) == f"{PEER} at most 0.9"


def test_figures_are_read_from_results(tmp_path):
    file = tmp_path / "x.json"
    ours = {"who": "gen_jax", "name": "gen_jax", "median": 0.2, "on": "H200"}
    full = {"who": "gen_jax_full"}
    peers = [
        {"who": "eager", "name": "diffusers, eager", "median": 0.5},
        {"who": "compiled", "name": "diffusers, torch.compile", "median": 0.25},
    ]
    report = {"batch": 32, "rows": [ours, {**full, "median": 0.21}, *peers]}
    file.write_text(json.dumps(report))
    measured = day_figures.of_steps(file)
    assert (measured.device, measured.peer) == ("H200", "diffusers, torch.compile")
    assert measured.figures == {
        "images/s": 160.0,
        "full recipe / step": pytest.approx(1.05),
        PEER: pytest.approx(0.8),
    }
    file.write_text(json.dumps({"results": {"a": [ours], "b": {"rows": [ours, peers[0]]}}}))
    assert day_figures.of_contest(file).figures == {"a, ms": 200.0, "b, ms": 200.0, PEER: 0.4}
    file.write_text(json.dumps({"results": {"a": [ours]}}))
    assert PEER not in day_figures.of_contest(file).figures
    sampled = [{"sampler": s, **row} for s in ("euler", "unipc") for row in (ours, peers[0])]
    sampled[-1]["median"] = 0.1
    report = {"batch": 4, "samplers": ["euler", "unipc"], "rows": sampled}
    file.write_text(json.dumps(report))
    measured = day_figures.of_sampling(file)
    assert measured.figures == {"euler, images/s": 20.0, "unipc, images/s": 20.0, PEER: 2.0}
    rates = [("gen_jax", 2500.0), ("eager", 1000.0), ("compiled", 1250.0)]
    rows = [{"name": name, "rate": rate, "on": "H200"} for name, rate in rates]
    file.write_text(json.dumps({"rows": rows, "shards_to_shards": 2000.0}))
    measured = day_figures.of_features(file)
    assert measured.figures[PEER] == 2.0 and measured.peer == "compiled"


def test_figures_of_a_run_that_was_cut_off(tmp_path):
    lines = ['{"step": 50, "x/psnr": 29.0}', '{"step": 60, "model/loss": "NaN"}', '{"step": 7']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    (tmp_path / "manifest.json").write_text('{"device_kind": "H200"}')
    measured = day_figures.of_run(tmp_path, ["x/psnr", "x/ssim"])
    assert measured == Measured({"step": 60.0, "x/psnr": 29.0}, "H200")
    (tmp_path / "report.json").write_text('{"x/psnr": 30.0}')
    assert day_figures.of_run(tmp_path, ["x/psnr"]).figures["x/psnr"] == 30.0


class Parsed(Exception):
    """Ends a benchmark once it has read its arguments."""


@pytest.mark.parametrize("is_tiny", [False, True])
@pytest.mark.parametrize("entry", gpu_day.ENTRIES, ids=lambda entry: entry.name)
def test_commands_fit_the_programs(day, monkeypatch, entry, is_tiny):
    day = dataclasses.replace(day, is_tiny=is_tiny, skip_peer=True)
    _, dash_m, module, *args = day.command(entry)
    assert dash_m == "-m" and importlib.util.find_spec(module)
    if module.startswith("benchmarks."):
        read = argparse.ArgumentParser.parse_args

        def parse(parser):
            raise Parsed(read(parser))

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
        monkeypatch.setattr(sys, "argv", [module, *args])
        with pytest.raises(Parsed) as caught:
            importlib.import_module(module).main()
        given = caught.value.args[0]
        assert given.out == str(day.out / f"{entry.name}.json") and given.skip_peer
    elif module == "gen_jax.main":
        flags = dict(arg.removeprefix("--").split("=", 1) for arg in args)
        file, _, arg = flags["config"].partition(":")
        recipe = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        values = json.loads(config_lib.to_json(recipe.get_config(arg)))
        for name in (name for name in flags if name.startswith("config.")):
            node = values
            for key in name.split(".")[1:]:
                node = node[key]
        assert flags["workdir"] == day.filled(entry.result, entry)


def test_the_command_line_is_checked():
    assert gpu_day.seconds_of("12m") == 720 and gpu_day.seconds_of("1.5h") == 5400
    assert gpu_day.seconds_of("90") == gpu_day.seconds_of("90s") == 90
    for text in ("", "0", "-5m", "5 min", "m"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a time"):
            gpu_day.seconds_of(text)
    assert [e.name for e in gpu_day.chosen("vqvae,sampling")] == ["sampling", "vqvae"]
    with pytest.raises(SystemExit, match="unknown 'nothing'; expected some of train_step"):
        gpu_day.chosen("nothing")


def test_a_day_without_an_accelerator_says_so(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--budget=0.1s", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "no accelerator" in done.stderr and "--tiny" in done.stderr


def test_a_tiny_day(tmp_path):
    options = ["--tiny", "--budget=2m", "--only=sampling", f"--out={tmp_path}/out"]
    cache = environment()["JAX_COMPILATION_CACHE_DIR"]
    command = [sys.executable, "-m", "benchmarks.gpu_day", *options, f"--cache={cache}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "out" / "day.json").read_text())["rows"]
    assert row["outcome"] == "done" and row["figures"]["euler, images/s"] > 0
    assert row["met"] is None and row["device"].startswith("cpu") and row["seconds"] > 0
    assert shlex.split(row["command"])[:3] == ["python", "-m", "benchmarks.sampling"]
    assert f"\n{(tmp_path / 'out' / 'day.md').read_text()}" in done.stdout


@pytest.mark.nightly
def test_every_entry_runs_at_its_tiny_size(tmp_path):
    options = ["--tiny", "--budget=30m", "--skip-peer", f"--out={tmp_path}/out"]
    cache = environment()["JAX_COMPILATION_CACHE_DIR"]
    command = [sys.executable, "-m", "benchmarks.gpu_day", *options, f"--cache={cache}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out" / "day.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [entry.name for entry in gpu_day.ENTRIES]
    assert all(row["outcome"] == "done" and row["figures"] for row in rows), done.stdout
