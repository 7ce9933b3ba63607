"""Images -> checked, split, captioned shards.

  python -m gen_jax.prepare --source=photos --out=data/photos
  python -m gen_jax.prepare --source=shapes --out=data/shapes
  python -m gen_jax.prepare --source=FOLDER --out=data/mine --size=256
  python -m gen_jax.prepare --source=FILE.zip:PREFIX --out=data/zipped --size=256
  python -m gen_jax.prepare --source=tfds:oxford_flowers102 --out=data/flowers --size=256
  python -m gen_jax.prepare --source=hf:nielsr/CelebA-faces --out=data/celeba --size=256

  python -m gen_jax.prepare --source=FOLDER --crops=32 --size=160 --out=data/details

cuts each image into square crops of many sizes; all crops of an image go to the same split.

A folder, or a folder in a zip archive, is read with its sub-folders. captions.jsonl in it may hold
lines such as {"file": "a/b.jpg", "caption": "...", "split": "val"}; without "split" the content
decides the split. Beside a folder called photos, ./photos is the folder and embedded:photos the
embedded photographs. A line may name a label map, one class per pixel: {"file": "a/b.jpg", "mask":
"labels/b.png"}; --masks='labels/{stem}.png' names those of all images (docs/data-formats.md).
Damaged, blank, tiny and repeated images are left out and named in
OUT/dataset.json. Look at OUT/contact_sheet.png.

  python -m gen_jax.prepare --source=FOLDER --preview=degradations.png

draws every degradation that restoration is trained on, on a few of the images, and prepares
nothing.

  python -m gen_jax.prepare --validate_captions=FOLDER/captions.jsonl

checks captions of adjectives (docs/annotation.md): words, grammar, repeats, coverage, agreement of
annotators, and agreement with what is measured of the images.

  python -m gen_jax.prepare --source=FOLDER --align_faces=mtcnn_pnet.safetensors --size=64 --out=...

finds the face in each image, aligns eyes, nose and mouth (the aligned images are in OUT_aligned)
and prepares the result; MTCNN's other two files of weights must be beside the first.

  python -m gen_jax.prepare --source=FOLDER_OR_ZIP --caption=blip2 --out=data/scans

writes captions of images without one by BLIP-2, in a process of its own (extra "caption"), filters
them and leaves out images whose caption is rejected. OUT/captions.jsonl has all of them.

An interrupted run is finished by running the same command again. The result is
the same, byte for byte, for any number of workers.
"""

import pathlib

from absl import flags

from gen_jax.common import app, numbers, outputs, paths

