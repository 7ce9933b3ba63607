r"""Restores photographs: noise, blur, JPEG, low resolution.

    python -m gen_jax.restore photo.jpg
    python -m gen_jax.restore photo.jpg --out=restored.png
    python -m gen_jax.restore scans/ "more/*.tif" --out=restored/
    python -m gen_jax.restore photo.jpg --out=sharp.png --prompt="sharpen, keep the grain"
    python -m gen_jax.restore small.png --out=large.png --scale=2
    python -m gen_jax.restore small.png --out=wide.png --size=1920x1080
    python -m gen_jax.restore *.jpg --suffix=_clean --nocompare --nomanifest
    python -m gen_jax.restore grainy.jpg --noise=20 --jpeg=60
    python -m gen_jax.restore photo.jpg --symmetries=8
    python -m gen_jax.restore photo.jpg --run=runs/restore_ldm --generative=0.7 --seed=1
    python -m gen_jax.restore photo.jpg --sign=KEY.pem --ledger=LEDGER --maps
    python -m gen_jax.restore - --out=- < photo.jpg > restored.png

Takes files, folders (with their sub-folders) and patterns; PNG, JPEG, WebP, TIFF, AVIF and other
formats that Pillow reads, HEIC with the extra `heif`. Depth (8 or 16 bits), gray, transparency,
EXIF, XMP, resolution and profile are kept; a note says what the format of the output cannot keep
(docs/restoration.md has a table). All frames of animations and pages of files are restored by one
estimate. Beside each result are NAME.json, its manifest, and NAME.before_after.png; gen_jax.verify
checks results by their manifests (docs/provenance.md). Each file is read back before it counts as
restored. Files that cannot be restored are named and skipped, and then the exit status is 1.
Existing files are replaced only with --overwrite.

Without --run the packaged restorer is used.
"""

import functools
import re
import sys

from absl import flags

from gen_jax.common import app, numbers, paths
from gen_jax.common.errors import UserError

_OUT = paths.DEFINE_path(
    "out",
    "",
    "File, or folder for several; - for standard output; NAME_restored by default.",
)
_RUN = paths.DEFINE_path("run", "package:restore", "Run directory of configs/restore*.py.")
_STEP = flags.DEFINE_string("step", "best", "Checkpoint: best, last or a number.")
_PROMPT = flags.DEFINE_string(
    "prompt", "", 'Instruction, such as "remove the noise, keep the blur".'
)
_STRENGTH = numbers.define_float(
    "strength",
    1.0,
    "Share of the change that is applied: 0 returns the image unchanged, 1 restores it.",
    0,
    1,
)
_SCALE = numbers.define_int("scale", 1, "Enlarge by this whole factor.", 1, 4)
_SIZE = flags.DEFINE_string(
    "size", "", "WIDTHxHEIGHT of the results in pixels, instead of --scale; at most 4 times larger."
)
_NOISE = numbers.define_float(
    "noise", None, "Noise of the input by hand, as a standard deviation of 255.", 0, 150
)
_BLUR = numbers.define_float(
    "blur", None, "Blur of the input by hand, as a standard deviation in pixels.", 0, 8
)
_JPEG = numbers.define_float("jpeg", None, "JPEG quality of the input by hand.", 1, 100)
_GENERATIVE = numbers.define_float(
    "generative",
    None,
    "Share of generated detail, of a run of configs/restore_ldm.py: 0 is the restorer's image, 1 "
    "(default) adds all.",
    0,
    1,
)
_SEED = numbers.define_seed("seed", 0, "Seed of the generated detail.")
_STEPS = numbers.define_int("steps", None, "Steps of the generation; the run's own by default.", 1)
_GUIDANCE = numbers.define_float(
    "guidance",
    None,
    "Guidance scale of the generation, 1 for none; the run's own by default.",
    0,
    50,
)
_TILE = flags.DEFINE_string("tile", "auto", "Side of the tiles in pixels; auto; off for none.")
_SYMMETRIES = flags.DEFINE_enum(
    "symmetries",
    "1",
    ["1", "2", "4", "8"],
    "Restores the image in this many orientations and averages them: a little better, and slower "
    "by the same factor.",
)
_QUALITY = numbers.define_int("quality", 95, "Quality of JPEG, AVIF and lossy WebP.", 1, 100)
_COMPARE = flags.DEFINE_boolean("compare", True, "Whether to write NAME.before_after.png.")
_MANIFEST = flags.DEFINE_boolean("manifest", True, "Whether to write NAME.json.")
_SUFFIX = flags.DEFINE_string(
    "suffix", "", "Write each result beside its image, with this text behind its name."
)
_MAPS = flags.DEFINE_boolean(
    "maps",
    False,
    "Whether to write NAME.edit.png, where and how much values changed, and a preview.",
)
_ERROR_RUN = paths.DEFINE_path(
    "error_run",
    "",
    "With --maps: run of configs/restore_error.py for NAME.error.png, the expected error.",
)
_SIGN = paths.DEFINE_path(
    "sign",
    None,
    "Private key with its certificates (PEM, or env:NAME): puts a C2PA signature into the result.",
)
_LEDGER = paths.DEFINE_path(
    "ledger", None, "Folder of a ledger to enter results into, with --sign; made if it is new."
)
_OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Whether to replace files that exist.")
_MAX_PIXELS = numbers.define_int("max_pixels", 200_000_000, "Larger files are skipped.", 1)

