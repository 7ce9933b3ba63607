r"""Restores photographs: noise, blur, JPEG, low resolution.

    python -m gen_jax.restore photo.jpg
    python -m gen_jax.restore photo.jpg --out=restored.png
    python -m gen_jax.restore scans/ "more/*.tif" --out=restored/
    python -m gen_jax.restore photo.jpg --out=sharp.png --prompt="sharpen, keep the grain"
    python -m gen_jax.restore small.png --out=large.png --scale=2
    python -m gen_jax.restore photo.jpg --sign=KEY.pem --ledger=LEDGER --maps
    python -m gen_jax.restore - --out=- < photo.jpg > restored.png

Takes files, folders (with their sub-folders) and patterns; PNG, JPEG, WebP, TIFF and other formats
that Pillow reads. Depth (8 or 16 bits), gray, transparency, EXIF, XMP, resolution and profile are
kept; a note says what the format of the output cannot keep (docs/restoration.md has a table).
Beside each result are NAME.json, its manifest, and NAME.before_after.png; gen_jax.verify checks
results by their manifests (docs/provenance.md). Each file is read back before it counts as
restored. Files that cannot be restored are named and skipped, and then the exit status is 1.
Existing files are replaced only with --overwrite.

Without --run the packaged restorer is used.
"""

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
_SCALE = numbers.define_int("scale", 1, "Enlarge by 1, 2 or 4.", 1, 4)
_TILE = flags.DEFINE_string("tile", "auto", "Side of the tiles in pixels; auto; off for none.")
_QUALITY = numbers.define_int("quality", 95, "Quality of JPEG and lossy WebP.", 1, 100)
_COMPARE = flags.DEFINE_boolean("compare", True, "Whether to write NAME.before_after.png.")
_MAPS = flags.DEFINE_boolean(
    "maps",
    False,
    "Whether to write NAME.edit.png, where and how much values changed, and a preview.",
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


def _tile() -> int | None:
    """Side of the tiles; 0 for none, None for the default."""
    if _TILE.value in ("auto", "off"):
        return {"auto": None, "off": 0}[_TILE.value]
    if not _DIGITS.fullmatch(_TILE.value) or int(_TILE.value) < 128 or int(_TILE.value) % 32:
        raise UserError(f"--tile={_TILE.value}: expected auto, off, or a multiple of 32 from 128")
    return int(_TILE.value)


def _recorder():
    """Returns what signs results, before anything is computed."""
    from gen_jax.provenance import recorder

    if _LEDGER.value and not _SIGN.value:
        raise UserError("--ledger goes with --sign: name both, or leave it out")
    for flag in (_LEDGER, _MAPS):
        if flag.value and _OUT.value == "-":
            raise UserError(f"--{flag.name}: writes files beside the image; name a file as --out")
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
    if _SCALE.value == 3:
        raise UserError("--scale=3: expected 1, 2 or 4")
    tile = _tile()
    from gen_jax.pipelines import restore_inputs, restore_outputs
    from gen_jax.provenance import maps

    plan = restore_inputs.plan(argv[1:], _OUT.value)
    jobs = plan.jobs
    recorder = _recorder()
    restore_outputs.check(
        jobs,
        _OUT.value,
        compare=_COMPARE.value,
        overwrite=_OVERWRITE.value,
        endings=(*recorder.endings, *(maps.ENDINGS if _MAPS.value else ())),
    )
    say = sys.stderr if _OUT.value == "-" else sys.stdout
    for note in plan.notes:
        print(note, file=say)
    from gen_jax.parallel import compilation
    from gen_jax.pipelines import restore_files

    compilation.set_up()
    from gen_jax.pipelines.restoration import Restorer
    from gen_jax.runs import reader

    restorer = Restorer(reader.load(_RUN.value, _STEP.value))
    if restorer.is_cut(_PROMPT.value):
        print("note: the prompt is longer than the model reads; its end is ignored", file=say)
    if note := restorer.note_on(_PROMPT.value):
        print(f"note: {note}", file=say)
    how = restore_files.How(
        prompt=_PROMPT.value,
        strength=_STRENGTH.value,
        scale=_SCALE.value,
        tile=tile,
        quality=_QUALITY.value,
        compare=_COMPARE.value,
        maps=_MAPS.value,
        max_pixels=_MAX_PIXELS.value,
    )
    skipped = 0
    for job in jobs:
        bar = _Bar(f"tiles of {job.shown}", shown=_OUT.value != "-")
        try:
            for text in restore_files.restore(restorer, job, how, bar.show, recorder):
                print(text, file=say, flush=True)
        except restore_files.Skipped as error:
            skipped += 1
            say.flush()
            print(f"skipped {job.shown}: {error}", file=sys.stderr, flush=True)
        finally:
            bar.close()
    if len(jobs) > 1:
        print(f"restored {len(jobs) - skipped} of {len(jobs)}", file=say)
    return 1 if skipped or plan.lost else 0


if __name__ == "__main__":
    app.run(main, positional=True)