_SOURCE = paths.DEFINE_path(
    "source",
    None,
    "What to prepare: a folder of images, FILE.zip[:PREFIX], pictograms, photos, shapes, "
    "composites, plates, "
    "tfds:NAME[:SPLIT] or "
    "hf:NAME[:SPLIT]",
)
_OUT = paths.DEFINE_path("out", None, "Folder to write the data set to")
_SIZE = numbers.define_int(
    "size",
    0,
    "Short side of the stored images in pixels, 0 keeps them (photos: 96, other embedded: 64)",
    0,
)
_VAL = numbers.define_float("val_fraction", 0.05, "Fraction of images in the split val", 0, 1)
_TEST = numbers.define_float("test_fraction", 0.05, "Fraction of images in the split test", 0, 1)
_WORKERS = numbers.define_int("workers", 0, "Processes, 0 for one per core", 0)
_NUM = numbers.define_int(
    "num", 0, "Records of photos (0: 3072), shapes and pictograms (0: 20000)", 0
)
_SEED = numbers.define_seed("seed", 0, "Seed of crops and of the scenes of shapes")
_CROPS = numbers.define_int(
    "crops", 0, "Square crops of --size pixels per image, stored instead of the image", 0
)
_FORMAT = flags.DEFINE_string(
    "format",
    "",
    "jpeg, webp or png; by default files that need no change are kept and others become JPEG "
    "(embedded sources: PNG)",
)
_QUALITY = numbers.define_int("quality", 95, "Quality of JPEG and WebP", 1, 100)
_MASKS = flags.DEFINE_string(
    "masks",
    "",
    "Label map of each image inside the source, such as 'labels/{stem}.png' or "
    "'{folder}/{stem}_mask.png'",
)
_MAX_BAD = numbers.define_int(
    "max_bad", 100, "Stop when more files than this are damaged or missing, -1 never stops", -1
)
_MIN_SIDE = numbers.define_int("min_side", 16, "Leave out images with a shorter side, in pixels", 1)
_NEAR = flags.DEFINE_boolean("near_duplicates", True, "Leave out near duplicates")
_ALIGN = paths.DEFINE_path(
    "align_faces", None, "MTCNN's P-Net: aligns the face in each image of a folder first"
)
_MARGIN = numbers.define_float(
    "align_margin", 0.0, "Margin around brows, ears and chin, in sides of a face", 0, 2
)
_PREVIEW = paths.DEFINE_path(
    "preview", None, "Image of all degradations to write, instead of --out"
)
_CAPTIONS = paths.DEFINE_path(
    "validate_captions", None, "captions.jsonl, or its folder, to check instead of preparing"
)
_CAPTION = paths.DEFINE_path(
    "caption",
    None,
    "Model that writes captions of images without one: blip2, or blip2:MODEL with a folder or a "
    "name on the Hugging Face Hub (blip2: Salesforce/blip2-opt-2.7b)",
)
_PREFIX = flags.DEFINE_string(
    "caption_prefix", "An engraving depicting", "Text that each caption of --caption begins with"
)
_BEAMS = numbers.define_int("caption_beams", 5, "Beams of the beam search of --caption", 1, 64)
_TOP_P = numbers.define_float(
    "caption_top_p",
    0.0,
    "Nucleus sampling instead of beam search: probability mass, 0 is off",
    0,
    1,
)
_TOKENS = numbers.define_int(
    "caption_tokens", 40, "Largest number of tokens after the prefix of --caption", 1, 512
)
_BATCH = numbers.define_int("caption_batch", 8, "Images per batch of --caption", 1, 4096)
flags.DEFINE_alias("validate-captions", "validate_captions")
_SHARD = numbers.define_int("shard_records", 0, "Records per shard, 0 for 1024 or more", 0)


def main(_) -> None:
    """Runs `gen_jax.data.prepare.build.prepare` and says in a few lines what came out."""
    from gen_jax.common.errors import UserError

    if _CAPTIONS.value:
        _validate_captions()
        return
    if not _SOURCE.value or not (_OUT.value or _PREVIEW.value):
        raise UserError(
            "--source and --out are needed, for example --source=photos --out=data/photos"
        )
    from gen_jax.data.prepare import sources

    sources.check_unambiguous(_SOURCE.value, _OUT.value or "")
    if _PREVIEW.value:
        outputs.check_file(_PREVIEW.value, "--preview")
        _preview()
        return
    outputs.check_folder(_OUT.value, "--out")
    from gen_jax.data.prepare import build, captioning, plan

    info = build.prepare(
        build.Options(
            source=_aligned() if _ALIGN.value else _SOURCE.value,
            out=_OUT.value,
            size=_SIZE.value,
            rules=plan.Rules(
                val_fraction=_VAL.value,
                test_fraction=_TEST.value,
                min_side=_MIN_SIDE.value,
                near_duplicates=_NEAR.value,
                max_bad=_MAX_BAD.value,
            ),
            num=_NUM.value,
            seed=_SEED.value,
            crops=_CROPS.value,
            format=_FORMAT.value,
            quality=_QUALITY.value,
            shard_records=_SHARD.value,
            masks=_MASKS.value,
            workers=_WORKERS.value,
            captioner=_captioner() if _CAPTION.value else None,
        )
    )
    counts = ", ".join(f"{split} {info.num_records(split)}" for split in info.splits)
    size = sum(shard.bytes for group in info.splits.values() for shard in group)
    print(f"{_OUT.value}: {counts}; {size / 2**20:.1f} MiB")
    if left_out := plan.rejected_summary(info.quality):
        print(f"left out: {left_out}; all are named in {_OUT.value}/dataset.json")
    if line := captioning.summary(info.quality):
        print(f"{line}; all are in {_OUT.value}/captions.jsonl")
    for split, flag in (("val", _VAL), ("test", _TEST)):
        if flag.value and split not in info.splits:
            print(
                f"note: no image is in the split {split}, which is drawn by content; to have one, "
                f"prepare into another folder with --{split}_fraction=0.2 or more images"
            )
    print(f"look at {_OUT.value}/contact_sheet.png")


