r"""Evaluates a run, or one folder of images against another.

    python -m gen_jax.evaluate --run=runs/ldm --out=metrics.json
    python -m gen_jax.evaluate --real=photos --fake=out --size=64 --out=metrics.json
    python -m gen_jax.evaluate --real=photos --fake=out --metrics=fid,kid,fd,cmmd \
        --encoder=inception-v3-fid:pt_inception.safetensors --encoder=dinov2-base \
        --encoder=clip-vit-large-patch14-vision --out=metrics.json

Prints a table and writes the same numbers as JSON. Without --metrics a run is measured by the
evaluators of its config, and folders by what needs no weights. With --metrics a run's pictures (or
the images that an autoencoder gives back) are compared with held-out ones. docs/encoders.md lists
the encoders; each metric takes those that it has a use for:

    fid, kid, clean_fid, clean_kid   inception-v3-fid, input as of pytorch-fid or clean-fid
    fd, kd, prdc, vendi              any tower of images, a row for each; without one untrained
    cmmd                             a -vision tower of CLIP
    clip_score                       a -vision and a -text tower of CLIP; needs captions
    lpips, diversity                 an lpips- tower; lpips needs pairs, as do psnr and ssim
"""

import pathlib

from absl import flags

from gen_jax.common import app
from gen_jax.common.errors import UserError

_RUN = flags.DEFINE_string("run", None, "Run directory; its config names the evaluators.")
_REAL = flags.DEFINE_string("real", None, "Folder of reference images, instead of --run.")
_FAKE = flags.DEFINE_string("fake", None, "Folder of images to judge.")
_METRICS = flags.DEFINE_list("metrics", [], "What to measure, with commas between; see above.")
_ENCODER = flags.DEFINE_multi_string(
    "encoder", [], "NAME[:WEIGHTS] of a frozen encoder for --metrics; may be given several times."
)
_SIZE = flags.DEFINE_integer(
    "size", None, "Side that folders' images are brought to, pixels; 64, with --metrics as stored."
)
_COUNT = flags.DEFINE_integer("count", 1024, "Held-out images for --run with --metrics, at most.")
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
    if _SIZE.value is not None and _SIZE.value < 16:
        raise UserError(f"--size={_SIZE.value}: expected at least 16 pixels")
    if _ENCODER.value and not _METRICS.value:
        raise UserError("--encoder goes with --metrics: name what to measure, such as --metrics=fd")
    from gen_jax.parallel import compilation
    from gen_jax.runs import layout

    compilation.set_up()
    if _RUN.value:
        metrics, notes = _evaluate_run()
    else:
        from gen_jax.evaluation import folders

        size = _SIZE.value if _SIZE.value is not None else 0 if _METRICS.value else 64
        metrics, notes = folders.compare_folders(
            _REAL.value, _FAKE.value, size, _METRICS.value, _ENCODER.value
        )
    width = max(len(k) for k in metrics)
    print(f"{'metric':<{width}}  value")
    for name, number in sorted(metrics.items()):
        note = f"  ({notes[name]})" if name in notes else ""
        print(f"{name:<{width}}  {number:.4f}{note}")
    path = pathlib.Path(_OUT.value)
    layout.make(path.absolute().parent)
    layout.write_json(path, metrics)
    print(f"wrote {path}")


def _evaluate_run() -> tuple[dict[str, float], dict[str, str]]:
    from gen_jax.evaluation import Predictor, build_evaluators, image_metrics, run_all
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.runs import data as run_data
    from gen_jax.runs import reader, text_tower

    image_metrics.check_names(_METRICS.value)
    model = reader.load(_RUN.value, _STEP.value)
    config = model.config
    named = config.get("evaluators", {})
    named = named.to_dict() if named else {}
    if _METRICS.value:
        values = {"metrics": tuple(_METRICS.value), "encoder": tuple(_ENCODER.value)}
        named = {"image_quality": {**values, "count": _COUNT.value}}
    if not named:
        raise UserError(f"{model.path}: its config names no evaluators; name --metrics")
    tokenizer = text_tower.tokenizer(config.task.to_dict(), model.path)
    data = run_data.open_data(config.data.to_dict(), model.path, config.training.seed, tokenizer)
    evaluators = build_evaluators(named, config.task.name)
    mesh = make_mesh({"fsdp": -1})
    predict = Predictor(model.task, model.variables, model.frozen, mesh, seed=_SEED.value)
    result = run_all(evaluators, predict, data)
    return dict(result.metrics), dict(result.notes)


if __name__ == "__main__":
    app.run(main)
