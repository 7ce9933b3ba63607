"""Runs a table of programs on one accelerator until a budget of time is used up."""

import contextlib
import dataclasses
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import day_figures
from benchmarks.day_figures import Goal, Measured, Row

ROOT = pathlib.Path(__file__).resolve().parent.parent
GRACE = 20.0
"""Seconds from SIGTERM to SIGKILL, in which a training saves its state."""

_TOGETHER = 2  # programs that share the card
_ALONE, _SHARED = 0.9, 0.45  # share of the card's memory that a program may take
_POLL = 0.1  # seconds


@dataclasses.dataclass(frozen=True)
class Entry:
    """A program of the day.

    Braces in `command`, `needs` and `result` stand for folders: `{out}` of the day, `{data}`
    prepared data, and `{json}`, the program's own file of results.

    Attributes:
      name: Name of the entry.
      command: Arguments of the Python interpreter.
      goals: What its figures must show.
      seconds: Estimate of its time. It is not started if less is left of the budget.
      cap: Longest time that it may take, in seconds.
      tiny: The same arguments at a size that takes seconds on a CPU.
      result: File or folder that `read` reads once the program has ended.
      read: Reader of the figures.
      is_replaced: Whether a result folder of an earlier day is removed first. A file always is; a
        run directory must stay, because its training goes on.
      needs: Files that must be there before it starts.
      after: Name of an entry that must have ended before.
      is_shareable: Whether it may run beside another such entry; never a measurement of speed.
      has_peer: Whether it knows --skip-peer.
    """

    name: str
    command: str
    goals: tuple[Goal, ...] = ()
    seconds: float = 0.0
    cap: float = 600.0
    tiny: str = ""
    result: str = "{json}"
    read: Callable[[pathlib.Path], Measured] = lambda path: Measured({})
    is_replaced: bool = False
    needs: tuple[str, ...] = ()
    after: str = ""
    is_shareable: bool = False
    has_peer: bool = False


@dataclasses.dataclass(frozen=True)
class Day:
    """Settings that hold for all entries.

    Attributes:
      out: Folder of results.
      data: Folder of prepared data.
      cache: Folder of XLA's compiled programs, which the next day uses again.
      budget: Time in seconds.
      is_tiny: Whether every entry runs at its tiny size.
      skip_peer: Whether benchmarks leave their peers out.
      device: Name of the accelerator, "" if unknown.
    """

    out: pathlib.Path
    data: pathlib.Path
    cache: pathlib.Path
    budget: float
    is_tiny: bool = False
    skip_peer: bool = False
    device: str = ""

    def filled(self, text: str, entry: Entry) -> str:
        """Returns a text of the entry with its braces filled in."""
        return text.format(out=self.out, data=self.data, json=self.out / f"{entry.name}.json")

    def command(self, entry: Entry) -> list[str]:
        """Returns the command of an entry."""
        parts = shlex.split(entry.tiny if self.is_tiny else entry.command)
        parts += ["--skip-peer"] * (self.skip_peer and entry.has_peer)
        return [sys.executable, *(self.filled(part, entry) for part in parts)]

    def environment(self, entry: Entry) -> dict[str, str]:
        """Returns the environment of an entry's process."""
        memory = _SHARED if entry.is_shareable else _ALONE
        return {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "XLA_PYTHON_CLIENT_MEM_FRACTION": str(memory),
            "PYTHONUNBUFFERED": "1",
        }