def _captioner():
    """Returns the settings of the captioning model."""
    from gen_jax.data.prepare import captioning

    return captioning.Settings(
        caption=_CAPTION.value,
        prefix=_PREFIX.value,
        num_beams=_BEAMS.value,
        top_p=_TOP_P.value,
        max_new_tokens=_TOKENS.value,
        batch_size=_BATCH.value,
    )


def _aligned() -> str:
    """The folder of aligned faces, made of --source."""
    from gen_jax.common.errors import UserError
    from gen_jax.pipelines import face_alignment

    source = pathlib.Path(_SOURCE.value)
    if not source.is_dir():
        raise UserError(f"--align_faces: expected a folder of pictures, --source={_SOURCE.value}")
    if not 16 <= _SIZE.value <= 4096:
        raise UserError(f"--size={_SIZE.value}: expected 16 to 4096 pixels with --align_faces")
    out = pathlib.Path(f"{_OUT.value.rstrip('/')}_aligned")
    left_out = face_alignment.align_folder(source, out, _ALIGN.value, _SIZE.value, _MARGIN.value)
    for reason, names in left_out.items():
        print(f"left out: {len(names)} {reason} (named in {out / face_alignment.REPORT})")
    return str(out)


def _validate_captions() -> None:
    """Prints what `data.caption_check` finds."""
    from gen_jax.common.errors import UserError
    from gen_jax.data.prepare import caption_check

    report = caption_check.check(_CAPTIONS.value)
    for finding in report.findings:
        where = f"line {finding.line}" if finding.line else "all lines"
        print(f"{where}: {finding.kind}: {finding.message}")
    for (a, b), (value, count) in report.kappa.items():
        print(f"agreement of {a} and {b}: kappa {value:.2f} on {count} pictures")
    seen = sum(count >= caption_check.LEAST_SEEN for count in report.coverage.values())
    print(f"{report.lines} lines; {seen} of {len(report.coverage)} adjectives often enough")
    if wrong := sum(f.line > 0 for f in report.findings):
        raise UserError(f"{_CAPTIONS.value}: {wrong} findings, see above and docs/annotation.md")


def _preview() -> None:
    """Writes the sheet of `data.degradations.preview` of up to six images."""
    import numpy as np

    from gen_jax.common import pictures
    from gen_jax.common.errors import UserError
    from gen_jax.data import images
    from gen_jax.data.degradations import preview
    from gen_jax.data.load import steps
    from gen_jax.data.prepare import sources
    from gen_jax.runs import layout

    source = sources.open_source(_SOURCE.value, num=_NUM.value, size=_SIZE.value, seed=_SEED.value)
    crop, shown = steps.native_crop(128, train=False), []
    for index in np.linspace(0, len(source) - 1, min(len(source), 6)).astype(int):
        try:
            raw = source.read(int(index))
            pixels = raw.pixels if raw.data is None else images.open_strict(raw.data)[0]
        except images.ImageError:  # a preparation would name it
            continue
        shown.append(crop({"image": pixels}, np.random.default_rng(0))["image"])
    if not shown:
        raise UserError(f"--source={_SOURCE.value}: none of its images can be read")
    path = pathlib.Path(_PREVIEW.value)
    layout.make(path.absolute().parent, "--preview")
    pictures.save(path, preview.sheet(shown, _SEED.value))
    print(f"look at {_PREVIEW.value}")


if __name__ == "__main__":
    app.run(main)
