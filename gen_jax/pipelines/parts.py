"""Running a predict function over many rows, some at a time."""

from collections.abc import Callable, Mapping

import numpy as np

from gen_jax.common.errors import UserError


def images_in_parts(
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
    batch: Mapping[str, np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """Generates images in parts of at most `batch_size` rows.

    One shape compiles once: a short last part is padded with its first row.

    Args:
      run: Returns "image", uint8 `[b, h, w, 3]`, and "finite", bool `[b]`.
      batch: Arrays `[n, ...]`, among them the "seed" of each image.
      batch_size: Images per call.

    Returns:
      uint8 `[n, h, w, 3]`.

    Raises:
      UserError: An image is not finite. Its pixels would be black.
    """
    count = len(batch["seed"])
    size, images = min(batch_size, count), []
    for start in range(0, count, size):
        part = {k: v[start : start + size] for k, v in batch.items()}
        missing = size - len(part["seed"])
        part = {k: np.concatenate([v, v[:1].repeat(missing, 0)]) for k, v in part.items()}
        out = run(part)
        if not (finite := np.asarray(out["finite"])).all():
            seed = part["seed"][np.argmin(finite)]
            raise UserError(
                f"the image of seed {seed} is not finite (NaN or Inf): lower the guidance scale, "
                "or check the weights of the run"
            )
        images.append(np.asarray(out["image"])[: size - missing])
    return np.concatenate(images)
