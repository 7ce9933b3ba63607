r"""Generates images with a trained run, from prompts or from seeds alone.

    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --num=8 --seed=0 --out=out/cat
    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --interpolate=1,2 --frames=16 \
        --out=out/walk
    python -m gen_jax.generate --run=runs/engravings --num=16 --out=out/engravings
    python -m gen_jax.generate --run=runs/engravings --near=7 --distance=0.3 --out=out/like_7
    python -m gen_jax.generate --run=runs/engravings --image=scan.png --out=out/caption
    python -m gen_jax.generate --run=runs/engravings --image=a.png --style_image=b.png \
        --out=out/mix
    python -m gen_jax.generate --run=runs/faces --num=64 --seed=0 --out=out/faces
    python -m gen_jax.generate --run=runs/faces_text --prompt="a man with glasses" --out=out/man
    python -m gen_jax.generate --run=runs/art --prompt="calm, deep blue, swirling" --out=out/calm
    python -m gen_jax.generate --run=runs/art --rows=dark,bright --columns=calm,lively --out=out/all
    python -m gen_jax.generate --run=runs/art --style_image=photo.jpg --prompt=dark --out=out/style
    python -m gen_jax.generate --run=runs/art --guiding_run=runs/art_small --prompt=dark --out=out/b
    python -m gen_jax.generate --run=runs/art --refiner=runs/detail --prompt=dark --out=out/sharp

Writes a PNG and a manifest (JSON) for each image, a grid.png, and for an interpolation frames.gif.
An image depends on its seed, its prompt and the settings alone, however many are generated at once.
A flag that the run does not use is refused. So is a folder that holds earlier results; with
--overwrite they are replaced, and nothing else in the folder changes.
"""

import pathlib

from absl import flags

from gen_jax.common import app, numbers, paths
from gen_jax.common.errors import UserError

_MAX_IMAGES = 100_000  # names have five digits

_RUN = paths.DEFINE_path("run", None, "Run directory of a model that generates images.")
_PROMPT = flags.DEFINE_multi_string("prompt", [], "Prompt.")
_NEGATIVE = flags.DEFINE_string(
    "negative", "", "Negative prompt: what guidance leads away from (latent diffusion)."
)
_NUM = numbers.define_int("num", 4, "Images per prompt.", 1, _MAX_IMAGES)
_SEED = numbers.define_seed("seed", 0, "Seed of the first image; the next ones count up.")
_OUT = paths.DEFINE_path("out", None, "Folder to write to.")
_OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace the results of an earlier generation in --out."
)
_SAMPLER = flags.DEFINE_string(
    "sampler",
    None,
    "ddpm, ddim, euler, heun, dpmpp_2m or unipc, or meanflow if the run was trained for it; the "
    "run's own by default (latent diffusion).",
)
_STEPS = numbers.define_int("steps", None, "Sampling steps; the run's own by default.", 1, 10_000)
_GUIDANCE = numbers.define_float(
    "guidance", None, "Guidance scale, 1 for none; the run's own by default.", 0, 50
)
_INTERVAL = flags.DEFINE_string(
    "guidance_interval",
    None,
    "LOW,HIGH: the part of the time range that is guided, from 0 (no noise) to 1 "
    "(latent diffusion).",
)
_RESCALE = numbers.define_float(
    "guidance_rescale", None, "CFG rescale factor phi (arXiv:2305.08891; latent diffusion).", 0, 1
)
_BATCH = numbers.define_int("batch", 16, "Images per batch.", 1)
_INTERPOLATE = flags.DEFINE_string(
    "interpolate",
    None,
    "SEED_A,SEED_B: a path from the latent of one seed to that of another; more seeds: a path "
    "through all (latent diffusion, faces, engravings).",
)
_PATH = flags.DEFINE_enum("path", "slerp", ["slerp", "lerp"], "Path of the interpolation (faces).")
_FRAMES = numbers.define_int("frames", 16, "Images of the interpolation.", 1, _MAX_IMAGES)
_TRUNCATION = numbers.define_float(
    "truncation", None, "StyleGAN truncation psi (faces only): 1 = off, 0 = mean image.", 0, 2
)
_TEMPERATURE = numbers.define_float(
    "temperature",
    None,
    "Temperature of the codes (art) or of the captions' words (engravings), 0 for the most likely "
    "ones; the run's own by default.",
    0,
    10,
)
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    None,
    ["float32", "bfloat16", "int8"],
    "Type of the weights in memory, float32 by default (art).",
)
_GUIDING_RUN = paths.DEFINE_path(
    "guiding_run",
    None,
    "Run of a weaker prior over the same codes, for autoguidance (arXiv:2406.02507; art).",
)
_GUIDING_SCALE = numbers.define_float(
    "guiding_scale", 2.0, "Scale of the guidance by --guiding_run, 1 for none.", 0, 50
)
_REFINER = paths.DEFINE_path(
    "refiner", None, "Run of configs/detail.py that adds the detail which the decoder blurs (art)."
)
_STYLE_IMAGE = paths.DEFINE_path(
    "style_image",
    None,
    "Reference image for the global style latent (art trained with :style), or for the hand that "
    "--image is drawn in (engravings).",
)
_IMAGES = paths.DEFINE_multi_path(
    "image", [], "Image that is decoded from its latents, with a caption (engravings)."
)
_NEAR = numbers.define_seed(
    "near", None, "Seed in whose neighborhood images are drawn: more like this one (engravings)."
)
_DISTANCE = numbers.define_float(
    "distance", 0.3, "How far from --near: 0 for the same image, 1 for any.", 0, 1
)
_ROWS = flags.DEFINE_list("rows", [], "Adjectives of a grid's rows, with --columns (art).")
_COLUMNS = flags.DEFINE_list("columns", [], "Adjectives of a grid's columns (art).")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number of steps.")

