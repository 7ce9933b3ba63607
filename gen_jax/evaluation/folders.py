"""Two folders of images against each other."""

import json
import pathlib
from collections.abc import Sequence

from gen_jax.common import files, left_out
from gen_jax.common.errors import UserError
from gen_jax.evaluation.comparison import Comparison, Encoders
from gen_jax.evaluation.image_metrics import Measured, check_names, measure
from gen_jax.evaluation.image_sets import FolderImages

DEFAULT = ("fd", "kd", "prdc")
DEFAULT_OF_PAIRS = ("psnr", "ssim")
"""What is measured where nothing is named: needs no encoder."""


def compare_folders(
    real: str, fake: str, size: int, metrics: Sequence[str] = (), encoder: Sequence[str] = ()
) -> Measured:
    """Distances between two folders.

    Args:
      real: reference images.
      fake: images to judge; captions.jsonl, or the manifests of gen_jax.generate, give texts.
      size: side that all are brought to, in pixels; 0 leaves them as they are.
      metrics: keys of `image_metrics.METRICS`; none for those that need no weights: `fd` and `kd`
        with 95% intervals, `precision`, `recall`, `density`, `coverage` over features of an
        untrained network, whose names end in `_untrained` (not comparable with FID), and `psnr`,
        `ssim` if both folders hold the same names.
      encoder: "NAME[:WEIGHTS]" of each tower to use.

    Raises:
      UserError: see `measure`; a folder without images, or with one that cannot be read.
    """
    check_names(metrics)
    encoders = Encoders.sorted_from(encoder)
    a, b = FolderImages(real, size), FolderImages(fake, size)
    paired = a.names == b.names
    if not metrics:
        metrics = (*DEFAULT, *(DEFAULT_OF_PAIRS if paired else ()))
    texts = _texts(b) if "clip_score" in metrics else None
    found = measure(metrics, Comparison(a, b, encoders, paired, texts))
    counts = {"images_real": float(len(a)), "images_fake": float(len(b))}
    notes = {
        name: f"left out: {left_out.summary(images.left_out)}"
        for name, images in zip(counts, (a, b))
        if images.left_out
    }
    return Measured(counts | found.metrics, notes | found.notes)


def _texts(images: FolderImages) -> list[str] | None:
    """The caption of each image, or None where the folder has none.

    Raises:
      UserError: some images have one and others not.
    """
    from gen_jax.data.text import captions

    file, found = images.folder / captions.FILE, {}
    if file.is_file():
        by_key, _ = captions.match(captions.read(file), images.keys)
        for path, key in zip(images.paths, images.keys):
            line = by_key.get(key)
            found[path] = line.captions[0] if line else None
    else:
        found = {path: _prompt(path.with_suffix(".json")) for path in images.paths}
    missing = [path for path, text in found.items() if text is None]
    if len(missing) == len(found):
        return None
    if missing:
        raise UserError(f"{missing[0]}: has no caption, others have: 'clip_score' needs all")
    return list(found.values())


def _prompt(manifest: pathlib.Path) -> str | None:
    """The prompt in a manifest of gen_jax.generate."""
    if not manifest.is_file():
        return None
    try:
        prompt = json.loads(files.read_text(manifest)).get("prompt")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{manifest}: no manifest of a picture ({error}); remove it") from None
    return prompt if isinstance(prompt, str) else None
