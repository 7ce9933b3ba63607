"""Two folders of images against each other."""

import pathlib

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.evaluation.prompts import random_features
from gen_jax.evaluation.reconstruction import compare
from gen_jax.metrics import frechet, kid, prdc

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def read_folder(folder: str, size: int) -> tuple[list[str], np.ndarray]:
    """All images of a folder, centre-cropped and resized.

    Args:
      folder: read recursively.
      size: side in pixels.

    Returns:
      Names relative to the folder, and uint8 `[n, size, size, 3]`.

    Raises:
      UserError: no such folder, no image in it, or one that cannot be read.
    """
    from gen_jax.data import images as images_lib

    root = pathlib.Path(folder)
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder; expected images to compare")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(_SUFFIXES))})")
    out = []
    for path in paths:
        try:
            image, _ = images_lib.open_strict(path.read_bytes())
        except images_lib.ImageError as error:
            raise UserError(f"{path}: {error}; remove it or replace it") from error
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        crop = np.ascontiguousarray(image[top : top + side, left : left + side])
        out.append(images_lib.resize(crop, size))
    return [str(p.relative_to(root).with_suffix("")) for p in paths], np.stack(out)


def compare_folders(real: str, fake: str, size: int) -> dict[str, float]:
    """Distances between two folders; PSNR and SSIM too where both hold the same names.

    Args:
      real: reference images.
      fake: images to judge.
      size: side that all are brought to, in pixels.

    Returns:
      `fd` and `kid` with 95% intervals, `precision`, `recall`, `density`, `coverage` over
      features of an untrained network (not comparable with FID), and `psnr`, `ssim`.
    """
    real_names, a = read_folder(real, size)
    fake_names, b = read_folder(fake, size)
    x, y = (random_features(v.astype(np.float32) / 255.0) for v in (a, b))
    metrics: dict[str, float] = {"images_real": len(a), "images_fake": len(b)}
    for name, found in (("fd", frechet.frechet_interval(x, y)), ("kid", kid.kernel_distance(x, y))):
        metrics |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    nearest = min(5, len(a) - 1, len(b) - 1)
    metrics |= prdc.prdc(x, y, nearest)._asdict()
    if real_names == fake_names:
        metrics |= compare(a, b)
    return {k: float(v) for k, v in metrics.items()}
