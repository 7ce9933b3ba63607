"""Everything that is to be measured on an accelerator, in order of importance, within a budget.

    python -m benchmarks.gpu_day --budget=12m --data=data --out=runs/gpu_day
    python -m benchmarks.gpu_day --budget=5m --only=train_step,sampling --skip-peer
    python -m benchmarks.gpu_day --tiny --budget=10m

Each program of `ENTRIES` is a process with a limit of its own. Trainings share the card, two at a
time, so that one compiles while the other trains; what measures speed has it alone. `day.md` and
`day.json` in `--out` are written after every program, a log and a JSON file for each beside them.
SIGTERM ends the programs that run and writes the table; trainings save their state, and the same
command takes them up again. `--cache` keeps XLA's compiled programs for the next day.
docs/benchmarks.md lists what `--data` must hold.
"""

import argparse
import functools
import pathlib
import re
import subprocess
import sys

from benchmarks import contest, day_figures, day_runner
from benchmarks.day_figures import PEER, Goal
from benchmarks.day_runner import Day, Entry

_FACES = "-m gen_jax.main --config=configs/faces.py:objective=guided,size=base,gray"
_TINY_FACES = "-m gen_jax.main --config=configs/faces.py:objective=guided,gray,debug"
_DETECTOR = "--config.evaluators.faces.detector={data}/mtcnn_pnet.safetensors"
_FADED_IN = "--config.training.num_steps=1500 --config.task.fade_steps=500"
_of_restorer = functools.partial(day_figures.of_run, names=("restore/psnr", "model/loss"))
_of_faces = functools.partial(
    day_figures.of_run, names=("faces/detection_rate", "faces/detection_rate_real", "faces/anatomy")
)


def _faces(res: int, data: str, before: int, seconds: float) -> Entry:
    """A face generator of `res` pixels, which begins with the one of `before` pixels if not 0."""
    run, earlier = f"{{out}}/faces_{res}", f"{{out}}/faces_{before}"
    start = f"--config.init_from={earlier} " if before else ""
    more = f"{start}{_FADED_IN} " if before else ""
    return Entry(
        f"faces_{res}",
        f"{_FACES},res={res},data={{data}}/{data} {more}{_DETECTOR} --workdir={run}",
        goals=(Goal("faces/detection_rate", least=0.95), Goal("faces/anatomy", least=0.95)),
        seconds=seconds,
        cap=240,
        tiny=f"{_TINY_FACES} {start}--workdir={run}",
        result=run,
        read=_of_faces,
        needs=(
            f"{{data}}/{data}/dataset.json",
            "{data}/mtcnn_pnet.safetensors",
            *([f"{earlier}/checkpoints"] if before else []),
        ),
        after=f"faces_{before}" if before else "",
        is_shareable=True,
    )


