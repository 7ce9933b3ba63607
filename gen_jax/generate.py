r"""Generates images with a trained run: from prompts, or from seeds alone.

    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --num=8 --seed=0 --out=out
    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --interpolate=1,2 --frames=16 \
        --out=out

    python -m gen_jax.generate --run=runs/faces --num=64 --seed=0 --out=out
    python -m gen_jax.generate --run=runs/faces --interpolate=1,2 --frames=32 --out=out
    python -m gen_jax.generate --run=runs/art --prompt="calm, deep blue, swirling" --out=out
    python -m gen_jax.generate --run=runs/art --guide=runs/art_small --prompt="dark" --out=out
    python -m gen_jax.generate --run=runs/art --detail=runs/detail --prompt="dark" --out=out
    python -m gen_jax.generate --run=runs/art --like=picture.jpg --prompt="dark" --out=out
    python -m gen_jax.generate --run=runs/art --rows=dark,bright --columns=calm,lively --out=out
    python -m gen_jax.generate --run=runs/faces_text --prompt="a man with glasses" --out=out

Writes a PNG and a manifest (JSON) for each picture, and grid.png; an interpolation as
frames.gif, too. A picture depends on its
seed, its prompt and the settings alone, however many are made at once.
"""

import hashlib
import json
import pathlib

from absl import flags

from gen_jax.common import app
from gen_jax.common.errors import UserError

_RUN = flags.DEFINE_string("run", None, "Run directory of a text-to-image model.")
_PROMPT = flags.DEFINE_multi_string("prompt", [], "Text; may be given several times.")
_NEGATIVE = flags.DEFINE_string("negative", "", "Text to keep away from (needs guidance).")
_NUM = flags.DEFINE_integer("num", 4, "Pictures a prompt.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first picture; the next ones count up.")
_OUT = flags.DEFINE_string("out", None, "Folder to write to.")
_SAMPLER = flags.DEFINE_string(
    "sampler", None, "ddpm, ddim, euler, heun, dpmpp_2m or unipc; the run's own by default."
)
_STEPS = flags.DEFINE_integer("steps", None, "Sampling steps; the run's own by default.")
_GUIDANCE = flags.DEFINE_float("guidance", None, "Guidance scale, 1 for none.")
_INTERVAL = flags.DEFINE_string(
    "guidance_interval",
    None,
    "LOW,HIGH: the part of the time range that is guided, from 0 (no noise) to 1.",
)
_RESCALE = flags.DEFINE_float("rescale", None, "Share of the contrast put back, 0 to 1.")
_BATCH = flags.DEFINE_integer("batch", 16, "Pictures at once.")
_INTERPOLATE = flags.DEFINE_string(
    "interpolate", None, "SEED_A,SEED_B: a row from one to another; more seeds: a walk through all."
)
_PATH = flags.DEFINE_string("path", "slerp", "Of the interpolation of faces: slerp or lerp.")
_TRUNCATION = flags.DEFINE_float(
    "truncation", 1.0, "Of faces: nearness to the mean picture, 0, 1 for none."
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Of codes drawn by a prior, 0 for the likeliest; the run's own by default."
)
_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Of an art run in memory: float32 (default), bfloat16 or int8."
)
_GUIDE = flags.DEFINE_string(
    "guide",
    None,
    "Of an art run: the run of a weaker prior over the same codes, to keep away from.",
)
_GUIDE_SCALE = flags.DEFINE_float("guide_scale", 2.0, "How far from --guide, 1 for not at all.")
_DETAIL = flags.DEFINE_string(
    "detail", None, "Of an art run: a run of configs/detail.py that draws what the decoder blurs."
)
_LIKE = flags.DEFINE_string(
    "like",
    None,
    "Of an art run with styles: a picture whose style all shall have, the prompt's words besides.",
)
_ROWS = flags.DEFINE_list("rows", [], "Adjectives of a grid, one a row; with --columns.")
_COLUMNS = flags.DEFINE_list("columns", [], "Adjectives of a grid, one a column.")
_FRAMES = flags.DEFINE_integer("frames", 16, "Pictures of the interpolation.")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number.")


def _check() -> None:
    for name, holder in (("run", _RUN), ("out", _OUT)):
        if not holder.value:
            raise UserError(f"--{name} is missing; see --help")
    for name, holder in (("num", _NUM), ("batch", _BATCH), ("frames", _FRAMES)):
        if holder.value < 1:
            raise UserError(f"--{name}={holder.value}: expected at least 1")
    if _GUIDE_SCALE.present and not _GUIDE.value:
        raise UserError("--guide_scale goes with --guide: name a run, or leave it out")
    if _SEED.value < 0:
        raise UserError(f"--seed={_SEED.value}: expected 0 or more")


