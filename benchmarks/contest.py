"""Contestants of a benchmark in processes of their own, which take turns.

A process keeps its memory, its settings and its compiled programs to itself; taking turns, a busy
machine disturbs all alike.
"""

import argparse
import contextlib
import importlib.util
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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gen_jax.common import memory, strict_json


def add_options(parser: argparse.ArgumentParser, timeout: float = 600.0) -> None:
    """Adds the flags that every contest has.

    Args:
      parser: Parser of the benchmark.
      timeout: Default limit of a contestant's run, in seconds.
    """
    parser.add_argument("--timeout", type=float, default=timeout, help="seconds a run may take")
    parser.add_argument("--skip-peer", action="store_true", help="measure ours alone")
    parser.add_argument("--out", help="a JSON file for all numbers")


def taking_part(
    contestants: Iterable[str], args, *packages: str, gpu_only: Collection[str] = ()
) -> list[str]:
    """Returns the names of the contestants that can run here, ours first.

    Args:
      contestants: Names of all contestants; ours begin with "gen_jax".
      args: Arguments of the benchmark, see `add_options`.
      *packages: Packages that the peers import, torch among them.
      gpu_only: Names of the contestants that run on a GPU alone.
    """
    ours = [who for who in contestants if who.startswith("gen_jax")]
    if args.skip_peer:
        return ours
    if not all(map(importlib.util.find_spec, packages)):
        verb = "are" if len(packages) > 1 else "is"
        print(f"{' and '.join(packages)} {verb} not installed here: only ours is measured")
        return ours
    if not gpu_only:
        return list(contestants)
    import torch

    return [who for who in contestants if who not in gpu_only or torch.cuda.is_available()]


def warn_if_busy() -> float:
    """Returns the load average; prints a line if other work would disturb the comparison."""
    if (load := os.getloadavg()[0]) > 0.5:  # torch's threads wait for one another
        print(f"load average {load:.1f}: beside other work torch loses more than we do")
    return load


def end_on_sigterm() -> None:
    """Makes SIGTERM raise SystemExit, so that `finally` blocks end the contestants, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


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
        return strict_json.loads(line.decode())


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


def write(args, **results) -> None:
    """Writes the arguments and the results as JSON to the file `args.out`, if one is named."""
    if args.out:
        numbers = {k: v for k, v in vars(args).items() if k not in ("folder", "out")}
        text = strict_json.dumps({**numbers, **results}, indent=2)
        pathlib.Path(args.out).write_text(text + "\n")


def enter(contestants: Mapping[str, Callable[[Any], tuple]], main: Callable[[], None]) -> None:
    """What a benchmark's `__main__` calls: `main`, or a contestant in one of its processes."""
    if sys.argv[1:] and sys.argv[1] in contestants:
        given = argparse.Namespace(**strict_json.loads(sys.argv[2]))
        serve(contestants[sys.argv[1]], sys.argv[1], given)
    else:
        end_on_sigterm()
        main()