# A flag and the option of a pipeline that it sets; a flag that is not here suits every run.
_OPTIONS = (
    (_PROMPT, "prompts"),
    (_NEGATIVE, "negative_prompt"),
    (_SAMPLER, "sampler"),
    (_STEPS, "num_inference_steps"),
    (_GUIDANCE, "guidance_scale"),
    (_INTERVAL, "guidance_interval"),
    (_RESCALE, "guidance_rescale"),
    (_INTERPOLATE, "latents"),
    (_FRAMES, "latents"),
    (_PATH, "path"),
    (_TRUNCATION, "truncation"),
    (_TEMPERATURE, "temperature"),
    (_WEIGHTS, "weights"),
    (_GUIDING_RUN, "guiding_run"),
    (_GUIDING_SCALE, "guiding_scale"),
    (_REFINER, "refiner"),
    (_STYLE_IMAGE, "style_image"),
    (_IMAGES, "image"),
    (_NEAR, "near"),
    (_DISTANCE, "near"),
    (_ROWS, "rows"),
    (_COLUMNS, "columns"),
)
# Options that are settings of the pipeline itself.
_SETTINGS = (
    *("sampler", "num_inference_steps", "guidance_scale", "guidance_rescale"),
    *("truncation", "temperature", "weights"),
)


def _check() -> None:
    for name, holder in (("run", _RUN), ("out", _OUT)):
        if not holder.value:
            raise UserError(f"--{name} is missing; see --help")
    for flag, other in (
        (_GUIDING_SCALE, _GUIDING_RUN),
        (_FRAMES, _INTERPOLATE),
        (_PATH, _INTERPOLATE),
        (_ROWS, _COLUMNS),
        (_COLUMNS, _ROWS),
        (_DISTANCE, _NEAR),
    ):
        if flag.present and not other.value:
            raise UserError(f"--{flag.name} goes with --{other.name}: name both, or leave it out")
    for flag, other in (
        *((_NUM, _INTERPOLATE), (_SEED, _INTERPOLATE), (_NUM, _ROWS), (_PROMPT, _ROWS)),
        *((flag, _IMAGES) for flag in (_PROMPT, _NUM, _SEED, _INTERPOLATE, _NEAR)),
        *((_SEED, _NEAR), (_INTERPOLATE, _NEAR)),
    ):
        if flag.present and other.value:
            raise UserError(f"--{flag.name} does not go with --{other.name}: leave it out")
    if (count := _number_of_images()) > _MAX_IMAGES:
        raise UserError(f"{count:,} images are asked for: expected at most {_MAX_IMAGES:,}")
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


