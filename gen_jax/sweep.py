r"""Trains a config over many values of some of its fields, and reports the best ones.

    python -m gen_jax.sweep --config=configs/vqvae.py --space=space.json --trials=8 --out=sweeps/a
    python -m gen_jax.sweep --config=configs/vqvae.py --space=space.json --study=search \
        --trials=40 --out=sweeps/b --workers=2

The space is a JSON object, a list or a range for each field:

    {"task.quantizer.num_codes": [256, 1024],
     "task.beta": {"low": 0.05, "high": 1.0, "log": true}}

Without --study all combinations of lists are trained, in their order; with it, Optuna (TPE) draws
from the space, and trials that are worse than the median of the others at the same step are stopped
(--noprune: none is). Everything is kept in OUT/study.db: the same command goes on where it was
interrupted, and run several times at once (a SLURM array, say) the processes share the work. Any
value of the recipe can be set for all trials as --config.key.sub=value.

Writes OUT/table.md and table.csv, plot.png, best.json (the best trial's config) and OUT/trials.
"""

import sys

from absl import flags

from gen_jax.common import app, files, numbers, outputs, paths
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError


def _complete(config):
    from gen_jax.training import defaults

    return defaults.complete(config)


_CONFIG = config_lib.define("Recipe, FILE or FILE:ARG, for example configs/vqvae.py.", _complete)
flags.declare_key_flag("config")
_SPACE = paths.DEFINE_path("space", None, "JSON file with the fields to vary.")
_STUDY = flags.DEFINE_string("study", "", "Name of an Optuna study; without one, a grid.")
_TRIALS = numbers.define_int("trials", None, "Trials in all; a grid's own number by default.", 1)
_OUT = paths.DEFINE_path("out", None, "Folder of the sweep.")
_METRIC = flags.DEFINE_string(
    "metric",
    None,
    "Key of report.json to optimize, such as vqvae/psnr; the recipe's training.best_metric "
    "by default.",
)
_MODE = flags.DEFINE_enum(
    "mode", None, ["min", "max"], "Whether the smallest or the largest value is best."
)
_WORKERS = numbers.define_int("workers", 1, "Trials at the same time.", 1)
_PRUNE = flags.DEFINE_boolean("prune", None, "Stop poor trials early; by default with --study.")
_WARMUP = numbers.define_int(
    "prune_after", 0, "Training steps before which no trial is stopped.", 0
)
_SEED = numbers.define_seed("seed", 0, "Seed of the search.")
_SPACE_FILE = "space.json"


def main(_) -> None:
    """Runs the trials and writes what came out."""
    config = config_lib.value(_CONFIG)
    if not _OUT.value:
        raise UserError("--out is missing: name a folder for the sweep, such as sweeps/a")
    outputs.check_folder(_OUT.value, "--out")
    metric = _METRIC.value or config.training.best_metric
    if not metric:
        raise UserError(
            "--metric is missing: name what the sweep is for, as report.json has it, such as "
            "--metric=vqvae/psnr"
        )
    plan = _plan(config, metric)
    from gen_jax.training import sweep, sweep_report

    study = sweep.run(plan, _WORKERS.value)
    written = sweep_report.write(study, plan)
    print(files.read_text(written[1]))
    for path in written:
        print(path)


def _plan(config, metric: str):
    import pathlib

    from gen_jax.runs import layout
    from gen_jax.training import search_space
    from gen_jax.training.sweep import Plan

    kept = pathlib.Path(_OUT.value) / _SPACE_FILE
    source = pathlib.Path(_SPACE.value) if _SPACE.value else kept
    if not _SPACE.value and not kept.is_file():
        raise UserError("--space is missing: name a JSON file with the fields to vary, see --help")
    space = search_space.read(source, config)
    points = None if _STUDY.value else sum(1 for _ in search_space.grid(space))
    if points is None and _TRIALS.value is None:
        raise UserError("--trials is missing: say how many trials the study may have")
    out = layout.make(_OUT.value, "--out")
    if not kept.exists():
        files.write_text(kept, files.read_text(source))
    return Plan(
        arguments=tuple(a for a in sys.argv[1:] if _is_config(a)),
        space=space,
        out=out,
        name=_STUDY.value,
        trials=_TRIALS.value or points,
        metric=metric,
        mode=_MODE.value or config.training.best_mode,
        prune=bool(_STUDY.value) if _PRUNE.value is None else _PRUNE.value,
        warmup=_WARMUP.value,
        seed=_SEED.value,
    )


def _is_config(argument: str) -> bool:
    name = argument.lstrip("-")
    if name in ("config", "noconfig"):
        raise UserError("--config: write --config=FILE, with an equals sign")
    return argument.startswith("-") and name.startswith(("config=", "config.", "noconfig."))


if __name__ == "__main__":
    app.run(main)
