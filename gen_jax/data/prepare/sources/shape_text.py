"""Words for scenes of the procedural world, and prompts whose right answer is known.

Facts, what a sentence commits itself to, are a dict: "objects" is a list of
{"shape", "color"} with "size" and "position" where the sentence states them;
"background" and "relation" (of the first object to the second) are there only when stated.
"""

from typing import Any, NamedTuple

import numpy as np

from gen_jax.data.prepare.sources import shape_scene
from gen_jax.data.text.phrases import pick, with_article

Facts = dict[str, Any]

_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
_SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring",),
    "star": ("star", "five-pointed star"),
}
_COUNT_WORDS = {2: ("two", "2", "a pair of"), 3: ("three", "3")}
_PLACE_WORDS = {
    "center": ("in the center", "in the middle"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}
_RELATION_WORDS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# How often a sentence states what it could leave out. Where a place or a size is not stated, the
# outline is settled late and little of it can be learnt from the word: most sentences say it.
_SAYS_SIZE, _SAYS_POSITION, _SAYS_BACKGROUND = 0.85, 0.85, 0.85


class Prompt(NamedTuple):
    """A sentence and all that it states, nothing more."""

    text: str
    facts: Facts


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("ss", "sh")) else "s")


def _place(position: str, rng: np.random.Generator) -> str:
    if position in _PLACE_WORDS:
        return pick(_PLACE_WORDS[position], rng)
    return pick((f"in the {position}", f"in the {position} corner"), rng)


def _noun(item: dict, rng: np.random.Generator) -> str:
    shapes = _SHAPE_WORDS.get(item["shape"], (item["shape"],))
    # The plain word three times out of four: synonyms season, they do not rule.
    shape = shapes[0] if rng.random() < 0.75 else pick(shapes, rng)
    return f"{item['color']} {shape}"


def _frame(subject: str, background: str | None, rng: np.random.Generator) -> str:
    """Puts a subject that begins with its article or number into a sentence."""
    if background is None:
        return pick(
            (subject, f"a picture of {subject}", f"an image of {subject}", f"a drawing: {subject}"),
            rng,
        ).strip()
    back = with_article(f"{background} background")
    return pick(
        (
            f"{subject} on {back}",
            f"{subject} on {back}",
            f"{subject}, {background} background",
            f"a picture of {subject} on {back}",
            f"{back} with {subject}",
            f"on {back}, {subject}",
        ),
        rng,
    )


def _single(scene: dict, rng: np.random.Generator) -> tuple[str, Facts]:
    item = scene["objects"][0]
    fact = {"shape": item["shape"], "color": item["color"]}
    words = _noun(item, rng)
    if rng.random() < _SAYS_SIZE:
        fact["size"] = item["size"]
        words = f"{pick(_SIZE_WORDS[item['size']], rng)} {words}"
    subject = with_article(words)
    if rng.random() < _SAYS_POSITION:
        fact["position"] = item["position"]
        subject = f"{subject} {_place(item['position'], rng)}"
    return subject, {"objects": [fact]}


def _group(scene: dict, rng: np.random.Generator) -> tuple[str, Facts]:
    items = scene["objects"]
    subject = f"{pick(_COUNT_WORDS[len(items)], rng)} {_plural(_noun(items[0], rng))}"
    fact = {"shape": items[0]["shape"], "color": items[0]["color"]}
    return subject, {"objects": [dict(fact) for _ in items]}


def _relation(scene: dict, rng: np.random.Generator) -> tuple[str, Facts]:
    first, second = scene["objects"]
    relation = scene["relation"]
    if rng.random() < 0.5:
        first, second, relation = second, first, _OPPOSITE[relation]
    one, two = with_article(_noun(first, rng)), with_article(_noun(second, rng))
    facts = {"objects": [{k: item[k] for k in ("shape", "color")} for item in (first, second)]}
    if rng.random() < 0.2:
        return f"{one} and {two}", facts
    facts["relation"] = relation
    return f"{one} {pick(_RELATION_WORDS[relation], rng)} {two}", facts


def describe(attributes: dict, rng: np.random.Generator) -> Prompt:
    """A true sentence about a scene, and what exactly it states."""
    write = {"single": _single, "group": _group, "relation": _relation}[attributes["kind"]]
    subject, facts = write(attributes, rng)
    background = attributes["background"] if rng.random() < _SAYS_BACKGROUND else None
    if background is not None:
        facts["background"] = background
    return Prompt(_frame(subject, background, rng), facts)


def caption(attributes: dict, rng: np.random.Generator) -> str:
    """A true sentence about a scene; different draws word it differently."""
    return describe(attributes, rng).text


def captions(attributes: dict, rng: np.random.Generator, count: int) -> list[str]:
    """`count` different true sentences about a scene."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[caption(attributes, rng)] = None
    return list(found)


def prompts(
    num: int,
    seed: int = 0,
    *,
    heldout: bool = False,
    kinds: tuple[str, ...] = ("single", "group", "relation"),
) -> list[Prompt]:
    """Sentences to generate from, with known answers, spread evenly over pairs and kinds.

    Args:
      num: how many.
      seed: of the wording and the scenes behind it.
      heldout: about (shape, colour) pairs that training never showed together.
      kinds: which kinds of scenes, in turn.
    """
    rng = np.random.default_rng((seed, 7))
    pairs = list(shape_scene.HELDOUT if heldout else shape_scene.TRAIN_PAIRS)
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    result = []
    for i in range(num):
        # A kind is held for a whole round of pairs, so that each meets each.
        kind = kinds[(i // len(order) + i) % len(kinds)]
        scene = shape_scene.random_scene(
            rng, heldout=heldout, kind=kind, pair=order[i % len(order)]
        )
        result.append(describe(scene, rng))
    return result