# The first is the most important. Seconds are estimates; goals are for one H200.
ENTRIES = (
    Entry(
        "train_step",
        "-m benchmarks.train_step --size=sd2 --batch=32 --dtype=bfloat16 --warmup=300 --steps=300 "
        "--out={json}",
        goals=(
            Goal("images/s", least=144),  # MLPerf Training v5.0, one H200
            Goal("full recipe / step", most=1.06),
            Goal(PEER, most=0.9),
        ),
        seconds=400,
        cap=600,
        tiny="-m benchmarks.train_step --size=tiny --batch=1 --warmup=0 --steps=1 --out={json}",
        read=day_figures.of_steps,
        has_peer=True,
    ),
    Entry(
        "restore_large",
        "-m gen_jax.main --config=configs/restore_text.py:variant=large,data={data}/bsds432 "
        "--config.training.num_steps=6000 --config.training.checkpoint_every=500 "
        "--config.data.num_workers=8 --workdir={out}/restore_large",
        seconds=420,
        cap=480,
        tiny="-m gen_jax.main --config=configs/restore_text.py:variant=large,debug "
        "--workdir={out}/restore_large",
        result="{out}/restore_large",
        read=_of_restorer,
        needs=("{data}/bsds432/dataset.json",),
        is_shareable=True,
    ),
    Entry(
        "restore_large_cbsd68",
        "-m gen_jax.evaluate --benchmark=denoise_color --images={data}/restore_color.zip:CBSD68 "
        "--sigma=25 --restorer={out}/restore_large --out={json}",
        goals=(Goal("PSNR, dB", least=31.2),),
        seconds=60,
        cap=180,
        tiny="-m gen_jax.evaluate --benchmark=denoise_color --images={out}/pictures "
        "--sigma=25 --restorer={out}/restore_large --out={json}",
        read=day_figures.of_restorer,
        needs=("{data}/restore_color.zip", "{out}/restore_large/checkpoints"),
        after="restore_large",
        is_shareable=True,
    ),
    Entry(
        "restore_large_weights",
        "-m gen_jax.export --run={out}/restore_large --dtype=float16 --out={out}/weights",
        goals=(Goal("MB", most=28),),
        seconds=20,
        cap=60,
        tiny="-m gen_jax.export --run={out}/restore_large --dtype=float16 --out={out}/weights",
        result="{out}/weights",
        read=day_figures.of_export,
        is_replaced=True,
        needs=("{out}/restore_large/checkpoints",),
        after="restore_large_cbsd68",
        is_shareable=True,
    ),
    Entry(
        "sampling",
        "-m benchmarks.sampling --size=sd2 --dtype=bfloat16 --samplers euler dpmpp_2m "
        "--timeout=150 --out={json}",
        goals=(Goal(PEER, most=0.8),),
        seconds=150,
        cap=300,
        tiny="-m benchmarks.sampling --size=tiny --batch=1 --steps=2 --samplers euler --repeats=1 "
        "--out={json}",
        read=day_figures.of_sampling,
        has_peer=True,
    ),
    Entry(
        "features",
        "-m benchmarks.features --size=large --batch=128 --dtype=bfloat16 --images=4096 "
        "--timeout=100 --out={json}",
        goals=(Goal("images/s", least=2400), Goal(PEER, least=1.3)),
        seconds=120,
        cap=240,
        tiny="-m benchmarks.features --size=small --batch=1 --repeats=1 --images=8 --out={json}",
        read=day_figures.of_features,
        has_peer=True,
    ),
    _faces(64, "faces", before=0, seconds=120),
    _faces(128, "faces256", before=64, seconds=120),
    _faces(256, "faces256", before=128, seconds=150),
    Entry(
        "restore",
        "-m benchmarks.restore --runs train --batch=24 --dtype=bfloat16 --repeats=10 "
        "--timeout=250 --out={json}",
        goals=(Goal(PEER, most=0.7),),
        seconds=180,
        cap=400,
        tiny="-m benchmarks.restore --runs train --dim=16 --head_dim=8 --depth=1 --size=64 "
        "--crop=64 --batch=1 --repeats=1 --out={json}",
        read=day_figures.of_contest,
        has_peer=True,
    ),
    Entry(
        "vqvae",
        "-m benchmarks.vqvae --runs train --size=base --batch=64 --dtype=bfloat16 --repeats=20 "
        "--timeout=100 --out={json}",
        goals=(Goal(PEER, most=1.0),),
        seconds=90,
        cap=240,
        tiny="-m benchmarks.vqvae --runs train --batch=1 --repeats=1 --out={json}",
        read=day_figures.of_contest,
        has_peer=True,
    ),
)


def seconds_of(text: str) -> float:
    """Reads a time such as "12m", "90s", "1.5h" or "90".

    Raises:
      argparse.ArgumentTypeError: The text is no positive time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    value = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 12m or 90s")
    return value


def chosen(names: str) -> list[Entry]:
    """Returns the entries of a list of names with commas between, all for "".

    Raises:
      SystemExit: There is no entry of that name.
    """
    wanted = [name for name in names.split(",") if name]
    known = [entry.name for entry in ENTRIES]
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"--only={names}: unknown {unknown[0]!r}; expected some of {', '.join(known)}")
    return [entry for entry in ENTRIES if not wanted or entry.name in wanted]


def accelerator() -> str:
    """Returns the name of JAX's device, from a process that ends and so leaves the card free.

    Raises:
      SystemExit: There is no accelerator, or JAX cannot use it.
    """
    code = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    platform, _, name = (done.stdout.splitlines() or [""])[-1].partition(" ")
    if done.returncode or platform == "cpu":
        reason = done.stderr.strip().splitlines()[-1:] or ["JAX finds none"]
        sys.exit(f"no accelerator ({reason[0]}); --tiny runs every program at a size for a CPU")
    return name


def write_tiny_pictures(folder: pathlib.Path) -> None:
    """Writes two small images for the benchmark of restorers."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in "ab":
        pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


def main() -> None:
    """Runs the chosen entries and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=seconds_of, default="12m", help="time in all, such as 12m")
    parser.add_argument("--out", type=pathlib.Path, default="runs/gpu_day", help="results")
    parser.add_argument("--data", type=pathlib.Path, default="data", help="prepared data sets")
    parser.add_argument(
        "--cache", type=pathlib.Path, default="runs/xla_cache", help="XLA's compiled programs"
    )
    parser.add_argument("--only", default="", help="names of entries, with commas between")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds on a CPU")
    parser.add_argument("--skip-peer", action="store_true", help="measure ours alone")
    args = parser.parse_args()
    entries, out = chosen(args.only), args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if args.tiny:
        write_tiny_pictures(out / "pictures")
    day = Day(
        out=out,
        data=args.data.absolute(),
        cache=args.cache.absolute(),
        budget=args.budget,
        is_tiny=args.tiny,
        skip_peer=args.skip_peer,
        device="" if args.tiny else accelerator(),
    )
    rows = day_runner.run(entries, day, show=functools.partial(print, flush=True))
    print(f"\n{day_figures.table(rows)}\n\nwrote {out / 'day.md'} and {out / 'day.json'}")
    sys.exit(any(row.outcome == "failed" for row in rows))


if __name__ == "__main__":
    contest.end_on_sigterm()
    main()