def _interpolated_seeds() -> tuple[int, ...] | None:
    """Returns the seeds that the interpolation passes, None if there is no interpolation."""
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
    interval, ends = _interval(), _interpolated_seeds()
    from gen_jax import pipelines
    from gen_jax.parallel import compilation
    from gen_jax.pipelines import generated
    from gen_jax.runs import reader

    place = generated.check(_OUT.value, _OVERWRITE.value, "--out")
    compilation.set_up()
    model = reader.load(_RUN.value, _STEP.value)
    kind = pipelines.kind_of(model)
    _refuse_unused(model, kind.options(model.task))
    model, additions = _with_additions(model)
    settings = {o: f.value for f, o in _OPTIONS if o in _SETTINGS and f.value is not None}
    if interval:
        settings["guidance_interval"] = interval
    pipe = kind(model, **settings)
    if _IMAGES.value:
        request, facts, samples = _of_images(pipe)
    else:
        request, facts = _request(pipe, ends, kind.options(model.task))
        samples = pipe.sample(request, _BATCH.value)
    _write(place, model, ends, samples, request, {**pipe.settings, **additions, **facts})


def _refuse_unused(model, options) -> None:
    """Raises UserError for a flag that is given and that this run does not use."""
    stage = model.config.get("task", {}).get("name", "another library")
    for flag, option in _OPTIONS:
        if flag.present and option not in options:
            value = ",".join(flag.value) if isinstance(flag.value, list) else flag.value
            raise UserError(
                f"--{flag.name}={value}: {model.path} is a run of {stage}, which does not "
                "use it; leave it out"
            )


def _with_additions(model):
    """Returns the model with its guiding model and refiner, and what a manifest says of them."""
    from gen_jax.pipelines.model_changes import guided_by, with_refiner
    from gen_jax.runs import reader

    facts = {}
    if _GUIDING_RUN.value:
        guiding = reader.load(_GUIDING_RUN.value)
        model = guided_by(model, guiding, _GUIDING_SCALE.value)
        facts |= {
            "guiding_run": str(guiding.path),
            "guiding_sha256": guiding.digest,
            "guiding_scale": _GUIDING_SCALE.value,
        }
    if _REFINER.value:
        refiner = reader.load(_REFINER.value)
        model = with_refiner(model, refiner)
        facts |= {"refiner": str(refiner.path), "refiner_sha256": refiner.digest}
    return model, facts


