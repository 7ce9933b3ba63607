r"""Generates images with a trained run: from prompts, or from seeds alone.

    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --num=8 --seed=0 --out=out/cat
    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --interpolate=1,2 --frames=16 \
        --out=out/walk

    python -m gen_jax.generate --run=runs/faces --num=64 --seed=0 --out=out/faces
    python -m gen_jax.generate --run=runs/faces --interpolate=1,2 --frames=32 --out=out/morph
    python -m gen_jax.generate --run=runs/art --prompt="calm, deep blue, swirling" --out=out/calm
    python -m gen_jax.generate --run=runs/art --guide=runs/art_small --prompt="dark" --out=out/dark
    python -m gen_jax.generate --run=runs/art --detail=runs/detail --prompt="dark" --out=out/sharp
    python -m gen_jax.generate --run=runs/art --like=picture.jpg --prompt="dark" --out=out/like
    python -m gen_jax.generate --run=runs/art --rows=dark,bright --columns=calm,lively --out=out/all
    python -m gen_jax.generate --run=runs/faces_text --prompt="a man with glasses" --out=out/man

Writes a PNG and a manifest (JSON) for each picture, and grid.png; an interpolation as
frames.gif, too. A picture depends on its
seed, its prompt and the settings alone, however many are made at once. A folder that holds earlier
results is refused; with --overwrite they are replaced, and nothing else in it is touched.
"""

import hashlib
import pathlib

from absl import flags

from gen_jax.common import app, numbers, paths
from gen_jax.common.errors import UserError

_MAX_IMAGES = 100_000  # names have five digits

_RUN = paths.DEFINE_path("run", None, "Run directory of a text-to-image model.")
_PROMPT = flags.DEFINE_multi_string("prompt", [], "Text; may be given several times.")
_NEGATIVE = flags.DEFINE_string("negative", "", "Text to keep away from (needs guidance).")
_NUM = numbers.define_int("num", 4, "Pictures a prompt.", 1, _MAX_IMAGES)
_SEED = numbers.define_seed("seed", 0, "Seed of the first picture; the next ones count up.")
_OUT = paths.DEFINE_path("out", None, "Folder to write to.")
_OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace the results of an earlier generation in --out."
)
_SAMPLER = flags.DEFINE_string(
    "sampler", None, "ddpm, ddim, euler, heun, dpmpp_2m or unipc; the run's own by default."
)
_STEPS = numbers.define_int("steps", None, "Sampling steps; the run's own by default.", 1, 10_000)
_GUIDANCE = numbers.define_float("guidance", None, "Guidance scale, 1 for none.", 0, 50)
_INTERVAL = flags.DEFINE_string(
    "guidance_interval",
    None,
    "LOW,HIGH: the part of the time range that is guided, from 0 (no noise) to 1.",
)
_RESCALE = numbers.define_float("rescale", None, "CFG rescale factor phi (arXiv:2305.08891).", 0, 1)
_BATCH = numbers.define_int("batch", 16, "Pictures at once.", 1)
_INTERPOLATE = flags.DEFINE_string(
    "interpolate", None, "SEED_A,SEED_B: a row from one to another; more seeds: a walk through all."
)
_PATH = flags.DEFINE_string("path", "slerp", "Of the interpolation of faces: slerp or lerp.")
_TRUNCATION = numbers.define_float(
    "truncation",
    1.0,
    "StyleGAN truncation psi (faces only): 1 is off, 0 is the mean image.",
    0,
    2,
)
_TEMPERATURE = numbers.define_float(
    "temperature",
    None,
    "Of codes drawn by a prior, 0 for the likeliest; the run's own by default.",
    0,
    10,
)
_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Of an art run in memory: float32 (default), bfloat16 or int8."
)
_GUIDE = paths.DEFINE_path(
    "guide",
    None,
    "Of an art run: the run of a weaker prior over the same codes, to keep away from.",
)
_GUIDE_SCALE = numbers.define_float(
    "guide_scale", 2.0, "How far from --guide, 1 for not at all.", 0, 50
)
_DETAIL = paths.DEFINE_path(
    "detail", None, "Of an art run: a run of configs/detail.py that draws what the decoder blurs."
)
_LIKE = paths.DEFINE_path(
    "like",
    None,
    "Of an art run with styles: a picture whose style all shall have, the prompt's words besides.",
)
_ROWS = flags.DEFINE_list("rows", [], "Adjectives of a grid, one a row; with --columns.")
_COLUMNS = flags.DEFINE_list("columns", [], "Adjectives of a grid, one a column.")
_FRAMES = numbers.define_int("frames", 16, "Pictures of the interpolation.", 1, _MAX_IMAGES)
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number.")