_DIGITS = re.compile("[0-9]{1,9}")
_WIDTH_HEIGHT = re.compile("([1-9][0-9]{0,5})[xX]([1-9][0-9]{0,5})")


def _tile() -> int | None:
    """Side of the tiles; 0 for none, None for the default."""
    if _TILE.value in ("auto", "off"):
        return {"auto": None, "off": 0}[_TILE.value]
    if not _DIGITS.fullmatch(_TILE.value) or int(_TILE.value) < 128 or int(_TILE.value) % 32:
        raise UserError(f"--tile={_TILE.value}: expected auto, off, or a multiple of 32 from 128")
    return int(_TILE.value)


def _size() -> tuple[int, int] | None:
    """Width and height of the results; None for those of the scale."""
    if not _SIZE.value:
        return None
    match = _WIDTH_HEIGHT.fullmatch(_SIZE.value)
    if match is None:
        raise UserError(f"--size={_SIZE.value}: expected WIDTHxHEIGHT, such as 1920x1080")
    if _SCALE.value > 1:
        raise UserError(f"--size={_SIZE.value}: leave out --scale, or this")
    return int(match[1]), int(match[2])


def _generative():
    """Returns what is to be generated; None for the run's default."""
    from gen_jax.pipelines.restore_generative import Generative

    if _GENERATIVE.value is None and not _SEED.present:
        return None
    return Generative(1.0 if _GENERATIVE.value is None else _GENERATIVE.value, _SEED.value)


def _settings() -> dict[str, float | int]:
    """Returns settings of the generation that replace the run's."""
    values = {"num_inference_steps": _STEPS.value, "guidance_scale": _GUIDANCE.value}
    return {name: value for name, value in values.items() if value is not None}


def _recorder():
    """Returns what signs results, before anything is computed."""
    from gen_jax.provenance import recorder

    if _LEDGER.value and not _SIGN.value:
        raise UserError("--ledger goes with --sign: name both, or leave it out")
    for flag in (_LEDGER, _MAPS):
        if flag.value and _OUT.value == "-":
            raise UserError(f"--{flag.name}: writes files beside the image; name a file as --out")
    if _ERROR_RUN.value and not _MAPS.value:
        raise UserError("--error_run goes with --maps: name both, or leave it out")
    for flag in (_SIGN, _MAPS):
        if flag.value and not _MANIFEST.value:
            raise UserError(f"--nomanifest does not go with --{flag.name}: leave one of them out")
    return recorder.open_recorder(_SIGN.value, _LEDGER.value)


