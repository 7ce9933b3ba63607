r"""Generates images with a trained run, from prompts or from seeds alone.

    python -m gen_jax.generate --prompt="a red apple" --out=out/apple
    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --num=8 --seed=0 --out=out/cat
    python -m gen_jax.generate --run=runs/ldm --prompt="a cat" --interpolate=1,2 --frames=16 \
        --out=out/walk
    python -m gen_jax.generate --run=runs/ldm --prompt="a dog" --image=cat.png --strength=0.6 \
        --mask=head.png --out=out/dog
    python -m gen_jax.generate --run=runs/engravings --num=16 --out=out/engravings
    python -m gen_jax.generate --run=runs/engravings --near=7 --distance=0.3 --out=out/like_7
    python -m gen_jax.generate --run=runs/engravings --image=scan.png --out=out/caption
    python -m gen_jax.generate --run=runs/engravings --image=a.png --style_image=b.png \
        --out=out/mix
    python -m gen_jax.generate --run=models/sd15 --prompt="a photo of a cat" --num=1 --out=out/sd15
    python -m gen_jax.generate --run=runs/faces --num=64 --seed=0 --out=out/faces
    python -m gen_jax.generate --run=runs/faces_text --prompt="a man with glasses" --out=out/man
    python -m gen_jax.generate --run=runs/art --prompt="calm, deep blue, swirling" --out=out/calm
    python -m gen_jax.generate --run=runs/art --rows=dark,bright --columns=calm,lively --out=out/all
    python -m gen_jax.generate --run=runs/art --style_image=photo.jpg --prompt=dark --out=out/style
    python -m gen_jax.generate --run=runs/art --guiding_run=runs/art_small --prompt=dark --out=out/b
    python -m gen_jax.generate --run=runs/art --refiner=runs/detail --prompt=dark --out=out/sharp

Without --run, images come from the packaged text-to-image model: clip art of 64x64 pixels.

Writes a PNG and a manifest (JSON) for each image, a grid.png, and for an interpolation frames.gif.
An image depends on its seed, its prompt and the settings alone, however many are generated at once.
A flag that the run does not use is refused. So is a folder that holds earlier results; with
--overwrite they are replaced, and nothing else in the folder changes.
"""

from absl import flags

from gen_jax.common import app, numbers, paths
from gen_jax.common.errors import UserError

_MAX_IMAGES = 100_000  # names have five digits

