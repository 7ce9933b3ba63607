"""CLIPScore (arXiv 2104.08718): how well a text fits a picture, by CLIP's two towers."""

import numpy as np
from jaxtyping import Array, Float

WEIGHT = 2.5
PROMPT = "A photo depicts "
"""What the paper puts before every caption."""


def cosine(
    images: Float[Array | np.ndarray, "n d"], texts: Float[Array | np.ndarray, "n d"]
) -> Float[np.ndarray, "n"]:
    """Cosine of each picture's embedding with that of its text, in [-1, 1], float64."""
    a, b = (np.asarray(v, np.float64) for v in (images, texts))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("nd,nd->n", a, b) / lengths


def clip_score(
    images: Float[Array | np.ndarray, "n d"], texts: Float[Array | np.ndarray, "n d"]
) -> Float[np.ndarray, "n"]:
    """2.5 max(cosine, 0) of each pair (the paper's equation 1); of a set, the mean is meant.

    Others multiply by 100 instead of 2.5 and put nothing before the caption.

    Args:
      images: CLIP's embeddings of pictures, of any length.
      texts: those of their captions, `PROMPT` before each.
    """
    return WEIGHT * np.maximum(cosine(images, texts), 0)
