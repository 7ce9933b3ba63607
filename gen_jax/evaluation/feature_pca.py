"""Patch features as colours: their first three principal components, over several pictures."""

import numpy as np
from jaxtyping import Bool, Float, UInt8


def foreground(
    patches: Float[np.ndarray, "n rows columns c"],
) -> Bool[np.ndarray, "n rows columns"]:
    """The patches on that side of the first component's mean that the corners are not on.

    DINOv2 (arXiv:2304.07193, figure 1) splits objects from background in this way; which sign
    is the background's it leaves open, and here the pictures' corners decide.
    """
    score = _project(patches, patches.reshape(-1, patches.shape[-1]), 1)[..., 0]
    corners = score[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    return score > 0 if np.median(corners) < 0 else score < 0


def colours(
    patches: Float[np.ndarray, "n rows columns c"],
    chosen: Bool[np.ndarray, "n rows columns"] | None = None,
) -> UInt8[np.ndarray, "n rows columns 3"]:
    """The first three components over all chosen patches together as red, green and blue.

    Args:
      patches: of several pictures.
      chosen: patches that count; the others are black. None for all.
    """
    if chosen is None:
        chosen = np.ones(patches.shape[:3], bool)
    found = _project(patches, patches[chosen], 3)
    low, high = np.percentile(found[chosen], [2, 98], axis=0)
    scaled = np.clip((found - low) / (high - low + 1e-12), 0, 1)
    return (np.where(chosen[..., None], scaled, 0) * 255).astype(np.uint8)


def _project(patches, fitted_to, components: int):
    mean = fitted_to.mean(0)
    _, axes = np.linalg.eigh(np.cov((fitted_to - mean).T))
    axes = axes[:, ::-1][:, :components]
    # An axis has no sign of its own: the larger tail is positive.
    scores = (fitted_to - mean) @ axes
    return ((patches - mean) @ axes) * np.where((scores**3).sum(0) < 0, -1.0, 1.0)
