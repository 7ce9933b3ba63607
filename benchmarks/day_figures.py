"""Figures of a GPU day: read from the JSON files that its programs write, and put beside goals."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gen_jax.common import files, strict_json

PEER = "ours / peer"
"""Figure of every comparison: our time or rate as a share of the fastest peer's."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """What one figure must show.

    Attributes:
      figure: Name of the figure.
      least: Smallest value that meets the goal.
      most: Largest value that meets the goal.
    """

    figure: str
    least: float = -math.inf
    most: float = math.inf

    def __str__(self):
        low = [f"at least {self.least:g}"] if self.least > -math.inf else []
        high = [f"at most {self.most:g}"] if self.most < math.inf else []
        return f"{self.figure} {' and '.join(low + high)}"

    def is_met(self, value: float) -> bool:
        """Returns whether a value lies within the limits; NaN does not."""
        return self.least <= value <= self.most


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a program found.

    Attributes:
      figures: Name -> value.
      device: Device that it ran on, "" if its results do not name it.
      peer: Name of the fastest peer, "" if none ran.
    """

    figures: Mapping[str, float]
    device: str = ""
    peer: str = ""


@dataclasses.dataclass
class Row:
    """A line of the day's table.

    Attributes:
      name: Name of the entry.
      command: The command as the table of entries has it.
      outcome: "running", "done", "failed", "at its limit", "stopped" or "not run".
      note: Reason of an outcome other than "done": the last line of error, say.
      figures: Name -> value, `PEER` among them if a peer ran.
      goals: What the figures must show.
      is_tiny: Whether it ran at a size that no goal is set for.
      seconds: Seconds that it ran.
      device: Device that it ran on.
      peer: Name of the fastest peer that ran.
    """

    name: str
    command: str
    outcome: str
    note: str = ""
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    goals: Sequence[Goal] = ()
    is_tiny: bool = False
    seconds: float = 0.0
    device: str = ""
    peer: str = ""

    def verdict(self) -> tuple[bool | None, str]:
        """Returns whether the goals are met, None if that is open, and the same in words."""
        if self.is_tiny:
            return None, "tiny"
        if not self.goals:
            return None, "no goal"
        measured = [goal for goal in self.goals if goal.figure in self.figures]
        missed = [g.figure for g in measured if not g.is_met(self.figures[g.figure])]
        unknown = [goal.figure for goal in self.goals if goal.figure not in self.figures]
        words = [f"no: {', '.join(missed)}"] if missed else ["yes"] if measured else []
        words += [f"not measured: {', '.join(unknown)}"] if unknown else []
        return (False if missed else None if unknown else True), "; ".join(words)


