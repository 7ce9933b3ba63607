"""Steps of the loader for faces with landmarks, see `steps`."""

from collections.abc import Sequence

import cv2
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.load.augmentation import Example, Transform


def points(count: int) -> Transform:
    """Sets "points" (float32 [count, 2]) from the attribute "landmarks" of the record.

    Landmarks are [x, y] in fractions of the image's width and height, from its upper left corner.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        written = example["attributes"].get("landmarks")
        try:
            landmarks = np.asarray(written, np.float32)
        except (TypeError, ValueError):
            landmarks = np.empty(0, np.float32)
        if landmarks.shape != (count, 2) or not np.isfinite(landmarks).all():
            raise UserError(
                f"{example['key']}: expected an attribute landmarks of {count} pairs [x, y] in "
                "fractions of the image's sides; write them into captions.jsonl, or change points "
                "of the transform and of the head"
            )
        return {**example, "points": landmarks}

    return run


def pose(
    size: int, turn: float | int, scale: tuple[float | int, float | int], shift: float | int
) -> Transform:
    """Turns, scales and moves an image and its "points", and resizes it to `size` pixels.

    Args:
      size: Side of the result in pixels.
      turn: Largest rotation in degrees to either side.
      scale: Range of the factor by which the image is enlarged.
      shift: Largest shift along each axis, as a share of the side.
    """

    def run(example: Example, rng: np.random.Generator) -> Example:
        image = example["image"]
        height, width = image.shape[:2]
        angle, factor = np.deg2rad(rng.uniform(-turn, turn)), rng.uniform(*scale)
        moved = 0.5 + rng.uniform(-shift, shift, 2)
        rotation = factor * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        # In fractions of the sides: x' = rotation (x - 1/2) + moved.
        offset = moved - rotation @ [0.5, 0.5]
        # Pixel centers lie half a pixel inside, in both images.
        to_fractions = np.array([[1 / width, 0, 0.5 / width], [0, 1 / height, 0.5 / height]])
        whole = rotation @ to_fractions
        whole[:, 2] += offset
        matrix = size * whole
        matrix[:, 2] -= 0.5
        posed = cv2.warpAffine(
            image,
            matrix,
            (size, size),
            flags=cv2.INTER_AREA if min(height, width) > size else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        posed_points = example["points"] @ rotation.T.astype(np.float32) + offset.astype(np.float32)
        return {**example, "image": posed, "points": posed_points}

    return run


def mirror(pairs: Sequence[Sequence[int]], probability: float = 0.5) -> Transform:
    """Mirrors the image; each pair of points that trade sides trades places."""

    def run(example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= probability:
            return example
        flipped = example["points"] * np.float32([-1, 1]) + np.float32([1, 0])
        for a, b in pairs:
            flipped[[a, b]] = flipped[[b, a]]
        return {**example, "image": example["image"][:, ::-1], "points": flipped}

    return run
