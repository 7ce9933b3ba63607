"""Paths through latents: great circles, so that points stay Gaussian, or straight lines."""

import numpy as np

from gen_jax.common.errors import UserError

PATHS = ("slerp", "lerp")


def walk(points: np.ndarray, count: int, path: str = "slerp") -> np.ndarray:
    """Returns points on the way through all of `points`, which are equally far apart in time.

    Args:
      points: At least two points [n, ...].
      count: Number of points on the way, the first and last of `points` among them.
      path: "slerp" for great circles, or "lerp" for straight lines.

    Returns:
      float32 [count, ...].

    Raises:
      UserError: There is no such path.
    """
    if path not in PATHS:
        raise UserError(f"path={path}: expected {' or '.join(PATHS)}")
    between = slerp if path == "slerp" else _lerp
    time = np.linspace(0.0, len(points) - 1.0, count)
    start = np.minimum(time.astype(int), len(points) - 2)
    segments = [
        between(points[i].ravel(), points[i + 1].ravel(), time[start == i] - i)
        for i in range(len(points) - 1)
    ]
    return np.concatenate(segments).reshape(count, *points.shape[1:]).astype(np.float32)


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Returns points [n, d] of the great circle from `a` [d] to `b` [d] at times `t` [n] in [0, 1].

    Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985.
    """
    a, b, t = a.astype(np.float64), b.astype(np.float64), t[:, None]
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(angle) < 1e-6:
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def _lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    return (1 - t[:, None]) * a + t[:, None] * b