def _request(pipe, ends, options):
    """Returns what to generate, and what a manifest says of it beside the settings."""
    from gen_jax.pipelines.sampling import Request

    if pipe.needs_prompt and not _PROMPT.value:
        raise UserError('--prompt is missing: say what to generate, such as --prompt="a cat"')
    prompts = _PROMPT.value or [""]
    if _ROWS.value:
        prompts = [f"{row}, {column}" for row in _ROWS.value for column in _COLUMNS.value]
    _print_notes(pipe, [*_ROWS.value, *_COLUMNS.value] if _ROWS.value else prompts)
    latents, facts = None, {}
    if ends:
        frames = pipe.walk(ends, _FRAMES.value, _PATH.value)
        latents = _tiled(frames, len(prompts))
        # One noise for all frames: the latent alone changes.
        seeds = [ends[0]] * (_FRAMES.value * len(prompts))
        if "path" in options:
            facts["path"] = _PATH.value
    elif _NEAR.value is not None:
        latents = _tiled(pipe.near(_NEAR.value, _NUM.value, _DISTANCE.value), len(prompts))
        seeds = [_NEAR.value] * len(latents)
        facts |= {"near": _NEAR.value, "distance": _DISTANCE.value}
    else:
        seeds = _seeds(pipe, len(prompts))
    texts = [text for text in prompts for _ in range(len(seeds) // len(prompts))]
    style = None
    if _STYLE_IMAGE.value:
        style = pipe.style_image(_STYLE_IMAGE.value)
        facts |= _style_facts()
    if "negative_prompt" in options:
        facts["negative_prompt"] = _NEGATIVE.value
    return Request(seeds, texts, _NEGATIVE.value, latents, style), facts


def _of_images(pipe):
    """Returns the request, what a manifest says of it, and what the latents of images decode to."""
    from gen_jax.common import checksum
    from gen_jax.pipelines import image_files
    from gen_jax.pipelines.sampling import Request

    images, names = [image_files.read(path) for path in _IMAGES.value], _IMAGES.value
    facts = {"images": names, "images_sha256": [checksum.of_file(pathlib.Path(n)) for n in names]}
    if _STYLE_IMAGE.value:
        facts |= _style_facts()
        hand = pipe.encode([image_files.read(_STYLE_IMAGE.value)])
        mixed = pipe.transfer(pipe.encode(images, _BATCH.value), hand.repeat(len(images), 0))
        samples = pipe.decode(mixed, batch_size=_BATCH.value)
    else:
        samples = pipe.describe(images, _BATCH.value)
    return Request([0] * len(images), [""] * len(images)), facts, samples


def _style_facts():
    from gen_jax.common import checksum

    digest = checksum.of_file(pathlib.Path(_STYLE_IMAGE.value))
    return {"style_image": _STYLE_IMAGE.value, "style_image_sha256": digest}


def _tiled(frames, count: int):
    import numpy as np

    return np.concatenate([frames] * count)


def _seeds(pipe, num_prompts: int) -> list[int]:
    """Returns the seed of each image: its own for each prompt, or the same for all prompts."""
    number = 1 if _ROWS.value else _NUM.value
    if pipe.has_own_seeds:
        return [_SEED.value + i for i in range(number * num_prompts)]
    return [_SEED.value + i for i in range(number)] * num_prompts


def _print_notes(pipe, prompts) -> None:
    for line in pipe.notes([*prompts, _NEGATIVE.value]):
        print(f"note: {line}")
    if pipe.settings.get("guidance_scale") == 1.0:
        for flag in (_NEGATIVE, _INTERVAL, _RESCALE):
            if flag.value:
                print(f"note: --{flag.name} has no effect at a guidance of 1; raise --guidance")


def _write(place, model, ends, samples, request, facts) -> None:
    from gen_jax.common import pictures
    from gen_jax.pipelines import generated
    from gen_jax.runs import manifest, reader

    facts = {
        "run": reader.name_of(model),
        "checkpoint_step": model.step if model.step >= 0 else None,
        "weights_sha256": model.digest,
        **facts,
        "environment": manifest.environment(),
    }
    manifests = []
    for index, (prompt, seed) in enumerate(zip(request.prompts, request.seeds, strict=True)):
        extra = {"prompt": prompt, "seed": seed}
        if ends:
            extra |= {"interpolate": list(ends), "frame": index % _FRAMES.value}
        if samples.captions:
            extra["caption"] = samples.captions[index]
        manifests.append(extra | facts)
    columns = _FRAMES.value if ends else (_NUM.value if len(_PROMPT.value) > 1 else None)
    columns = len(_COLUMNS.value) or columns
    texts = samples.captions or request.prompts
    below = [text or f"seed {seed}" for text, seed in zip(texts, request.seeds)]
    grid = pictures.grid(samples.images, below, columns=columns)
    out, earlier = place
    generated.write(out, earlier, samples.images, manifests, grid, animated=bool(ends))
    print(f"wrote {len(samples.images)} images with manifests to {out}")
    print(f"grid    {out / generated.GRID}")
    if ends:
        print(f"frames  {out / generated.ANIMATION}")


if __name__ == "__main__":
    app.run(main)
