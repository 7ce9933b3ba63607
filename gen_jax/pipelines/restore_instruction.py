"""What a restorer is conditioned on to remove some degradations and keep the others.

The network is trained on five kinds of requests. For each set of degradations to remove there is
the sentence it follows best, and the estimates that are set to zero, so that the network does not
correct what is to be kept (measured in docs/results/restoration.md).
"""

import dataclasses
from collections.abc import Mapping

from gen_jax.data.text.instruction_parser import Understood
from gen_jax.data.text.instruction_words import BLUR, JPEG, NOISE

_DENOISE = "remove the noise, keep the blur"
_SHARPEN = "sharpen it, keep the grain"
_DECOMPRESS = "remove the JPEG artifacts"
_NAMES = {NOISE: "sigma", BLUR: "blur", JPEG: "jpeg"}
_SOFTNESS = ("blur", "scale")

# The noise is never set to zero: conditioned on none, the network takes grain for texture.
_REQUESTS: Mapping[frozenset[str], tuple[str, tuple[str, ...]]] = {
    frozenset((NOISE, BLUR, JPEG)): ("", ()),
    frozenset((NOISE, BLUR)): ("", ("jpeg",)),
    frozenset((NOISE, JPEG)): (_DENOISE, _SOFTNESS),
    frozenset((BLUR, JPEG)): (_SHARPEN, ()),
    frozenset((NOISE,)): (_DENOISE, (*_SOFTNESS, "jpeg")),
    frozenset((BLUR,)): (_SHARPEN, ("jpeg",)),
    frozenset((JPEG,)): (_DECOMPRESS, _SOFTNESS),
}

SENTENCES = tuple(dict.fromkeys(sentence for sentence, _ in _REQUESTS.values() if sentence))
"""All sentences that are passed to a network."""


def without_absent(understood: Understood, known: Mapping[str, float]) -> Understood:
    """Returns a request without the degradations that are known to be absent.

    Args:
      understood: What was asked for.
      known: Strengths that were given instead of estimated.
    """
    absent = {kind for kind, name in _NAMES.items() if known.get(name) == 0.0}
    if known.get("scale", 0.0) > 0.0:
        absent -= {BLUR}  # an enlarged image is soft
    remove = tuple(kind for kind in understood.remove if kind not in absent)
    return dataclasses.replace(understood, remove=remove)


def conditions(
    understood: Understood, degradation: Mapping[str, float], known: Mapping[str, float]
) -> tuple[str, dict[str, float]]:
    """Returns the sentence and the degradation vector that a network is to be conditioned on.

    Args:
      understood: What was asked for; at least one degradation is to be removed.
      degradation: Name of `data.degradations.PARAMETERS` -> strength in its unit.
      known: Strengths that were given instead of estimated, which are never set to zero.
    """
    sentence, ignored = _REQUESTS[frozenset(understood.remove)]
    zeroed = {name: 0.0 for name in ignored if name in degradation and name not in known}
    return sentence, {**degradation, **zeroed}