# Flags that some kinds of runs alone read; elsewhere they are refused.
_OF_SEEDS = (_GUIDANCE, _TRUNCATION, _INTERPOLATE, _PATH, _NEGATIVE)
_OF_ADJECTIVES = (
    *(_GUIDANCE, _STEPS, _TEMPERATURE, _WEIGHTS, _GUIDE, _GUIDE_SCALE, _DETAIL, _LIKE),
    *(_ROWS, _COLUMNS, _INTERPOLATE, _NEGATIVE),
)
_OF_PROMPTS = (_GUIDANCE, _STEPS, _SAMPLER, _INTERVAL, _RESCALE, _NEGATIVE, _INTERPOLATE)


def _check() -> None:
    for name, holder in (("run", _RUN), ("out", _OUT)):
        if not holder.value:
            raise UserError(f"--{name} is missing; see --help")
    if _GUIDE_SCALE.present and not _GUIDE.value:
        raise UserError("--guide_scale goes with --guide: name a run, or leave it out")
    for flag in (_FRAMES, _PATH):
        if flag.present and _INTERPOLATE.value is None:
            raise UserError(f"--{flag.name} goes with --interpolate: name seeds, or leave it out")
    for flag, other in ((_NUM, _INTERPOLATE), (_SEED, _INTERPOLATE), (_NUM, _ROWS)):
        if flag.present and other.value:
            raise UserError(f"--{flag.name} does not go with --{other.name}: leave it out")
    if (count := _number_of_images()) > _MAX_IMAGES:
        raise UserError(f"{count:,} pictures are asked for: expected at most {_MAX_IMAGES:,}")
    # Each prompt of a text-to-image run has seeds of its own.
    last = _NUM.value * max(1, len(_PROMPT.value)) if _INTERPOLATE.value is None else 1
    numbers.check_seed(_SEED.value, "--seed", last)


def _number_of_images() -> int:
    if _ROWS.value:
        return len(_ROWS.value) * len(_COLUMNS.value)
    each = _NUM.value if _INTERPOLATE.value is None else _FRAMES.value
    return each * max(1, len(_PROMPT.value))


def _interval() -> tuple[float, float] | None:
    """Returns the part of the time range that is guided; None for the run's own."""
    if _INTERVAL.value is None:
        return None
    ends = _INTERVAL.value.split(",")
    if len(ends) != 2:
        raise UserError(f"--guidance_interval={_INTERVAL.value}: expected LOW,HIGH, such as 0.3,1")
    low, high = (numbers.parse(end, "--guidance_interval", float, 0, 1) for end in ends)
    if low > high:
        raise UserError(f"--guidance_interval={_INTERVAL.value}: expected LOW of at most HIGH")
    return low, high


def _seeds_on_the_way():
    """Seeds of the interpolation, None where there is none."""
    if _INTERPOLATE.value is None:
        return None
    texts = _INTERPOLATE.value.split(",")
    if len(texts) < 2:
        raise UserError(
            f"--interpolate={_INTERPOLATE.value}: expected two seeds or more, such as "
            "--interpolate=1,2"
        )
    seeds = tuple(numbers.check_seed(text, "--interpolate") for text in texts)
    if _FRAMES.value < len(seeds):
        raise UserError(f"--frames={_FRAMES.value}: expected at least the {len(seeds)} seeds")
    return seeds


