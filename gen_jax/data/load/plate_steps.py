"""Steps of the loader for number plates, see `steps`."""

import cv2
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data import degradations
from gen_jax.data.degradations.base import from_bytes, to_bytes
from gen_jax.data.load.augmentation import Example, Transform
from gen_jax.data.text import plate_characters

ASPECT = 4  # width over height of the images that a reader gets


def text(example: Example, rng: np.random.Generator) -> Example:
    """Sets "text" from the attribute "text" of the record."""
    written = example["attributes"].get("text")
    if not isinstance(written, str):
        raise UserError(
            f"{example['key']}: the record has no attribute text, which this stage learns from; "
            'write {"file": ..., "caption": ..., "text": "AB12CDE"} into captions.jsonl'
        )
    return {**example, "text": plate_characters.encode(written, example["key"])}


def seen(
    size: int,
    heights: tuple[float | int, float | int],
    angle: float | int,
    degradation: degradations.Degradation | None,
    probability: float | int,
) -> Transform:
    """Resizes a plate to `size` / 4 x `size` pixels; a drawn one is seen by a camera before.

    Args:
      size: Width of the result in pixels.
      heights: Range of the height in pixels at which a drawn plate is seen.
      angle: Largest shift of a drawn plate's corner, as a share of its height.
      degradation: What drawn plates go through after that, or None.
      probability: Probability of the degradation.
    """
    shape = (size // ASPECT, size)

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        if not example["attributes"].get("drawn"):
            kind = cv2.INTER_AREA if image.shape[0] > shape[0] else cv2.INTER_CUBIC
            resized = cv2.resize(image, shape[::-1], interpolation=kind)
            return {**example, "image": resized, "height": image.shape[0]}
        height = round(float(rng.uniform(*heights)))
        posed = _posed(image, shape, angle, rng)
        small = cv2.resize(posed, (height * ASPECT, height), interpolation=cv2.INTER_AREA)
        if degradation is not None and rng.random() < probability:
            small = to_bytes(degradation(from_bytes(small), rng)[0])
        back = cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)
        return {**example, "image": back, "height": height}

    return run


def _posed(
    image: np.ndarray, shape: tuple[int, int], angle: float | int, rng: np.random.Generator
) -> np.ndarray:
    """Returns a plate in perspective, before a ground of one color, in another light."""
    height, width = image.shape[:2]
    corners = np.float32([(0, 0), (width, 0), (width, height), (0, height)])
    rows, columns = shape
    margin = rng.uniform(0.0, 0.12, 4) * rows
    goal = np.float32([(0, 0), (columns, 0), (columns, rows), (0, rows)])
    goal += np.float32([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * margin[:, None].astype(np.float32)
    goal += (angle * rows * rng.uniform(-1, 1, (4, 2))).astype(np.float32)
    around = tuple(float(v) for v in rng.uniform(20, 200, 3))
    matrix = cv2.getPerspectiveTransform(corners, goal)
    posed = cv2.warpPerspective(
        image, matrix, (columns, rows), flags=cv2.INTER_AREA, borderValue=around
    )
    light, contrast = rng.uniform(0.5, 1.1), rng.uniform(0.6, 1.1)
    x = posed.astype(np.float32) * light
    x = (x - x.mean()) * contrast + x.mean()
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)
