"""What people ask a restorer for, in words: kinds of instructions and sentences for each."""

import itertools
from collections.abc import Mapping

import numpy as np

RESTORE, DENOISE, SHARPEN, DECOMPRESS, KEEP = KINDS = (
    "restore",
    "denoise",
    "sharpen",
    "decompress",
    "keep",
)
"""All of it; only the noise; only softness and low resolution; only the codec's traces; nothing."""

OPPOSITE = {
    RESTORE: KEEP,
    DENOISE: SHARPEN,
    SHARPEN: DENOISE,
    DECOMPRESS: SHARPEN,
    KEEP: RESTORE,
}
"""Kind -> one that asks for something else; what a wrong prompt is made of."""


def _all(*parts: str) -> tuple[str, ...]:
    """Every way through alternatives such as "remove|clean" and "the noise|all grain"."""
    ways = itertools.product(*(part.split("|") for part in parts))
    return tuple(" ".join(" ".join(way).split()).replace(" ,", ",") for way in ways)


SENTENCES: Mapping[str, tuple[str, ...]] = {
    RESTORE: (
        *_all("restore|repair|clean up|enhance|fix", "this|the", "photo|picture|image"),
        *_all("|please", "remove all", "damage|defects|degradations"),
        *_all("make it|make this", "clean and sharp|look like new|as good as possible"),
    ),
    DENOISE: (
        *_all("remove|reduce|take out", "the noise|the grain|all noise"),
        *_all("remove|clean", "the noise", ", keep the", "blur|softness"),
        *_all("|only|just", "denoise", "|it|this photo", "|, do not sharpen"),
        *_all("get rid of the|no more", "grain|noise|speckles"),
    ),
    SHARPEN: (
        *_all("sharpen|deblur", "it|this photo|the picture", "|, keep the grain"),
        *_all("only|just", "sharpen|deblur"),
        *_all("remove the", "blur|softness", "|, keep the noise|, keep the grain"),
        *_all("more|bring back", "detail|sharpness", "|, leave the grain alone"),
    ),
    DECOMPRESS: (
        *_all("remove|repair|fix", "the", "compression|JPEG|blocking", "artefacts|artifacts"),
        *_all("only|just|", "deblock", "|it|this photo"),
        *_all("undo the", "JPEG|WebP|", "compression", "|, nothing else"),
    ),
    KEEP: (
        *_all("leave|keep", "it|the photo|this picture", "as it is|unchanged|alone"),
        *_all("do nothing|change nothing|no changes"),
    ),
}
"""Kind -> sentences."""

_ENLARGE = {
    2: _all("upscale|enlarge", "|it|this photo", "two times|twice|by a factor of two|x2"),
    4: _all("upscale|enlarge", "|it|this photo", "four times|by a factor of four|x4"),
}
_SEEN = {
    "sigma": _all("a", "noisy|grainy", "photo|picture|image"),
    "shot": _all("a photo taken", "at night|in low light|with high ISO"),
    "blur": _all("a", "blurred|blurry|soft|defocused", "photo|picture|image"),
    "jpeg": _all("a", "compressed|blocky|low quality JPEG", "photo|picture|image"),
    "scale": _all("a", "low resolution|small|pixelated", "photo|picture|image"),
}
# What is too weak to be called so, in the units of `degradations.PARAMETERS`.
_VISIBLE = {"sigma": 8.0, "shot": 8.0, "blur": 0.7, "jpeg": 40.0, "scale": 0.6}


def instruct(kind: str, drawn: Mapping[str, float], rng: np.random.Generator) -> str:
    """A sentence of a kind; softness of an enlarged picture is asked to be upscaled, too."""
    choices = SENTENCES[kind]
    factor = round(2.0 ** drawn.get("scale", 0.0))
    if kind == SHARPEN and factor in _ENLARGE and rng.random() < 0.5:
        choices = _ENLARGE[factor]
    return choices[rng.integers(len(choices))]


def describe(drawn: Mapping[str, float], rng: np.random.Generator) -> str:
    """A sentence that says what is wrong with a picture, "" where nothing visible is."""
    seen = [k for k, v in drawn.items() if v >= _VISIBLE.get(k, np.inf)]
    if not seen:
        return ""
    choices = _SEEN[seen[rng.integers(len(seen))]]
    return choices[rng.integers(len(choices))]


def vocabulary() -> list[str]:
    """Every sentence there is, for a tokenizer to be trained on."""
    tables = (SENTENCES, _ENLARGE, _SEEN)
    return sorted({s for table in tables for group in table.values() for s in group})