class _Bar:
    """Progress over the tiles of one picture, once there is more than one."""

    def __init__(self, name: str, shown: bool):
        self._name, self._shown, self._line = name, shown, None

    def show(self, done: int, total: int) -> None:
        from gen_jax.common.progress import ProgressLine

        if self._shown and total > 1:
            self._line = self._line or ProgressLine(self._name, total, 0)
            self._line.update(done, {})

    def close(self) -> None:
        if self._line:
            self._line.close()


def main(argv: list[str]) -> int:
    """Restores what is named, one after the other; 1 if any was skipped."""
    from gen_jax.pipelines import restore_files, restore_inputs, restore_outputs, restore_run

    how = restore_files.How(
        prompt=_PROMPT.value,
        strength=_STRENGTH.value,
        scale=_SCALE.value,
        size=_size(),
        given=restore_run.given_of(_NOISE.value, _BLUR.value, _JPEG.value),
        tile=_tile(),
        symmetries=int(_SYMMETRIES.value),
        generative=_generative(),
        quality=_QUALITY.value,
        compare=_COMPARE.value,
        manifest=_MANIFEST.value,
        maps=_MAPS.value,
        max_pixels=_MAX_PIXELS.value,
    )
    plan = restore_inputs.plan(argv[1:], _OUT.value, _SUFFIX.value)
    recorder = _recorder()
    restore_outputs.check(
        plan.jobs,
        _OUT.value,
        compare=how.compare,
        overwrite=_OVERWRITE.value,
        manifest=how.manifest,
        endings=(*recorder.endings, *_map_endings(how)),
    )
    generates = how.generative is not None or bool(_settings())
    restore_run.check(_RUN.value, how.prompt, how.given, generates=generates)
    say = sys.stderr if _OUT.value == "-" else sys.stdout
    for note in (*plan.notes, *restore_run.notes(how.prompt)):
        print(note, file=say, flush=True)
    # What the beginnings of the files show is said before JAX is loaded, which takes seconds.
    jobs = [
        job for job in plan.jobs if _is_done(lambda job=job: restore_files.check(job, how), job)
    ]
    restorer = functools.cache(_restorer)
    expect = functools.cache(_error_estimator) if _ERROR_RUN.value else None
    done = 0
    for job in jobs:
        bar = _Bar(f"tiles of {job.shown}", shown=_OUT.value != "-")

        def restore(job=job, bar=bar):
            texts = restore_files.restore(restorer, job, how, bar.show, recorder, expect)
            for text in texts:
                print(text, file=say, flush=True)

        try:
            done += _is_done(restore, job)
        finally:
            bar.close()
    if len(plan.jobs) > 1:
        print(f"restored {done} of {len(plan.jobs)}", file=say)
    return 1 if done < len(plan.jobs) or plan.lost else 0


def _restorer():
    """Returns the restorer of the run, with JAX."""
    from gen_jax.parallel import compilation

    compilation.set_up()
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.pipelines.restore_generative import with_settings
    from gen_jax.runs import reader

    return Restorer(with_settings(reader.load(_RUN.value, _STEP.value), _settings()))


def _error_estimator(restorer):
    """Returns what expects the error of a restorer's images."""
    from gen_jax.pipelines.error_map import ErrorEstimator
    from gen_jax.runs import reader

    return ErrorEstimator(reader.load(_ERROR_RUN.value), restorer)


def _map_endings(how) -> tuple[str, ...]:
    """Returns the endings of the maps that are written beside each image."""
    from gen_jax.provenance import maps

    if not how.maps:
        return ()
    return (*maps.ENDINGS, *(maps.ERROR_ENDINGS if _ERROR_RUN.value else ()))


def _is_done(act, job) -> bool:
    """Calls a function; names the file and returns False if it is skipped."""
    from gen_jax.pipelines import restore_files

    try:
        act()
    except restore_files.Skipped as error:
        sys.stdout.flush()
        print(f"skipped {job.shown}: {error}", file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    app.run(main, positional=True)
