"""Objectives of the face generator side by side: equal generator, data and steps, several seeds.

    python -m benchmarks.face_objectives --data=data/faces --steps=2000 --seeds=3 \
        --encoder=mobilenet-v2:mobilenet_v2_imagenet.safetensors --detector=mtcnn_pnet.safetensors \
        --workdir=runs/face_objectives

Trains `configs/faces.py` by each objective and seed, and prints mean and deviation of what the
evaluator `faces` finds; `sheets.png` has a row of samples for each. What is finished is not trained
again, what was cut off goes on: the command can be repeated. Further flags go to every training:
`"--config.task.generator.block_out_channels=(128,96,64)"`.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np

from gen_jax.common import strict_json

# Name -> `objective` of the config.
OBJECTIVES = {
    "paired, no prior": "paired_normal",
    "paired, Gaussian": "paired_gaussian",
    "paired": "paired",
    "drifting": "drifting",
    "imle": "imle",
    "adversarial": "adversarial",
    "projected": "projected",
    "adversarial and drifting": "guided",
}
_OF_FEATURES = ("fd", "kid", "precision", "recall")
_MEASURES = (
    *_OF_FEATURES,
    *(f"{name}_untrained" for name in _OF_FEATURES),  # without --encoder
    *("diversity", "detection_rate", "anatomy"),
)
_SHOWN = 8


def train(name: str, seed: int, args) -> pathlib.Path:
    """The run directory of an objective and seed, trained."""
    run = args.workdir / f"{name.replace(', ', '_').replace(' ', '_')}_{args.steps}_{seed}"
    if (run / "done.json").is_file():
        return run
    config = f"data={args.data},res={args.res},objective={OBJECTIVES[name]}"
    config += ",gray" if args.gray else ""
    command = [
        sys.executable, "-m", "gen_jax.main", f"--config=configs/faces.py:{config}",
        f"--workdir={run}", f"--config.training.num_steps={args.steps}",
        f"--config.training.eval_every={args.steps}", f"--config.training.seed={seed}",
        f"--config.evaluators.faces.encoder={args.encoder}",
        f"--config.evaluators.faces.detector={args.detector}",
        "--config.evaluators.faces.count=512", *args.further,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return run


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown, a row an objective: mean over seeds, and their deviation."""
    first = next(iter(found.values()))[0]
    names = [n for n in _MEASURES if f"faces/{n}" in first]
    lines = ["| objective | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for objective, reports in found.items():
        cells = []
        for name in names:
            values = [report[f"faces/{name}"] for report in reports]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        lines.append(f"| {objective} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sheet(runs: dict[str, pathlib.Path]) -> np.ndarray:
    """The first samples of each run, a row a run, uint8 [h, w, 3]."""
    from gen_jax import pipelines
    from gen_jax.common import pictures
    from gen_jax.pipelines.sampling import Request
    from gen_jax.runs import reader

    request = Request(range(_SHOWN))
    rows = [pipelines.load(reader.load(str(run), "last"))(request) for run in runs.values()]
    below = [name if i == 0 else "" for name in runs for i in range(_SHOWN)]
    return pictures.grid(np.concatenate(rows), below, columns=_SHOWN)


def main() -> None:
    """Trains, measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="faces: a folder of prepare or featurize")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each objective")
    parser.add_argument("--res", type=int, default=32, help="pixels a side")
    parser.add_argument("--gray", action="store_true", help="one channel")
    parser.add_argument("--encoder", default="", help="NAME:WEIGHTS that judges, not the guide")
    parser.add_argument("--detector", default="", help="MTCNN's weights, to count faces")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=pathlib.Path("runs/face_objectives")
    )
    args, args.further = parser.parse_known_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    found, first = {}, {}
    for seed in range(args.seeds):
        for name in args.objectives:
            try:
                run = train(name, seed, args)
            except subprocess.CalledProcessError as error:  # it has said why
                sys.exit(error.returncode)
            first.setdefault(name, run)
            found.setdefault(name, []).append(strict_json.loads((run / "report.json").read_text()))
            print(table(found), flush=True)
    from gen_jax.common import pictures

    pictures.save(args.workdir / "sheets.png", sheet(first))
    (args.workdir / "table.json").write_text(strict_json.dumps(found, indent=1) + "\n")
    print(f"sheets {args.workdir / 'sheets.png'}")


if __name__ == "__main__":
    main()
