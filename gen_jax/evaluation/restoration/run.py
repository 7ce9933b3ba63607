"""A benchmark from names to numbers."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.common.left_out import summary
from gen_jax.encoders import image_distance
from gen_jax.evaluation.comparison import Encoders
from gen_jax.evaluation.restoration import pictures, restorers
from gen_jax.evaluation.restoration.benchmarks import BENCHMARKS, Benchmark, Given
from gen_jax.evaluation.restoration.score import Distance, score
from gen_jax.pipelines.self_ensemble import mean_over_symmetries

Row = Mapping[str, Any]
_LPIPS = "lpips-vgg:VGG16.safetensors,HEADS.safetensors"
_NO_LPIPS = f"no LPIPS encoder is named: encoder={_LPIPS}"
# Field of `Given` -> type, least and largest value.
_STRENGTHS = {"sigma": (float, 0, 255), "scale": (int, 2, 16), "quality": (int, 1, 100)}


def run(
    benchmark: str,
    images: str,
    restorer: str,
    weights: str = "",
    given: Given | None = None,
    encoder: Sequence[str] = (),
    progress: Callable[[int, int, Row], None] = lambda done, total, row: None,
    symmetries: int = 1,
) -> dict[str, Any]:
    """Restores every picture and compares it with what it was.

    Args:
      benchmark: key of `BENCHMARKS`.
      images: a folder, or FILE.zip[:PREFIX].
      restorer: key of `restorers.RESTORERS`.
      weights: of the restorer, as in `encoders.files.find`.
      given: strength of the degradation; None fields take the benchmark's own.
      encoder: an LPIPS tower, "NAME:WEIGHTS", or none.
      progress: called after each picture with its number, their count and its row.
      symmetries: Number of orientations whose results are averaged, of `self_ensemble.COUNTS`.

    Returns:
      `psnr` (dB), `ssim` and `lpips`, means over pictures (`lpips` None and `lpips_reason` if
      no encoder is named), `n`, `rows` of name and values, and what was measured; `left_out` if
      the folder holds files that look like images and are not read. The PSNR of equal images is
      infinite.

    Raises:
      UserError: an unknown name, a strength that nothing uses or that is out of range, pictures or
        weights that are missing or do not fit.
    """
    if benchmark not in BENCHMARKS:
        raise UserError(f"benchmark={benchmark}: expected one of {', '.join(BENCHMARKS)}")
    protocol = BENCHMARKS[benchmark]
    given = _settle(benchmark, protocol, restorer, given or Given())
    restore = restorers.build(restorer, benchmark, weights, given)
    distance = _distance(encoder)
    listed, left_out = pictures.scanned(images)
    found = protocol.group(listed)
    rows = []
    for group in found:
        case = protocol.case(given, *group)
        restored = np.asarray(
            mean_over_symmetries(lambda x: restore(x[0])[None], case.degraded[None], symmetries)[0],
            np.float32,
        )
        if not np.isfinite(restored).all():
            raise UserError(
                f"{case.name}: restorer={restorer}: output is not finite (NaN or Inf); the weights "
                "may be corrupt"
            )
        border = given.scale if protocol.luma else 0
        values = score(restored, case.reference, protocol.luma, border, distance)
        rows.append({"name": case.name, **values})
        progress(len(rows), len(found), rows[-1])
    told = {k: v for k, v in dataclasses.asdict(given).items() if v is not None}
    what = {"benchmark": benchmark, "images": images, "restorer": restorer, **told}
    what |= {"weights": weights} if weights else {}
    what |= {"symmetries": symmetries} if symmetries > 1 else {}
    what |= {"left_out": summary(left_out)} if left_out else {}
    return what | _summary(rows)


def run_levels(
    benchmark: str,
    images: str,
    restorer: str,
    weights: str,
    levels: Mapping[str, Sequence[str | int | float]],
    encoder: Sequence[str] = (),
    progress: Callable[[int, int, Row], None] = lambda done, total, row: None,
    symmetries: int = 1,
) -> list[dict[str, Any]]:
    """`run` at every combination of strengths; mistakes are found before anything is restored.

    Of what `run` does not take, `levels` is the fields of `Given` and the values of each, numbers
    or as they were written; one that is no number is a `UserError` too.
    """
    names = list(levels)
    values = [[numbers.parse(v, name, *_STRENGTHS[name]) for v in levels[name]] for name in names]
    givens = [Given(**dict(zip(names, some))) for some in itertools.product(*values)]
    if benchmark in BENCHMARKS:
        for given in givens:
            _settle(benchmark, BENCHMARKS[benchmark], restorer, given)
    return [
        run(benchmark, images, restorer, weights, given, encoder, progress, symmetries)
        for given in givens
    ]


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {"n": len(rows), "lpips": None}
    for name in rows[0].keys() - {"name"}:
        out[name] = float(np.mean([row[name] for row in rows]))
    if out["lpips"] is None:
        out["lpips_reason"] = _NO_LPIPS
    return out | {"rows": rows}


def _settle(benchmark: str, protocol: Benchmark, restorer: str, given: Given) -> Given:
    """Fills in the benchmark's own strengths, and refuses those that nobody reads."""
    for name, value in dataclasses.asdict(given).items():
        if value is None:
            continue
        if name not in protocol.uses and name not in restorers.used_by(restorer):
            fits = [b for b, p in BENCHMARKS.items() if name in p.uses]
            raise UserError(f"{name} goes with benchmark={', '.join(fits)}: leave it out")
        numbers.parse(value, name, *_STRENGTHS[name])
    values = {k: v for k, v in dataclasses.asdict(given).items() if v is not None}
    return Given(**(protocol.uses | values))


def _distance(encoder: Sequence[str]) -> Distance | None:
    if not encoder:
        return None
    spec = Encoders.sorted_from(encoder).one("lpips", "lpips", _LPIPS)
    return image_distance.open_distance(spec, batch_size=1)