def write(folder: pathlib.Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Writes `day.json` and `day.md`, each whole or not at all.

    Args:
      folder: Folder to write to.
      rows: Lines of the table, in order.
      facts: What holds for the whole day, such as its budget.
    """
    listed = []
    for row in rows:
        values = {**dataclasses.asdict(row), "goals": [str(g) for g in row.goals]}
        listed.append({**values, "met": row.verdict()[0], "over_peer": row.figures.get(PEER)})
    text = strict_json.dumps({**facts, "rows": listed}, indent=2)
    files.write_text(folder / "day.json", text + "\n")
    files.write_text(folder / "day.md", table(rows) + "\n")


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a Markdown table."""
    heads = ("benchmark", "command", "figure", "goal", "met", PEER, "seconds", "device")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        shown = [f"{k} {_number(v)}" for k, v in row.figures.items() if k != PEER]
        if row.outcome != "done":
            shown.append(": ".join(filter(None, (row.outcome, row.note))))
        peer = f"{_number(row.figures[PEER])} ({row.peer})" if PEER in row.figures else "-"
        cells = (
            row.name,
            f"`{row.command}`",
            "; ".join(shown),
            "; ".join(map(str, row.goals)) or "-",
            row.verdict()[1],
            peer,
            f"{row.seconds:.0f}",
            row.device or "-",
        )
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Returns a text as Markdown can hold it in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def of_steps(path: pathlib.Path) -> Measured:
    """Reads a file of `benchmarks.train_step`."""
    report = _read(path)
    rows = {row["who"]: row for row in report["rows"]}
    ours, full = rows["gen_jax"], rows.get("gen_jax_full")
    figures = {"images/s": report["batch"] / ours["median"]}
    if full:
        figures["full recipe / step"] = full["median"] / ours["median"]
    peers = [row for who, row in rows.items() if not who.startswith("gen_jax")]
    return _beside(figures, ours, peers)


def of_contest(path: pathlib.Path) -> Measured:
    """Reads a file of `benchmarks.restore`, `benchmarks.vqvae` or `benchmarks.faces`."""
    figures, runs = {}, []
    for name, result in _read(path)["results"].items():
        ours, *peers = result["rows"] if isinstance(result, dict) else result
        figures[f"{name}, ms"] = 1e3 * ours["median"]
        runs.append(_beside({}, ours, peers))
    return _worst(figures, runs)


def of_sampling(path: pathlib.Path) -> Measured:
    """Reads a file of `benchmarks.sampling`."""
    report, figures, runs = _read(path), {}, []
    for sampler in report["samplers"]:
        ours, *peers = [row for row in report["rows"] if row["sampler"] == sampler]
        figures[f"{sampler}, images/s"] = report["batch"] / ours["median"]
        runs.append(_beside({}, ours, peers))
    return _worst(figures, runs)


def of_features(path: pathlib.Path) -> Measured:
    """Reads a file of `benchmarks.features`, whose ratio is one of rates: more is better."""
    report = _read(path)
    ours, *peers = report["rows"]
    figures = {"images/s": ours["rate"], "shards to shards, images/s": report["shards_to_shards"]}
    if not peers:
        return Measured(figures, ours["on"])
    fastest = max(peers, key=lambda row: row["rate"])
    return Measured({**figures, PEER: ours["rate"] / fastest["rate"]}, ours["on"], fastest["name"])


def of_restorer(path: pathlib.Path) -> Measured:
    """Reads a file of `gen_jax.evaluate --benchmark`."""
    report = _read(path)
    return Measured({"PSNR, dB": report["psnr"], "images": report["n"]})


def of_export(path: pathlib.Path) -> Measured:
    """Weighs the safetensors files of a folder that `gen_jax.export` wrote."""
    sizes = [file.stat().st_size for file in path.glob("*.safetensors")]
    return Measured({"MB": sum(sizes) / 1e6}) if sizes else Measured({})


def of_run(path: pathlib.Path, names: Sequence[str]) -> Measured:
    """Reads a run directory of `gen_jax.main`, finished or not.

    Args:
      path: The run directory.
      names: Names of the metrics to report.
    """
    values: dict[str, Any] = {}
    for line in files.read_text(path / "metrics.jsonl").splitlines():
        try:
            values |= strict_json.loads(line)
        except json.JSONDecodeError:  # cut by a kill
            break
    report = path / "report.json"
    values |= _read(report) if report.is_file() else {}
    wanted = ("step", "images_per_second", *names)
    return Measured(
        {name: float(values[name]) for name in wanted if name in values},
        _read(path / "manifest.json").get("device_kind", ""),
    )


def _beside(
    figures: Mapping[str, float], ours: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]
) -> Measured:
    """Adds our median as a share of the fastest peer's to the figures, if a peer ran."""
    if not peers:
        return Measured(figures, ours["on"])
    fastest = min(peers, key=lambda row: row["median"])
    ratio = ours["median"] / fastest["median"]
    return Measured({**figures, PEER: ratio}, ours["on"], fastest["name"])


def _worst(figures: Mapping[str, float], runs: Sequence[Measured]) -> Measured:
    """Returns the figures with the ratio of the run in which we compare worst with a peer."""
    worst = max(runs, key=lambda run: run.figures.get(PEER, -math.inf))
    return dataclasses.replace(worst, figures={**figures, **worst.figures})


def _read(path: pathlib.Path) -> Any:
    return strict_json.loads(files.read_text(path))
