"""Who restores: a table of names, to which a new one is a line.

A restorer is built once for a benchmark from `weights` and from what is `Given`, and then called
with each degraded picture.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.data.degradations.bicubic import imresize
from gen_jax.evaluation.restoration.benchmarks import Given
from gen_jax.evaluation.restoration.networks import build_dncnn, build_ffdnet, build_scunet
from gen_jax.evaluation.restoration.trained import build_run
from gen_jax.runs import sources

Restorer = Callable[[np.ndarray], np.ndarray]
"""float32 [h, w, c] in about [0, 1] to [scale h, scale w, c] in about [0, 1]; c is 1 or 3."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
      build: (weights, given) -> the restorer.
      weights: whether it needs a file of weights.
      needs: fields of `Given` that it must be told.
      only: benchmarks that it is for; none for all.
      never: benchmarks that it makes no sense for, with the reason.
    """

    build: Callable[[str, Given], Restorer]
    weights: bool = False
    needs: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    never: dict[str, str] = dataclasses.field(default_factory=dict)


def _identity(weights: str, given: Given) -> Restorer:
    return lambda image: image


def _bicubic(weights: str, given: Given) -> Restorer:
    return lambda image: imresize(image, given.scale)


def _shipped(weights: str, given: Given) -> Restorer:
    return build_run("package:restore", given)


RESTORERS: dict[str, Entry] = {
    "identity": Entry(
        _identity, never={"sr": "a small picture is not as large as its reference; take bicubic"}
    ),
    "bicubic": Entry(_bicubic, only=("sr",)),
    "shipped": Entry(_shipped),
    "dncnn": Entry(build_dncnn, weights=True),
    "ffdnet": Entry(
        build_ffdnet, True, ("sigma",), only=("denoise_gray", "denoise_color", "real_pairs")
    ),
    "scunet": Entry(
        build_scunet, True, only=("denoise_gray", "denoise_color", "jpeg", "real_pairs")
    ),
}
"""Name -> how it is built and what for."""


def build(name: str, benchmark: str, weights: str, given: Given) -> Restorer:
    """A restorer for a benchmark.

    Raises:
      UserError: an unknown name, one that does not fit the benchmark, weights or a noise level
        that are missing, or weights that do not fit.
    """
    if name not in RESTORERS:
        if sources.is_path(name) and not pathlib.Path(name).is_dir():
            known = ", ".join(RESTORERS)
            raise UserError(
                f"restorer={name}: expected one of {known}, package:NAME or a run directory"
            )
        if weights:
            raise UserError(
                f"restorer={name} is a run, which has its own weights: leave weights out"
            )
        return build_run(name, given)
    entry = RESTORERS[name]
    if entry.only and benchmark not in entry.only:
        raise UserError(f"restorer={name} goes with benchmark={', '.join(entry.only)}")
    if benchmark in entry.never:
        raise UserError(
            f"restorer={name} makes no sense for benchmark={benchmark}: {entry.never[benchmark]}"
        )
    if entry.weights and not weights:
        raise UserError(f"restorer={name} needs weights=FILE.safetensors or FILE.zip:MEMBER")
    if weights and not entry.weights:
        raise UserError(f"restorer={name} takes no weights: leave them out")
    for field in entry.needs:
        if getattr(given, field) is None:
            raise UserError(f"restorer={name} needs {field}, the strength of the noise")
    return entry.build(weights, given)


def used_by(name: str) -> tuple[str, ...]:
    """Fields of `Given` that a restorer reads."""
    return RESTORERS[name].needs if name in RESTORERS else ()
