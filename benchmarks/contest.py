"""Contestants of a benchmark in processes of their own, which take turns.

A process keeps its memory, its settings and its compiled programs to itself; taking turns, a busy
machine disturbs all alike.
"""

import argparse
import contextlib
import json
import os
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gen_jax.common import memory, strict_json


def random_leaf(rng: np.random.Generator) -> Callable[[Any, Any], np.ndarray]:
    """Returns a function for `tree_map_with_path` that draws float32 weights of a leaf's shape.

    Outputs have about unit size, and nothing is zero as in a fresh network's last layer.
    """

    def draw(path, leaf):
        size = np.float32(np.prod(leaf.shape[:-1]) ** -0.5 if len(leaf.shape) > 1 else 0.1)
        values = rng.standard_normal(leaf.shape, np.float32) * size
        return values + np.float32(path[-1].key == "scale")

    return draw


def kill_group(process: subprocess.Popen | None) -> None:
    """Ends a process that leads a session, and with it the compilers it started."""
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def serve(contestant: Callable[[Any], tuple], who: str, args) -> None:
    """A contestant's process: the name of a run comes in, the seconds that it took go out.

    Args:
      contestant: from `args` to (start, memory, about): `start(name)` gives a function that runs
        and returns arrays on the host, `memory()` the peak so far in MiB, and `about` is what
        goes into every answer.
      who: its name.
      args: of the benchmark; `args.folder` takes the arrays of each first run.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    start, peak, about = contestant(args)
    runs = {}
    for name in map(str.strip, sys.stdin):
        began = time.perf_counter()
        if first := name not in runs:
            runs[name] = start(name)
        arrays = runs[name]()  # on the host, and so done
        seconds = time.perf_counter() - began
        if first:
            np.savez(f"{args.folder}/{name}_{who}.npz", *arrays)
        print(json.dumps({**about, "seconds": seconds, "mib": peak()}), file=replies, flush=True)


class Contestant:
    """The other end of `serve`."""

    def __init__(self, module: str, who: str, args):
        """Describes it; `python -m MODULE WHO ARGS` is to call `serve`."""
        self.who, self.timeout = who, args.timeout
        self.command = [sys.executable, "-m", module, who, json.dumps(vars(args))]
        self.log = pathlib.Path(args.folder, f"{who}.log")
        # Nothing from the net; caches of compiled code go with the folder; several hold the
        # accelerator at once, so that none may take all of it.
        self.env = {**os.environ, "HF_HUB_OFFLINE": "1", "TMPDIR": args.folder}
        self.env |= memory.settings(os.environ)  # for all, as our doors give themselves
        self.env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self.process: subprocess.Popen | None = None  # started by the first run

    def run(self, name: str) -> dict:
        """The answer to a run's name; the first one's seconds hold the compilation.

        Raises:
          RuntimeError: it failed, or took too long.
        """
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
            with self.log.open("w") as log:
                self.process = subprocess.Popen(
                    self.command, stderr=log, env=self.env, start_new_session=True, **pipes
                )
        with contextlib.suppress(BrokenPipeError):  # it has ended, and says nothing more
            self.process.stdin.write(name.encode() + b"\n")
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            raise RuntimeError(f"no answer in {self.timeout:g} s")
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(["it ended", *self.log.read_text().strip().splitlines()][-1])
        return json.loads(line)


def take_turns(running: list[Contestant], name: str, args) -> dict[str, list[dict]]:
    """Alternating runs of all that still run, ours first; the first of each is a warm-up.

    Returns:
      Contestant -> its answers. One that fails is named and leaves `running`; without ours the
      benchmark ends.
    """
    answers = {c.who: [] for c in running}
    for _ in range(1 + args.repeats):
        for one in list(running):
            try:
                answers[one.who].append(one.run(name))
            except RuntimeError as error:  # takes too long, or something it needs is missing
                print(f"{one.who}: not measured ({str(error)[:160]})", flush=True)
                kill_group(one.process)
                running.remove(one)
                if one.who == "gen_jax":
                    sys.exit(1)  # there is nothing to compare with
    return answers


def arrays(args, name: str, who: str) -> list[np.ndarray]:
    """What a contestant's first run returned."""
    with np.load(f"{args.folder}/{name}_{who}.npz") as found:
        return list(found.values())


def measured(running: list[Contestant], name: str, args) -> list[dict]:
    """Lets them alternate; a row each, ours first.

    Returns:
      what a contestant says of itself with `seconds` of each repeat, their `median`, seconds of
      the `first` run, and how far its arrays are `off` ours, over our largest value.
    """
    answers = take_turns(running, name, args)
    base = arrays(args, name, "gen_jax")[0]
    rows = []
    for one in running:
        first, *rest = answers[one.who]
        seconds = [a["seconds"] for a in rest]
        off = np.abs(arrays(args, name, one.who)[0] - base).max() / np.abs(base).max()
        row = {**rest[-1], "who": one.who, "seconds": seconds, "off": float(off)}
        rows.append({**row, "median": statistics.median(seconds), "first": first["seconds"]})
    return rows


def print_table(title: str, unit: str, rows: list[dict], images: int, tolerance: float) -> None:
    """Rows of `measured` with our time as a share of each; `images` of a run give images/s."""
    heads = f"{'ms ' + unit:>12}{'images/s':>10}{'first s':>9}{'MiB':>8}  ours/it  outputs"
    print(f"\n{title}\n{'':<26}{heads}")
    for row in rows:
        print(
            f"{row['name']:<26}{1e3 * row['median']:>12.1f}{images / row['median']:>10.1f}"
            f"{row['first']:>9.1f}{row['mib']:>8.0f}{rows[0]['median'] / row['median']:>9.2f}"
            f"  {row['off']:.1e}"
        )
    for row in rows[1:]:
        if row["off"] > tolerance:
            print(f"{row['name']}: outputs differ by more than {tolerance}")


@contextlib.contextmanager
def together(module: str, names: Iterable[str], args) -> Iterator[list[Contestant]]:
    """Contestants of a benchmark with a folder of their own (`args.folder`); all end with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as args.folder:
        running = [Contestant(module, who, args) for who in names]
        try:
            yield running
        finally:
            for one in running:
                kill_group(one.process)


def write(args, **found) -> None:
    """`args` and what was found as JSON into `args.out`, where one is named."""
    if args.out:
        numbers = {k: v for k, v in vars(args).items() if k not in ("folder", "out")}
        pathlib.Path(args.out).write_text(strict_json.dumps({**numbers, **found}, indent=2) + "\n")


def enter(contestants: Mapping[str, Callable[[Any], tuple]], main: Callable[[], None]) -> None:
    """What a benchmark's `__main__` calls: `main`, or a contestant in one of its processes."""
    if sys.argv[1:] and sys.argv[1] in contestants:
        given = argparse.Namespace(**json.loads(sys.argv[2]))
        serve(contestants[sys.argv[1]], sys.argv[1], given)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops the contestants too
        main()
