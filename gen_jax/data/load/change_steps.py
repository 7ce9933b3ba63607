"""Pairs of images with known changes, made of one photograph; see `steps`."""

import dataclasses
import functools
import hashlib
import io
import pathlib
import zipfile

import cv2
import numpy as np
from PIL import Image

from gen_jax.common import archives
from gen_jax.common.errors import UserError
from gen_jax.data import composites, pictogram_atlas
from gen_jax.data.load.augmentation import Example, Transform

PICTOGRAMS = "pictograms"
_HELD_OUT = 10  # one cut-out in so many
_ENDINGS = (".png", ".webp")
_UNCHANGED, _CHANGED = 0, 1


@functools.lru_cache(maxsize=4)
def cutouts(spec: str, held_out: bool) -> tuple[composites.Cutout, ...]:
    """Returns cut-outs in memory, those that only evaluation shows or the others, by their names.

    Args:
      spec: "pictograms", a folder, or FILE.zip[:PREFIX]; its PNG and WebP files with opacity.
      held_out: Whether to return the tenth that only evaluation shows.

    Raises:
      UserError: There is no such folder or archive, or it has too few cut-outs.
    """
    images = _pictograms(held_out) if spec == PICTOGRAMS else _files(spec, held_out)
    if not images:
        raise UserError(
            f"objects={spec}: found no image with transparent parts among its PNG and WebP files "
            f"(one in {_HELD_OUT} is held out); expected {PICTOGRAMS}, a folder or "
            "FILE.zip[:PREFIX]"
        )
    return tuple(images)


def _is_held_out(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % _HELD_OUT == 0


def _pictograms(held_out: bool) -> list[np.ndarray]:
    places = range(pictogram_atlas.count())
    chosen = (pictogram_atlas.pictogram(i) for i in places if _is_held_out(str(i)) == held_out)
    return [image for image in chosen if image[..., 3].max() >= 128]


def _files(spec: str, held_out: bool) -> list[np.ndarray]:
    images, path = [], pathlib.Path(spec)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in _ENDINGS)
        files = ((p.relative_to(path).as_posix(), p.read_bytes()) for p in inside)
    elif parts := archives.split(spec):
        archive = zipfile.ZipFile(parts[0])
        names = sorted(n for n in archive.namelist() if n.startswith(parts[1]))
        files = ((n, archive.read(n)) for n in names if n.lower().endswith(_ENDINGS))
    else:
        raise UserError(f"objects={spec}: no such folder or archive")
    for name, data in files:
        if _is_held_out(name) != held_out:
            continue
        with Image.open(io.BytesIO(data)) as image:
            rgba = np.asarray(image.convert("RGBA"))
        if rgba[..., 3].min() < 128 <= rgba[..., 3].max():
            images.append(rgba)
    return images


@dataclasses.dataclass(frozen=True)
class Distractors:
    """What differs between the images of a pair and is no change.

    Attributes:
      shift: Largest misalignment along each axis in pixels.
      turn: Largest rotation in degrees to either side.
      season: Strength of the change of colors, brightness and contrast, from 0 to below 1.
      noise: Largest standard deviation of the noise in 8-bit units.
    """

    shift: float | int = 1.5
    turn: float | int = 1.0
    season: float | int = 0.25
    noise: float | int = 8.0

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns the image as it is seen another time: moved, in other colors, with noise."""
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), rng.uniform(-self.turn, self.turn), 1.0
        )
        matrix[:, 2] += rng.uniform(-self.shift, self.shift, 2)
        x = cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        ).astype(np.float32)
        gains = 1.0 + self.season * (rng.uniform(-1, 1) + 0.6 * rng.uniform(-1, 1, 3))
        x = (x - x.mean()) * (1.0 + self.season * rng.uniform(-1, 1)) + x.mean()
        return np.clip(x * gains, 0, 255)

    def with_noise(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns an image as uint8 with white noise of a random strength."""
        x = x + rng.uniform(0, self.noise) * rng.standard_normal(x.shape)
        return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def pair(
    size: int,
    objects: tuple[composites.Cutout, ...],
    poses: composites.Poses,
    distractors: Distractors,
    unchanged: float | int,
) -> Transform:
    """Makes "before", "after" and "mask" (uint8 [size, size], 1 where they differ) of a photograph.

    Cut-outs that both images show lie below those that only one of them shows. The mask is where
    these lie in the image "before", or would lie in it.

    Args:
      size: Side of the images in pixels.
      objects: Cut-outs.
      poses: How they are placed.
      distractors: What differs beside that.
      unchanged: Probability that nothing is inserted or erased.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        ground = composites.random_square(example["image"], size, rng)

        def lay(image):
            return composites.lay(image, objects[rng.integers(len(objects))], poses, rng)

        for _ in range(rng.integers(0, 3)):
            ground, _ = lay(ground)
        before, after, mask = ground, ground, np.zeros((size, size), bool)
        if rng.random() >= unchanged:
            for _ in range(rng.integers(1, 3)):
                if rng.random() < 0.5:
                    after, covered = lay(after)
                else:
                    before, covered = lay(before)
                mask |= covered
        after = distractors.with_noise(distractors.apply(after, rng), rng)
        before = distractors.with_noise(before.astype(np.float32), rng)
        changed = np.where(mask, _CHANGED, _UNCHANGED).astype(np.uint8)
        return {**example, "image": before, "before": before, "after": after, "mask": changed}

    return run


def turn_pair(example: Example, rng: np.random.Generator) -> Example:
    """Turns and mirrors the images and the mask of a pair alike."""
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    out = dict(example)
    for key in ("before", "after", "mask"):
        turned = np.rot90(example[key], turns)
        out[key] = turned[:, ::-1] if flip else turned
    return {**out, "image": out["before"]}
