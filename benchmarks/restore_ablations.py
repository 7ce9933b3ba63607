"""The text-guided restorer with and without its parts: equal data, steps and seed for each.

    python -m benchmarks.restore_ablations --data=data/bsds432 --images=restore_color.zip:CBSD68 \
        --steps=1200 --workdir=runs/ablations

Every variant of configs/restore_text.py is trained and measured as `benchmarks.instructions` does.
What is finished already is not trained again: a run that was cut off goes on from its checkpoint.
"""

import argparse
import pathlib
import subprocess
import sys

from gen_jax.common import strict_json

VARIANTS = {
    "block": "",  # the recipe: text both ways, a gate for each place
    "global": "gate=global",
    "none": "gate=none",
    "film": "text=film",
    "cross": "text=cross",
    "body": "places=body",
    "decoder": "places=decoder",
}
_COLUMNS = {
    "matching": ("instructions", "psnr_matching"),
    "none": ("instructions", "psnr_empty"),
    "shuffled": ("instructions", "psnr_shuffled"),
    "wrong": ("instructions", "psnr_wrong"),
    "`photograph`": ("photograph", "psnr"),
    "gate, noise": ("denoise_blind", "gate_severity"),
    "gate, `photograph`": ("photograph", "gate_severity"),
    "clean, no prompt": ("drift", "empty"),
    'clean, "denoise"': ("drift", "denoise"),
    'clean, "sharpen"': ("drift", "sharpen"),
}


def train(name: str, args) -> pathlib.Path:
    """The variant's run directory, trained."""
    run = args.workdir / f"{name}_{args.steps}_{args.seed}"
    config = ",".join(v for v in (f"data={args.data}", VARIANTS[name]) if v)
    command = [
        sys.executable, "-m", "gen_jax.main", f"--config=configs/restore_text.py:{config}",
        f"--workdir={run}", f"--config.training.num_steps={args.steps}",
        f"--config.training.eval_every={args.steps}", f"--config.training.seed={args.seed}",
        f"--config.training.checkpoint_every={max(100, args.steps // 8)}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return run


def measure(run: pathlib.Path, args) -> dict:
    """What `benchmarks.instructions` measures, kept beside the runs."""
    out = args.workdir / f"{run.name}.json"
    if not out.exists():
        command = [
            sys.executable, "-m", "benchmarks.instructions", f"--run={run}",
            f"--images={args.images}", f"--out={out}",
            "--degradations", "denoise_blind", "photograph",
        ]  # fmt: skip
        subprocess.run(command, check=True)
    return strict_json.loads(out.read_text())


def table(found: dict[str, dict]) -> str:
    """Markdown, a row a variant; PSNR in dB and rank correlations."""
    lines = ["| variant | " + " | ".join(_COLUMNS) + " |", "|---" * (1 + len(_COLUMNS)) + "|"]
    for name, values in found.items():
        cells = []
        for title, (group, key) in _COLUMNS.items():
            value = values[group].get(key)  # of a gate that never moves there is no rank
            digits = 3 if title.startswith("gate") else 2
            cells.append("-" if value is None or value != value else f"{value:.{digits}f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="shards of photographs, for training")
    parser.add_argument(
        "--images", required=True, help="held-out ones: folder or FILE.zip[:PREFIX]"
    )
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/ablations"))
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in args.variants:
        try:
            found[name] = measure(train(name, args), args)
        except subprocess.CalledProcessError as error:  # it has said why
            sys.exit(error.returncode)
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