def _pair(flag, kind, expected: str):
    """Both parts of a flag's value, as `kind`; None where it is not given."""
    if flag.value is None:
        return None
    try:
        first, second = (kind(s) for s in flag.value.split(","))
    except ValueError as error:
        raise UserError(f"--{flag.name}={flag.value}: expected {expected}") from error
    return first, second


def _seeds_on_the_way():
    """Seeds of the interpolation, None where there is none."""
    if _INTERPOLATE.value is None:
        return None
    try:
        seeds = tuple(int(s) for s in _INTERPOLATE.value.split(","))
    except ValueError:
        seeds = ()
    if len(seeds) < 2 or min(seeds) < 0:
        raise UserError(
            f"--interpolate={_INTERPOLATE.value}: expected two seeds or more, each of 0 or more, "
            "such as --interpolate=1,2"
        )
    if _FRAMES.value < len(seeds):
        raise UserError(f"--frames={_FRAMES.value}: expected at least the {len(seeds)} seeds")
    return seeds


def main(_) -> None:
    """Reads the run, samples and writes."""
    _check()
    interval = _pair(_INTERVAL, float, "LOW,HIGH, such as 0.3,1")
    ends = _seeds_on_the_way()
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.adjectives import AdjectivesToImages
    from gen_jax.pipelines.seeds import SeedsToImages
    from gen_jax.runs import reader

    compilation.set_up()
    model = reader.load(_RUN.value, _STEP.value)
    for flag in (_WEIGHTS, _GUIDE, _DETAIL, _LIKE):
        if flag.value and not AdjectivesToImages.fits(model):
            raise UserError(f"--{flag.name}={flag.value}: only an art run takes it; leave it out")
    if SeedsToImages.fits(model):
        made = _from_seeds(model, ends)
    elif AdjectivesToImages.fits(model):
        made = _from_adjectives(model, ends)
    else:
        made = _from_prompts(model, ends, interval)
    _write(model, ends, *made)


def _from_seeds(model, ends):
    """Pictures, their prompts, seeds, and the settings."""
    import numpy as np

    from gen_jax.pipelines.seeds import SeedsToImages

    pipe = SeedsToImages(
        model, _TRUNCATION.value, 1.0 if _GUIDANCE.value is None else _GUIDANCE.value
    )
    if _NEGATIVE.value or (_PROMPT.value and not pipe.hears_text):
        raise UserError(
            f"--run={_RUN.value}: this {model.config.task.name} run "
            + ("takes no --negative" if pipe.hears_text else "hears no text; leave --prompt out")
        )
    if pipe.hears_text:
        _note_length(pipe)
    prompts = _PROMPT.value or [""]
    z, seeds = None, [_SEED.value + i for i in range(_NUM.value)]
    if ends:
        z = np.concatenate([pipe.between(ends, _FRAMES.value, _PATH.value)] * len(prompts))
        # One noise for all frames: the latent alone changes.
        seeds = [ends[0]] * _FRAMES.value
    texts = [text for text in prompts for _ in seeds]
    seeds = seeds * len(prompts)
    images = pipe(seeds, z, _BATCH.value, texts)
    path = {"path": _PATH.value} if ends else {}
    return images, texts, seeds, {**pipe.settings, **path}