def main(_) -> None:
    """Reads the run, samples and writes."""
    _check()
    interval, ends = _interval(), _seeds_on_the_way()
    from gen_jax.pipelines import generated

    place = generated.check(_OUT.value, _OVERWRITE.value)
    from gen_jax.parallel import compilation
    from gen_jax.pipelines.adjectives import AdjectivesToImages
    from gen_jax.pipelines.seeds import SeedsToImages
    from gen_jax.runs import reader

    compilation.set_up()
    model = reader.load(_RUN.value, _STEP.value)
    if SeedsToImages.fits(model):
        _refuse_others(model, _OF_SEEDS)
        results = _from_seeds(model, ends)
    elif AdjectivesToImages.fits(model):
        _refuse_others(model, _OF_ADJECTIVES)
        results = _from_adjectives(model, ends)
    else:
        _refuse_others(model, _OF_PROMPTS)
        results = _from_prompts(model, ends, interval)
    _write(place, model, ends, *results)


def _refuse_others(model, flags_read) -> None:
    """Raises UserError for a flag that is given and that this kind of run does not read."""
    names_read = {flag.name for flag in flags_read}
    stage = model.config.get("task", {}).get("name", "another model")
    for flag in (*_OF_SEEDS, *_OF_ADJECTIVES, *_OF_PROMPTS):
        if flag.present and flag.name not in names_read:
            raise UserError(
                f"--{flag.name}={flag.value}: {model.path} is a run of {stage}, which does not "
                "read it; leave it out"
            )


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
        _note_texts(pipe, _PROMPT.value)
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


def _note_texts(pipe, texts) -> None:
    """Prints which texts the model cannot read as they stand, each in a line."""
    for text in dict.fromkeys(texts):
        if words := pipe.unknown_words(text):
            listed = ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")
            print(
                f"note: the prompt {_short(text)}: {listed}: not among the words that the run "
                "learned from its captions; it may not know them"
            )
    _note_length(pipe, texts)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}..."


def _note_length(pipe, texts) -> None:
    """Prints which texts are longer than the model reads."""
    for text in pipe.truncated(list(texts)):
        print(
            f"note: the prompt {_short(text)} is longer than the "
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
    _note_texts(pipe, [*_PROMPT.value, _NEGATIVE.value])
    if pipe.settings["guidance_scale"] == 1.0:
        for flag in (_NEGATIVE, _INTERVAL, _RESCALE):
            if flag.value:
                print(f"note: --{flag.name} has no effect at a guidance of 1; raise --guidance")
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


def _write(place, model, ends, images, prompts, seeds, settings) -> None:
    from gen_jax.common import pictures
    from gen_jax.pipelines import generated
    from gen_jax.runs import manifest

    facts = {
        "run": str(model.path),
        "checkpoint_step": model.step,
        "weights_sha256": model.digest,
        **settings,
        "environment": manifest.environment(),
    }
    manifests = []
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        extra = {"prompt": prompt, "seed": seed}
        if ends:
            extra |= {"interpolate": list(ends), "frame": index % _FRAMES.value}
        manifests.append(extra | facts)
    columns = _FRAMES.value if ends else (_NUM.value if len(_PROMPT.value) > 1 else None)
    columns = len(_COLUMNS.value) or columns
    below = [text or f"seed {seed}" for text, seed in zip(prompts, seeds)]
    grid = pictures.grid(images, below, columns=columns)
    out, earlier = place
    generated.write(out, earlier, images, manifests, grid, animated=bool(ends))
    print(f"wrote {len(images)} pictures with manifests to {out}")
    print(f"grid  {out / generated.GRID}")


if __name__ == "__main__":
    app.run(main)
