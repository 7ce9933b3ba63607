"""Image metrics by name, over two sets of images; a new one is a line in `METRICS`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog
from gen_jax.evaluation.comparison import UNTRAINED, Comparison
from gen_jax.evaluation.reconstruction import compare
from gen_jax.evaluation.untrained import suffix
from gen_jax.metrics import clip_score, cmmd, frechet, kid, prdc, vendi
from gen_jax.metrics.interval import of_mean

# A Frechet distance's bias falls with the count; the literature takes 10,000 to 50,000 images.
ENOUGH_IMAGES = 10_000

# Resamples of a Frechet distance in many dimensions take seconds each.
_FEW_DIMENSIONS, _RESAMPLES, _FEW_RESAMPLES = 512, 100, 20

_INCEPTION = "inception-v3-fid:pt_inception-2015-12-05.safetensors"
_CLIP = "clip-vit-large-patch14-vision:FOLDER"

# Pairs that the mean pairwise distance is taken over, at most.
_DIVERSITY_PAIRS = 2000


class Measured(NamedTuple):
    """What was found.

    Attributes:
      metrics: name -> number; an interval has `NAME_low` and `NAME_high`, of 95%.
      notes: name -> what to bear in mind with that number.
    """

    metrics: dict[str, float]
    notes: dict[str, str]


def measure(names: Sequence[str], what: Comparison) -> Measured:
    """Takes metrics.

    Args:
      names: keys of `METRICS`.
      what: images, texts and encoders.

    Raises:
      UserError: an unknown name, or an encoder, pairs or texts that one of them lacks.
    """
    check_names(names)
    metrics: dict[str, float] = {}
    notes: dict[str, str] = {}
    for name in dict.fromkeys(names):
        found = METRICS[name](what)
        metrics |= found.metrics
        notes |= found.notes
    return Measured({k: float(v) for k, v in metrics.items()}, notes)


def check_names(names: Sequence[str]) -> None:
    """Raises UserError where a name is none of `METRICS`."""
    if unknown := [n for n in names if n not in METRICS]:
        raise UserError(f"unknown metric {unknown[0]!r}: expected some of {', '.join(METRICS)}")


def _frechet(name: str, x: np.ndarray, y: np.ndarray) -> Measured:
    count, dimensions = min(len(x), len(y)), x.shape[1]
    resamples = _RESAMPLES if min(count, dimensions) <= _FEW_DIMENSIONS else _FEW_RESAMPLES
    found = frechet.frechet_interval(x, y, num_resamples=resamples)
    notes = {}
    if count < ENOUGH_IMAGES:
        notes[name] = (
            f"too high with {count:,} images (the literature takes {ENOUGH_IMAGES:,} or more): "
            "compare equal counts only"
        )
    return Measured(found.named(name), notes)


def _kernel(name: str, x: np.ndarray, y: np.ndarray) -> Measured:
    return Measured(kid.kernel_distance(x, y).named(name), {})


def _of_inception(name: str, inputs: str, distance: Callable[..., Measured]):
    def metric(what: Comparison) -> Measured:
        spec = what.encoders.one("inception", name, _INCEPTION)
        return distance(name, *what.both(spec, inputs))

    return metric


def _of_features(name: str, distance: Callable[..., Measured]):
    """A metric of any features: a row for each tower, or one of the untrained network."""

    def metric(what: Comparison) -> Measured:
        rows = Measured({}, {})
        for spec in what.encoders.features or (UNTRAINED,):
            found = distance(_suffixed(name, spec), *what.both(spec))
            rows.metrics.update(found.metrics)
            rows.notes.update(found.notes)
        return rows

    return metric


def _suffixed(name: str, spec: str) -> str:
    return f"{name}_{catalog.parse(spec)[0]}" if spec else f"{name}{suffix(spec)}"


def _prdc(what: Comparison) -> Measured:
    rows = {}
    for spec in (*what.encoders.features, *what.encoders.inception) or (UNTRAINED,):
        real, fake = what.both(spec)
        nearest = min(5, len(real) - 1, len(fake) - 1)
        found = prdc.prdc(real, fake, nearest)._asdict()
        rows |= {_suffixed(name, spec): value for name, value in found.items()}
    return Measured(rows, {})


def _vendi(what: Comparison) -> Measured:
    rows, notes = {}, {}
    for spec in (*what.encoders.features, *what.encoders.inception) or (UNTRAINED,):
        name, features = _suffixed("vendi", spec), what.features("fake", spec)
        rows[name] = vendi.vendi_score(features)
        notes[name] = f"grows with the count, here {len(features):,}"
    return Measured(rows, notes)


def _cmmd(what: Comparison) -> Measured:
    x, y = what.both(what.encoders.one("clip_vision", "cmmd", _CLIP))
    rows = cmmd.cmmd_interval(x, y).named("cmmd")
    return Measured(rows | {"cmmd_unbiased": cmmd.cmmd(x, y, unbiased=True)}, {})


def _clip_score(what: Comparison) -> Measured:
    if not what.texts:
        raise UserError(
            "the metric 'clip_score' needs texts: a captions.jsonl in the folder `fake`, or "
            "the manifests that gen_jax.generate writes"
        )
    texts = what.text_features(clip_score.PROMPT)
    images = what.features("fake", what.encoders.one("clip_vision", "clip_score", _CLIP))
    if images.shape[1] != texts.shape[1]:
        raise UserError(
            f"the metric 'clip_score': the two towers of CLIP have {images.shape[1]} and "
            f"{texts.shape[1]} dimensions: name towers of one model"
        )
    cosines, scores = clip_score.cosine(images, texts), clip_score.clip_score(images, texts)
    rows = of_mean(scores).named("clip_score")
    return Measured(rows | {"clip_cosine": float(cosines.mean())}, {})


def _lpips(what: Comparison) -> Measured:
    distance = what.distance("lpips")
    each = np.concatenate([distance(x, y) for x, y in what.pairs("lpips")])
    return Measured(of_mean(each).named("lpips"), {})


def _diversity(what: Comparison) -> Measured:
    """Mean LPIPS between different fakes: all pairs, or as many drawn ones as are affordable."""
    distance = what.distance("diversity")
    images = np.concatenate(list(what.set("fake").chunks()))
    if len(images) < 2:
        raise UserError(f"the metric 'diversity' of {len(images)} image: expected at least 2")
    first, second = np.triu_indices(len(images), 1)
    if len(first) > _DIVERSITY_PAIRS:
        chosen = np.random.RandomState(0).choice(len(first), _DIVERSITY_PAIRS, replace=False)
        first, second = first[chosen], second[chosen]
    parts = range(0, len(first), 256)
    each = [distance(images[first[i : i + 256]], images[second[i : i + 256]]) for i in parts]
    return Measured({"diversity": float(np.concatenate(each).mean())}, {})


def _paired(name: str):
    def metric(what: Comparison) -> Measured:
        parts = [(compare(x, y)[name], len(x)) for x, y in what.pairs(name)]
        values, counts = zip(*parts)
        return Measured({name: float(np.average(values, weights=counts))}, {})

    return metric


METRICS: dict[str, Callable[[Comparison], Measured]] = {
    "fid": _of_inception("fid", "pytorch-fid", _frechet),
    "clean_fid": _of_inception("clean_fid", "clean-fid", _frechet),
    "kid": _of_inception("kid", "pytorch-fid", _kernel),
    "clean_kid": _of_inception("clean_kid", "clean-fid", _kernel),
    "fd": _of_features("fd", _frechet),
    "kd": _of_features("kd", _kernel),
    "cmmd": _cmmd,
    "clip_score": _clip_score,
    "prdc": _prdc,
    "vendi": _vendi,
    "lpips": _lpips,
    "diversity": _diversity,
    "psnr": _paired("psnr"),
    "ssim": _paired("ssim"),
}
"""Name -> metric. `fid` and `kid` are of Inception's features and pytorch-fid's input, `clean_`
of clean-fid's; `fd` and `kd` of any other tower's."""