class Running:
    """A started entry."""

    def __init__(self, entry: Entry, day: Day, limit: float):
        """Starts it; `limit` is the time that it may take, in seconds."""
        self.entry, self.limit, self.began = entry, limit, time.monotonic()
        self.log = day.out / f"{entry.name}.log"
        result = pathlib.Path(day.filled(entry.result, entry))
        if result.is_file():
            result.unlink()
        elif entry.is_replaced:
            shutil.rmtree(result, ignore_errors=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                day.command(entry),
                cwd=ROOT,
                env=day.environment(entry),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.ended_by = ""  # "at its limit" or "stopped", if we sent SIGTERM

    def seconds(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self.began

    def has_ended(self) -> bool:
        """Returns whether the process has ended; asks it to at its limit, and kills it later."""
        if self.process.poll() is not None:
            return True
        if self.seconds() > self.limit:
            self.end("at its limit")
        if self.seconds() > self.limit + GRACE:
            self._signal(signal.SIGKILL)
            self.process.wait()
            return True
        return False

    def end(self, reason: str) -> None:
        """Sends SIGTERM, once; `has_ended` sends SIGKILL after a time of grace."""
        if not self.ended_by:
            self.ended_by, self.limit = reason, min(self.limit, self.seconds())
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        # The process and what it started: it leads a session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def last_line(self) -> str:
        """Returns the last line that it printed, which of an error is the reason."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else f"exit code {self.process.returncode}"


def choose(waiting: Sequence[Entry], running: Sequence[Running]) -> Entry | None:
    """Returns the entry that may start now, the first of those that may; None for none.

    A shareable entry may overtake one that needs the card alone if it ends no later than what is
    running: the card is not free sooner without it.
    """
    if len(running) >= _TOGETHER or not all(r.entry.is_shareable for r in running):
        return None
    pending = {e.name for e in waiting} | {r.entry.name for r in running}
    left = max((r.entry.seconds - r.seconds() for r in running), default=0.0)
    is_overtaking = False
    for entry in waiting:
        if entry.after in pending:
            continue
        if not running:
            return entry
        if not entry.is_shareable:
            is_overtaking = True
        elif not is_overtaking or entry.seconds <= left:
            return entry
    return None


def run(entries: Sequence[Entry], day: Day, show: Callable[[str], None] = print) -> list[Row]:
    """Runs the entries, the most important ones first, and writes the table after each.

    Args:
      entries: Programs in the order of their importance.
      day: Settings.
      show: Prints a line.

    Returns:
      A row per entry. On SIGTERM (`contest.end_on_sigterm`) or an interrupt the children are ended
      and the table is written before the exception leaves.
    """
    if day.is_tiny:
        entries = [dataclasses.replace(entry, seconds=0.0) for entry in entries]
    runner = _Runner(entries, day, show)
    try:
        while runner.waiting or runner.running:
            runner.start()
            runner.collect()
            time.sleep(_POLL if runner.running else 0)
    except BaseException:  # SIGTERM, an interrupt, a mistake of ours: nothing stays behind
        runner.stop()
        raise
    return [runner.rows[entry.name] for entry in entries]


class _Runner:
    """The state of a day: what waits, what runs, and the rows of the table."""

    def __init__(self, entries: Sequence[Entry], day: Day, show: Callable[[str], None]):
        self.day, self._entries, self._show = day, entries, show
        self.waiting, self._began = list(entries), time.monotonic()
        self.running: list[Running] = []
        self.rows: dict[str, Row] = {}

    def start(self) -> None:
        """Starts every entry that may start now."""
        while entry := choose(self.waiting, self.running):
            left = self.day.budget - (time.monotonic() - self._began)
            self.rows[entry.name] = row = _row(entry, self.day)
            self.waiting.remove(entry)
            if reason := _obstacle(entry, self.day, left):
                row.outcome, row.note = "not run", reason
                self._write(f"{entry.name}: not run, {reason}")
                continue
            self.running.append(Running(entry, self.day, min(left, entry.cap)))
            self._write(f"{entry.name}: started, {left:.0f} s left")

    def collect(self) -> None:
        """Fills in the rows of the entries that have ended."""
        for one in [r for r in self.running if r.has_ended()]:
            self.running.remove(one)
            row = self.rows[one.entry.name]
            _finish(row, one, self.day)
            result = row.note or row.verdict()[1]
            self._write(f"{row.name}: {row.outcome} after {row.seconds:.0f} s, {result}")

    def stop(self) -> None:
        """Ends what runs and leaves out what waits."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for entry in self.waiting:
            self.rows[entry.name] = _row(entry, self.day)
            self.rows[entry.name].outcome = "not run"
        for one in self.running:
            one.end("stopped")
        # Before the wait, in which a scheduler may send SIGKILL.
        self._write(f"ending {len(self.running)} programs")
        while self.running:
            self.collect()
            time.sleep(_POLL)

    def _write(self, line: str) -> None:
        """Writes the table and prints a line."""
        seconds = time.monotonic() - self._began
        facts = {"budget": self.day.budget, "seconds": seconds, "device": self.day.device}
        rows = [self.rows[entry.name] for entry in self._entries if entry.name in self.rows]
        day_figures.write(self.day.out, rows, facts)
        with contextlib.suppress(OSError):  # a terminal that is gone ends no day
            self._show(line)


def _row(entry: Entry, day: Day) -> Row:
    command = f"python {entry.tiny if day.is_tiny else entry.command}".replace(" --out={json}", "")
    return Row(entry.name, command, "running", goals=entry.goals, is_tiny=day.is_tiny)


def _obstacle(entry: Entry, day: Day, left: float) -> str:
    """Returns why an entry cannot start, "" if it can."""
    if left < max(entry.seconds, 1.0):
        return f"{max(left, 0):.0f} s left, an estimated {entry.seconds:.0f} s needed"
    if day.is_tiny:
        return ""
    needed = [pathlib.Path(day.filled(path, entry)) for path in entry.needs]
    missing = [str(path) for path in needed if not path.exists()]
    return f"{missing[0]}: no such file or folder" if missing else ""


def _finish(row: Row, one: Running, day: Day) -> None:
    """Fills in the row of an entry whose process has ended."""
    row.seconds, row.device = one.seconds(), day.device
    row.outcome = one.ended_by or ("failed" if one.process.returncode else "done")
    if row.outcome != "done":
        row.note = one.last_line()
    try:
        measured = one.entry.read(pathlib.Path(day.filled(one.entry.result, one.entry)))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        if row.outcome == "done":
            row.outcome, row.note = "failed", f"no figures: {type(error).__name__}: {error}"
        return
    row.figures, row.peer = measured.figures, measured.peer
    row.device = measured.device or row.device
