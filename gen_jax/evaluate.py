r"""Evaluates a run, one folder of images against another, or a restorer on a benchmark.

    python -m gen_jax.evaluate --run=runs/ldm --out=metrics.json
    python -m gen_jax.evaluate --run=models/sd15 --data=data/mine --metrics=kid,clip_score \
        --encoder=inception-v3-fid:pt_inception.safetensors --encoder=clip-vit-base-patch32-vision \
        --encoder=clip-vit-base-patch32-text --out=metrics.json
    python -m gen_jax.evaluate --real=photos --fake=out --size=64 --out=metrics.json
    python -m gen_jax.evaluate --real=photos --fake=out --metrics=fid,kid,fd,cmmd \
        --encoder=inception-v3-fid:pt_inception.safetensors --encoder=dinov2-base \
        --encoder=clip-vit-large-patch14-vision --out=metrics.json
    python -m gen_jax.evaluate --calibrate --run=runs/restore_error --images=photos \
        --out=runs/restore_error/calibration.json
    python -m gen_jax.evaluate --benchmark=denoise_gray --images=restore_gray.zip:BSD68 --sigma=25 \
        --restorer=dncnn --weights=weights_small.zip:dncnn_gray_sigma25.safetensors --out=bsd68.json

Prints a table and writes the same numbers as JSON. Without --metrics a run is measured by the
evaluators of its config, and folders by metrics that need no weights. With --metrics a run's
samples (or an autoencoder's reconstructions) are compared with held-out images. docs/encoders.md
lists the encoders; each metric uses those of its kind:

    fid, kid, clean_fid, clean_kid   inception-v3-fid, input as of pytorch-fid or clean-fid
    fd, kd, prdc, vendi              any image encoder, a row per encoder; without one those of an
                                     untrained network, such as fd_untrained
    cmmd                             a -vision encoder of CLIP
    clip_score                       a -vision and a -text encoder of CLIP; needs captions
    lpips, diversity                 an lpips- encoder; lpips needs pairs, as do psnr and ssim

--benchmark degrades each image of --images by a published protocol, restores it, and writes PSNR,
SSIM, LPIPS if --encoder names one, and a row per image (docs/restoration.md):

    denoise_gray, denoise_color      white noise, --sigma
    sr                               shrunk by MATLAB's bicubic, --scale; compared by the luma
    jpeg                             Pillow's JPEG, gray or RGB like the images, --quality
    real_pairs                       photographs NAME_real beside their reference NAME_mean

--calibrate finds up to which expected error of a run of configs/restore_error.py pixels can be
trusted, with a guarantee for images like those of --images, one scene each (docs/provenance.md).

Several strengths, such as --sigma=15,25,50, give a table with a row for each, and a list "levels"
in the JSON.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from gen_jax.common import app, numbers, outputs, paths
from gen_jax.common.errors import UserError

_RUN = paths.DEFINE_path(
    "run",
    None,
    "Run directory, whose config names the evaluators; or a Stable Diffusion pipeline as of "
    "gen_jax.generate, with --data and --metrics.",
)
_DATA = paths.DEFINE_path(
    "data", None, "With --run: folder that gen_jax.prepare wrote, instead of the run's own data."
)
_REAL = paths.DEFINE_path("real", None, "Folder of reference images, instead of --run.")
_FAKE = paths.DEFINE_path("fake", None, "Folder of images to evaluate.")
_METRICS = flags.DEFINE_list("metrics", [], "Metrics, separated by commas; see above.")
_ENCODER = paths.DEFINE_multi_path(
    "encoder", [], "NAME[:WEIGHTS] of a frozen encoder for --metrics."
)
_SIZE = numbers.define_int(
    "size",
    None,
    "Side in pixels to which the images of folders are resized; 64, or as stored with --metrics.",
    16,
    16384,
)
_COUNT = numbers.define_int("count", 1024, "Held-out images for --run with --metrics, at most.", 1)
_BENCHMARK = flags.DEFINE_string(
    "benchmark",
    None,
    "Restoration benchmark: denoise_gray, denoise_color, sr, jpeg or real_pairs.",
)
_IMAGES = paths.DEFINE_path(
    "images", None, "Images of the benchmark: a folder, or FILE.zip[:PREFIX]."
)
_RESTORER = paths.DEFINE_path(
    "restorer", None, "identity, bicubic, shipped, dncnn, ffdnet, scunet, package:NAME or a run."
)
_WEIGHTS = paths.DEFINE_path(
    "weights", "", "Weights of the restorer: .safetensors or FILE.zip:MEMBER."
)
_SIGMA = flags.DEFINE_list(
    "sigma", None, "Standard deviation of the noise in 8-bit units; 25 by default."
)
_SCALE = flags.DEFINE_list("scale", None, "Factor of super-resolution; 4 by default.")
_QUALITY = flags.DEFINE_list("quality", None, "JPEG quality; 10 by default.")
_SYMMETRIES = flags.DEFINE_enum(
    "symmetries",
    "1",
    ["1", "2", "4", "8"],
    "With --benchmark: orientations whose results are averaged (self-ensemble).",
)
_CALIBRATE = flags.DEFINE_boolean(
    "calibrate", False, "Calibrates the error maps of --run on --images."
)
_DEGRADATION = flags.DEFINE_string(
    "degradation", "broad", "With --calibrate: degradation, a preset by name."
)
_ALPHA = numbers.define_float(
    "alpha", 0.1, "With --calibrate: bound of the risk, a share of the pixels.", 0.001, 0.999
)
_DELTA = numbers.define_float(
    "delta", 0.1, "With --calibrate: probability that the intervals do not hold.", 0.001, 0.999
)
_TOLERANCE = numbers.define_float(
    "tolerance", 8.0, "With --calibrate: error of 255 up to which a pixel counts as right.", 0, 255
)
_GUIDING_RUN = paths.DEFINE_path(
    "guiding_run",
    None,
    "With --run: run of a weaker prior over the same codes, for autoguidance "
    "(arXiv:2406.02507; art).",
)
_GUIDING_SCALE = numbers.define_float(
    "guiding_scale", 2.0, "Scale of the guidance by --guiding_run, 1 for none.", 0, 50
)
_REFINER = paths.DEFINE_path(
    "refiner", None, "With --run: run of configs/detail.py that adds fine detail (art)."
)
_GUIDANCE = numbers.define_float(
    "guidance", None, "With --run: guidance scale, 1 for none; the run's own by default.", 0, 50
)
_STEPS = numbers.define_int(
    "steps", None, "With --run: sampling steps; the run's own by default.", 1, 10_000
)
_TEMPERATURE = numbers.define_float(
    "temperature",
    None,
    "With --run: temperature of the codes; the run's own by default (art).",
    0,
    10,
)
# A flag and the setting of sampling that it changes.
_SETTINGS = (
    (_GUIDANCE, "guidance_scale"),
    (_STEPS, "num_inference_steps"),
    (_TEMPERATURE, "temperature"),
)
_SAMPLING = tuple(flag for flag, _ in _SETTINGS)
_OUT = paths.DEFINE_path("out", None, "JSON file to write.")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number.")
_SEED = numbers.define_seed("seed", 0, "Seed of the samples.")


def main(_) -> None:
    """Measures, prints and writes."""
    if not _OUT.value:
        raise UserError("--out is missing: name the JSON file to write")
    outputs.check_file(_OUT.value, "--out")
    if bool(_RUN.value) + bool(_REAL.value or _FAKE.value) + bool(_BENCHMARK.value) != 1:
        raise UserError("name either --run, or --real and --fake, or --benchmark")
    for flag in (_DEGRADATION, _ALPHA, _DELTA, _TOLERANCE):
        if flag.present and not _CALIBRATE.value:
            raise UserError(f"--{flag.name} goes with --calibrate: name both, or leave it out")
    if _BENCHMARK.value:
        if _CALIBRATE.value:
            raise UserError("--calibrate does not go with --benchmark: leave one of them out")
        _evaluate_restorer()
        return
    if _CALIBRATE.value:
        _calibrate()
        return
    for flag in (_IMAGES, _RESTORER, _WEIGHTS, _SIGMA, _SCALE, _QUALITY, _SYMMETRIES):
        if flag.present:
            raise UserError(f"--{flag.name} goes with --benchmark: name one, or leave it out")
    if not _RUN.value and not (_REAL.value and _FAKE.value):
        raise UserError("--real and --fake belong together: name both folders")
    for flag in (_DATA, _GUIDING_RUN, _REFINER, *_SAMPLING):
        if flag.present and not _RUN.value:
            raise UserError(f"--{flag.name} goes with --run: name a run, or leave it out")
    if _GUIDING_SCALE.present and not _GUIDING_RUN.value:
        raise UserError("--guiding_scale goes with --guiding_run: name a run, or leave it out")
    if _ENCODER.value and not _METRICS.value:
        raise UserError("--encoder goes with --metrics: name what to measure, such as --metrics=fd")
    from gen_jax.parallel import compilation

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
    _write(metrics)


def _write(value: Any) -> None:
    from gen_jax.runs import layout

    path = pathlib.Path(_OUT.value)
    layout.make(path.absolute().parent, "--out")
    layout.write_json(path, value)
    print(f"wrote {path}")


def _evaluate_restorer() -> None:
    if not (_IMAGES.value and _RESTORER.value):
        raise UserError("--benchmark needs --images=FOLDER_OR_ZIP[:PREFIX] and --restorer=NAME")
    for flag in (
        *(_METRICS, _SIZE, _COUNT, _STEP, _SEED, _DATA, _GUIDING_RUN, _GUIDING_SCALE, _REFINER),
        *_SAMPLING,
    ):
        if flag.present:
            raise UserError(f"--{flag.name} does not go with --benchmark: leave it out")
    from gen_jax.parallel import compilation

    compilation.set_up()
    from gen_jax.common.progress import ProgressLine
    from gen_jax.evaluation.restoration import report
    from gen_jax.evaluation.restoration import run as benchmark

    lines = []

    def show(done: int, total: int, row: Mapping[str, Any]) -> None:
        if done == 1:
            lines.append(ProgressLine(_BENCHMARK.value, total, 0))
        lines[-1].update(done, row)
        if done == total:
            lines[-1].close()

    try:
        found = benchmark.run_levels(
            _BENCHMARK.value,
            _IMAGES.value,
            _RESTORER.value,
            _WEIGHTS.value,
            {flag.name: flag.value for flag in (_SIGMA, _SCALE, _QUALITY) if flag.value},
            _ENCODER.value,
            show,
            int(_SYMMETRIES.value),
        )
    finally:
        for line in lines[-1:]:
            line.close()
    print(report.table(found[0]) if len(found) == 1 else report.levels(found))
    _write(found[0] if len(found) == 1 else {"levels": found})


def _calibrate() -> None:
    if not (_RUN.value and _IMAGES.value):
        raise UserError("--calibrate needs --run=RUN and --images=FOLDER_OR_ZIP[:PREFIX]")
    from gen_jax.parallel import compilation

    compilation.set_up()
    from gen_jax.common.progress import ProgressLine
    from gen_jax.evaluation import calibration
    from gen_jax.evaluation.restoration import pictures
    from gen_jax.pipelines.error_map import ErrorEstimator
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.runs import reader

    model = reader.load(_RUN.value, _STEP.value)
    first = reader.load_frozen(model.config.frozen.to_dict(), model.path).get("first_stage")
    if first is None:
        raise UserError(f"--run={_RUN.value}: not a run of configs/restore_error.py")
    restorer = Restorer(first)
    line = ProgressLine("calibration", len(pictures.listed(_IMAGES.value)), 0)
    try:
        found, digest = calibration.examples(
            restorer,
            ErrorEstimator(model, restorer),
            _IMAGES.value,
            _DEGRADATION.value,
            progress=lambda done, total: line.update(done, {}),
        )
    finally:
        line.close()
    risk = (_ALPHA.value, _DELTA.value, _TOLERANCE.value)
    values = calibration.calibrate(found, *risk)
    halves = calibration.coverage(found, *risk) if len(found) >= 40 else None
    for name, value in (values | {f"halves_{k}": v for k, v in (halves or {}).items()}).items():
        print(f"{name:<18} {value if value is None else round(value, 4)}")
    _write(
        calibration.document(
            values,
            coverage=halves,
            degradation=_DEGRADATION.value,
            images_sha256=digest,
            weights_sha256=model.digest,
        )
    )


def _evaluate_run() -> tuple[dict[str, float], dict[str, str]]:
    from gen_jax.common.progress import BatchProgress
    from gen_jax.evaluation import (
        Predictor,
        build_evaluators,
        check_data,
        image_metrics,
        run_all,
    )
    from gen_jax.parallel.mesh import make_mesh
    from gen_jax.pipelines.model_changes import guided_by, resampled, with_refiner
    from gen_jax.runs import data as run_data
    from gen_jax.runs import reader

    image_metrics.check_names(_METRICS.value)
    model = reader.load(_RUN.value, _STEP.value)
    if _GUIDING_RUN.value:
        model = guided_by(model, reader.load(_GUIDING_RUN.value), _GUIDING_SCALE.value)
    if _REFINER.value:
        model = with_refiner(model, reader.load(_REFINER.value))
    model = resampled(model, **{name: flag.value for flag, name in _SETTINGS})
    config = model.config
    named = config.get("evaluators", {})
    named = named.to_dict() if named else {}
    if _METRICS.value:
        values = {"metrics": tuple(_METRICS.value), "encoder": tuple(_ENCODER.value)}
        named = {"image_quality": {**values, "count": _COUNT.value}}
    if not named:
        raise UserError(f"{model.path}: its config names no evaluators; name --metrics")
    values = config.data.to_dict()
    if _DATA.value:
        values |= {"dir": _DATA.value, "source": ""}
    elif not (values.get("dir") or values.get("source")):
        raise UserError(
            f"{model.path}: has no data of its own; name a folder of gen_jax.prepare as --data"
        )
    tokenizer = model.tokenizer() if model.has_tokenizer else None
    seed, spec = config.training.seed, model.task.batch_spec()
    is_run = not model.is_released
    data = run_data.open_data(values, model.path, seed, spec, tokenizer, is_run)
    evaluators = build_evaluators(named, config.task.name)
    for note in check_data(evaluators, data):
        print(f"note: {note}", flush=True)
    mesh = make_mesh({"fsdp": -1})
    with BatchProgress() as show:
        predict = Predictor(
            model.task, model.variables, model.frozen, mesh, seed=_SEED.value, show=show
        )
        result = run_all(evaluators, predict, data)
    for text in result.warnings:
        print(f"warning: {text}")
    return dict(result.metrics), dict(result.notes)


if __name__ == "__main__":
    app.run(main)