_RUN = paths.DEFINE_path(
    "run",
    "package:cutouts",
    "Run directory, package:NAME, Stable Diffusion pipeline, or hub:OWNER/NAME[@REVISION] of one.",
)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Compute dtype of a pipeline, float32 by default."
)
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
    "ddpm, ddim, pndm, euler, euler_ancestral, heun, dpmpp_2m, unipc or lcm, or meanflow if the "
    "run was trained for it; the run's own by default (latent diffusion).",
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
    "image",
    [],
    "Image that is resized and changed (latent diffusion), or decoded from its latents, with a "
    "caption (engravings).",
)
_STRENGTH = numbers.define_float(
    "strength",
    None,
    "Share of the steps that --image goes through: 0 keeps it, 1 starts from noise; 0.8 by "
    "default, 1 with --mask.",
    0,
    1,
)
_MASKS = paths.DEFINE_multi_path(
    "mask", [], "Mask of --image, white where it is repainted: one for all images, or one each."
)
_COMPOSITE = flags.DEFINE_boolean(
    "composite", True, "Keep the pixels of --image exactly where --mask is not white."
)
_SIZE = flags.DEFINE_string(
    "size", None, "WIDTHxHEIGHT in pixels, that of training by default (latent diffusion)."
)
_TILE = numbers.define_int(
    "tile",
    None,
    "Side in pixels of the tiles that images are decoded in, 0 for none; 512 by default for more "
    "than 1024x1024 pixels (latent diffusion).",
    0,
)
_NEAR = numbers.define_seed(
    "near", None, "Seed in whose neighborhood images are drawn: more like this one (engravings)."
)
_DISTANCE = numbers.define_float(
    "distance", 0.3, "How far from --near: 0 for the same image, 1 for any.", 0, 1
)
_ROWS = flags.DEFINE_list("rows", [], "Adjectives of a grid's rows, with --columns (art).")
_COLUMNS = flags.DEFINE_list("columns", [], "Adjectives of a grid's columns (art).")
_LORA = paths.DEFINE_multi_path("lora", [], "FILE[:SCALE] of low-rank factors (docs/lora.md).")
_SIGN = paths.DEFINE_path(
    "sign",
    None,
    "Private key with its certificates (PEM, or env:NAME): puts a C2PA signature into each image.",
)
_LEDGER = paths.DEFINE_path(
    "ledger", None, "Folder of a ledger to enter images into, with --sign; made if it is new."
)
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
    (_MASKS, "mask"),
    (_STRENGTH, "strength"),
    (_COMPOSITE, "composite"),
    (_SIZE, "size"),
    (_TILE, "tile"),
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
        (_MASKS, _IMAGES),
        (_STRENGTH, _IMAGES),
        (_COMPOSITE, _MASKS),
        (_LEDGER, _SIGN),
    ):
        if flag.present and not other.value:
            raise UserError(f"--{flag.name} goes with --{other.name}: name both, or leave it out")
    _refuse_both(
        *((_NUM, _INTERPOLATE), (_SEED, _INTERPOLATE), (_NUM, _ROWS), (_PROMPT, _ROWS)),
        *((_SEED, _NEAR), (_INTERPOLATE, _NEAR), (_INTERPOLATE, _IMAGES)),
    )
    if (count := _number_of_images()) > _MAX_IMAGES:
        raise UserError(f"{count:,} images are asked for: expected at most {_MAX_IMAGES:,}")
    # Each prompt of a text-to-image run has seeds of its own.
    last = _number_of_images() if _INTERPOLATE.value is None and not _ROWS.value else 1
    numbers.check_seed(_SEED.value, "--seed", last)


def _refuse_both(*pairs) -> None:
    """Raises UserError if the first flag of a pair is given although the second one is."""
    for flag, other in pairs:
        if flag.present and other.value:
            raise UserError(f"--{flag.name} does not go with --{other.name}: leave it out")


def _number_of_images() -> int:
    if _ROWS.value:
        return len(_ROWS.value) * len(_COLUMNS.value)
    each = _NUM.value if _INTERPOLATE.value is None else _FRAMES.value
    return each * max(1, len(_PROMPT.value)) * max(1, len(_IMAGES.value))


def main(_) -> None:
    """Reads the run, samples and writes."""
    _check()
    from gen_jax import pipelines
    from gen_jax.parallel import compilation
    from gen_jax.pipelines import generated, parsing
    from gen_jax.provenance import environment, recorder
    from gen_jax.runs import lora, reader

    interval, ends = _parsed(parsing.interval, _INTERVAL), _parsed(parsing.seeds, _INTERPOLATE)
    size = _parsed(parsing.size, _SIZE)
    if ends and _FRAMES.value < len(ends):
        raise UserError(f"--frames={_FRAMES.value}: expected at least the {len(ends)} seeds")
    loras = [lora.parse(text, "--lora") for text in _LORA.value]
    place = generated.check(_OUT.value, _OVERWRITE.value, "--out")
    recording = recorder.open_recorder(_SIGN.value, _LEDGER.value)
    compilation.set_up()
    model = reader.load(_RUN.value, _STEP.value, _DTYPE.value)
    kind = pipelines.kind_of(model)
    options = kind.options(model.task)
    _refuse_unused(model, options)
    model, additions = _with_additions(model, loras)
    settings = {o: f.value for f, o in _OPTIONS if o in _SETTINGS and f.value is not None}
    settings |= {"guidance_interval": interval} if interval else {}
    pipe = kind(model, **settings)
    if _IMAGES.value and "strength" not in options:
        samples, rows, facts = _of_images(pipe)
    else:
        request, rows, facts = _request(pipe, ends, size)
        samples = pipe.sample(request, _BATCH.value)
    facts = {**generated.model_facts(model), **pipe.settings, **additions, **facts}
    facts["batch"] = min(_BATCH.value, len(samples.images))  # the shape that was compiled
    facts |= {"dtype": _DTYPE.value} if _DTYPE.value else {}
    facts["environment"] = environment.describe()
    is_table = len(_PROMPT.value) > 1 or (_NUM.present and len(_IMAGES.value) > 1)
    columns = _FRAMES.value if ends else (_NUM.value if is_table else None)
    columns = len(_COLUMNS.value) or columns
    generated.write_samples(place, samples, rows, facts, columns, bool(ends), recording)
    print(f"wrote {len(samples.images)} images with manifests to {place[0]}")
    print(f"grid    {place[0] / generated.GRID}")
    if ends:
        print(f"frames  {place[0] / generated.ANIMATION}")