def _from_adjectives(model, ends):
    """Pictures, their prompts, seeds, and the settings."""
    from gen_jax.pipelines.adjectives import AdjectivesToImages, remarks
    from gen_jax.pipelines.autoguidance import guided_by
    from gen_jax.pipelines.detail import with_detail
    from gen_jax.runs import reader

    if ends or _NEGATIVE.value:
        raise UserError(
            f"--run={_RUN.value}: an art run takes neither --interpolate nor --negative: there is "
            "nothing between two codes"
        )
    if bool(_ROWS.value) != bool(_COLUMNS.value) or (_ROWS.value and _PROMPT.value):
        raise UserError("--rows and --columns go together, and take the place of --prompt")
    settings = {}
    if _GUIDE.value:
        guide = reader.load(_GUIDE.value)
        model = guided_by(model, guide, _GUIDE_SCALE.value)
        settings = {
            "guide": str(guide.path),
            "guide_sha256": guide.digest,
            "guide_scale": _GUIDE_SCALE.value,
        }
    if _DETAIL.value:
        detail = reader.load(_DETAIL.value)
        model = with_detail(model, detail)
        settings |= {"detail": str(detail.path), "detail_sha256": detail.digest}
    pipe = AdjectivesToImages(
        model, _GUIDANCE.value, _STEPS.value, _TEMPERATURE.value, _WEIGHTS.value or "float32"
    )
    like = None
    if _LIKE.value:
        like = pipe.picture(_LIKE.value)
        digest = hashlib.sha256(pathlib.Path(_LIKE.value).read_bytes()).hexdigest()
        settings |= {"like": _LIKE.value, "like_sha256": digest}
    prompts = _PROMPT.value or [""]
    if _ROWS.value:
        prompts = [f"{row}, {column}" for row in _ROWS.value for column in _COLUMNS.value]
    for text in [*_ROWS.value, *_COLUMNS.value] if _ROWS.value else prompts:
        for line in remarks(text):
            print(f"note: the prompt {line}")
    _note_length(pipe, prompts)
    number = 1 if _ROWS.value else _NUM.value
    texts = [text for text in prompts for _ in range(number)]
    # One seed for all cells of a grid: the adjectives alone change.
    seeds = [_SEED.value + i for i in range(number)] * len(prompts)
    images = pipe(texts, seeds, _BATCH.value, like)
    return images, texts, seeds, {**pipe.settings, **settings}


def _note_length(pipe, texts=()) -> None:
    """Says which prompts are longer than the model reads."""
    for text in pipe.truncated([*_PROMPT.value, *texts]):
        print(
            f"note: the prompt {text[:40]!r}... is longer than the "
            f"{pipe.task.text_encoder.max_length} tokens that the model reads; the rest is ignored"
        )


def _from_prompts(model, ends, interval):
    """Pictures, their prompts, seeds, and the settings."""
    import numpy as np

    from gen_jax.pipelines import generation

    pipe = generation.TextToImage(
        model,
        sampler=_SAMPLER.value,
        num_inference_steps=_STEPS.value,
        guidance_scale=_GUIDANCE.value,
        guidance_rescale=_RESCALE.value,
        guidance_interval=interval,
    )
    if not _PROMPT.value:
        raise UserError('--prompt is missing: say what to generate, such as --prompt="a cat"')
    _note_length(pipe, [_NEGATIVE.value])
    x_T = None
    if ends:
        prompts = [p for p in _PROMPT.value for _ in range(_FRAMES.value)]
        path = generation.walk(pipe.noise(ends), _FRAMES.value)
        x_T = np.concatenate([path] * len(_PROMPT.value))
        seeds = [ends[0]] * len(prompts)
    else:
        prompts = [p for p in _PROMPT.value for _ in range(_NUM.value)]
        seeds = [_SEED.value + i for i in range(len(prompts))]
    images = pipe(generation.Request(prompts, seeds, _NEGATIVE.value, x_T), _BATCH.value)
    return images, prompts, seeds, {"negative_prompt": _NEGATIVE.value, **pipe.settings}


def _write(model, ends, images, prompts, seeds, settings) -> None:
    from gen_jax.common import files, pictures
    from gen_jax.runs import layout, manifest

    out = layout.make(_OUT.value, "--out")
    facts = {
        "run": str(model.path),
        "checkpoint_step": model.step,
        "weights_sha256": model.digest,
        **settings,
        "environment": manifest.environment(),
    }
    for index, (image, prompt, seed) in enumerate(zip(images, prompts, seeds)):
        name = out / f"{index:05d}.png"
        pictures.save(name, image)
        extra = {"prompt": prompt, "seed": seed, "index": index}
        if ends:
            extra |= {"interpolate": list(ends), "frame": index % _FRAMES.value}
        extra["sha256"] = hashlib.sha256(name.read_bytes()).hexdigest()
        files.write_text(name.with_suffix(".json"), json.dumps({**extra, **facts}, indent=2))
    columns = _FRAMES.value if ends else (_NUM.value if len(_PROMPT.value) > 1 else None)
    columns = len(_COLUMNS.value) or columns
    below = [text or f"seed {seed}" for text, seed in zip(prompts, seeds)]
    pictures.save(out / "grid.png", pictures.grid(images, below, columns=columns))
    if ends:
        pictures.save_gif(out / "frames.gif", images)
    print(f"wrote {len(images)} pictures with manifests to {out}")
    print(f"grid  {pathlib.Path(out) / 'grid.png'}")


if __name__ == "__main__":
    app.run(main)
