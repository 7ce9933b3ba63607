"""Evaluates a run, or one folder of images against another.

    python -m gen_jax.evaluate --run=runs/ldm --out=metrics.json
    python -m gen_jax.evaluate --real=photos --fake=out --size=64 --out=metrics.json

Prints a table and writes the same numbers as JSON.
"""

import pathlib

from absl import flags

from gen_jax.common import app
from gen_jax.common.errors import UserError

_RUN = flags.DEFINE_string("run", None, "Run directory; its config names the evaluators.")
_REAL = flags.DEFINE_string("real", None, "Folder of reference images, instead of --run.")
_FAKE = flags.DEFINE_string("fake", None, "Folder of images to judge.")
_SIZE = flags.DEFINE_integer("size", 64, "Side that the folders' images are brought to, pixels.")
_OUT = flags.DEFINE_string("out", None, "JSON file to write.")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of what is sampled.")


def main(_) -> None:
    """Measures, prints and writes."""
    if not _OUT.value:
        raise UserError("--out is missing: name the JSON file to write")
    if bool(_RUN.value) == bool(_REAL.value or _FAKE.value):
        raise UserError("name either --run, or --real and --fake")
    if not _RUN.value and not (_REAL.value and _FAKE.value):
        raise UserError("--real and --fake belong together: name both folders")
    if _SIZE.value < 16:
        raise UserError(f"--size={_SIZE.value}: expected at least 16 pixels")
    from gen_jax.parallel import compilation
    from gen_jax.runs import layout

    compilation.set_up()
    if _RUN.value:
        metrics = _evaluate_run()
    else:
        from gen_jax.evaluation import folders

        metrics = folders.compare_folders(_REAL.value, _FAKE.value, _SIZE.value)
    width = max(len(k) for k in metrics)
    print(f"{'metric':<{width}}  value")
    for name, number in sorted(metrics.items()):
        print(f"{name:<{width}}  {number:.4f}")
    path = pathlib.Path(_OUT.value)
    layout.make(path.absolute().parent)
    layout.write_json(path, metrics)
    print(f"wrote {path}")


def _evaluate_run() -> dict[str, float]:
    from gen_jax.evaluation import Predictor, build_evaluators, run_all
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.runs import data as run_data
    from gen_jax.runs import reader, text_tower

    model = reader.load(_RUN.value, _STEP.value)
    config = model.config
    if not config.get("evaluators"):
        raise UserError(f"{model.path}: its config names no evaluators")
    tokenizer = text_tower.tokenizer(config.task.to_dict(), model.path)
    data = run_data.open_data(config.data.to_dict(), model.path, config.training.seed, tokenizer)
    evaluators = build_evaluators(config.evaluators.to_dict(), config.task.name)
    mesh = make_mesh({"fsdp": -1})
    predict = Predictor(model.task, model.variables, model.frozen, mesh, seed=_SEED.value)
    return dict(run_all(evaluators, predict, data).metrics)


if __name__ == "__main__":
    app.run(main)