def _parsed(parse, flag):
    """Returns the value of a flag, parsed; None if it is not given."""
    return None if flag.value is None else parse(flag.value, f"--{flag.name}")


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


def _with_additions(model, loras):
    """Returns the model with LoRA files, guiding model and refiner, and what manifests say."""
    from gen_jax.pipelines.model_changes import guided_by, with_refiner
    from gen_jax.runs import lora, reader

    model = lora.merge_all(model, loras)
    facts = {"lora": list(model.merged_files)} if model.merged_files else {}
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


def _request(pipe, ends, size):
    """Returns what to generate, and what manifests say of each image and of all of them."""
    from gen_jax.pipelines import image_files, requests

    if pipe.needs_prompt and not _PROMPT.value:
        raise UserError('--prompt is missing: say what to generate, such as --prompt="a cat"')
    prompts = _PROMPT.value or [""]
    if _ROWS.value:
        prompts = [f"{row}, {column}" for row in _ROWS.value for column in _COLUMNS.value]
    _print_notes(pipe, [*_ROWS.value, *_COLUMNS.value] if _ROWS.value else prompts)
    inputs = requests.Inputs(
        prompts=prompts,
        negative_prompt=_NEGATIVE.value,
        num=1 if _ROWS.value else _NUM.value,
        seed=_SEED.value,
        passed=ends or (),
        frames=_FRAMES.value,
        path=_PATH.value,
        near=_NEAR.value,
        distance=_DISTANCE.value,
        style_image=pipe.style_image(_STYLE_IMAGE.value) if _STYLE_IMAGE.value else None,
        images=[image_files.read(path) for path in _IMAGES.value],
        masks=[image_files.read(path, "black") for path in _MASKS.value],
        strength=_STRENGTH.value,
        composite=_COMPOSITE.value,
        size=size,
        tile=_TILE.value,
    )
    built = requests.build(pipe, inputs)
    for line in built.notes:
        print(f"note: {line}")
    named = image_files.facts_of_edits(_IMAGES.value, _MASKS.value)
    for row, place in zip(built.rows, built.places):
        row |= named[place]
    style = image_files.facts("style_image", _STYLE_IMAGE.value) if _STYLE_IMAGE.value else {}
    return built.request, built.rows, {**built.facts, **style}


def _of_images(pipe):
    """Returns what the latents of images decode to, and what manifests say of it."""
    from gen_jax.pipelines import image_files

    _refuse_both(*((flag, _IMAGES) for flag in (_PROMPT, _NUM, _SEED, _NEAR)))
    images = [image_files.read(path) for path in _IMAGES.value]
    named = [image_files.facts("images", path) for path in _IMAGES.value]
    facts = {key: [entry[key] for entry in named] for key in named[0]}
    if _STYLE_IMAGE.value:
        facts |= image_files.facts("style_image", _STYLE_IMAGE.value)
        hand = image_files.read(_STYLE_IMAGE.value)
        samples = pipe.redrawn(images, hand, _BATCH.value)
    else:
        samples = pipe.describe(images, _BATCH.value)
    return samples, [{"prompt": "", "seed": 0}] * len(images), facts


def _print_notes(pipe, prompts) -> None:
    for line in pipe.notes([*prompts, _NEGATIVE.value]):
        print(f"note: {line}")
    if pipe.settings.get("guidance_scale") == 1.0:
        for flag in (_NEGATIVE, _INTERVAL, _RESCALE):
            if flag.value:
                print(f"note: --{flag.name} has no effect at a guidance of 1; raise --guidance")


if __name__ == "__main__":
    app.run(main)
