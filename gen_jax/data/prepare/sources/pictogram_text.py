"""Captions of pictogram scenes, and what exactly they state.

Facts, what a caption states, are a dict: "subject" always, "color" (None for the pictogram's own
colors) always, "background" only if the caption states it.
"""

from typing import Any, NamedTuple

import numpy as np

from gen_jax.data.prepare.sources.pictogram_scene import PLURAL, Scene
from gen_jax.data.text.phrases import pick, with_article

Facts = dict[str, Any]

_SAYS_BACKGROUND = 0.9  # probability that a caption states the background


class Prompt(NamedTuple):
    """A caption and all that it states, nothing more."""

    text: str
    facts: Facts


def describe(scene: Scene, rng: np.random.Generator) -> Prompt:
    """Returns a true caption of a scene and what exactly it states."""
    facts: Facts = {"subject": scene["subject"], "color": scene["color"]}
    words = scene["subject"] if scene["color"] is None else f"{scene['color']} {scene['subject']}"
    text = words if scene["subject"] in PLURAL else with_article(words)
    if rng.random() < _SAYS_BACKGROUND:
        facts["background"] = scene["background"]
        background = f"{scene['background']} background"
        frames = (f"{text} on {with_article(background)}", f"{text}, {background}")
        text = pick((frames[0], frames[0], frames[1]), rng)
    return Prompt(text, facts)


def captions(scene: Scene, rng: np.random.Generator, count: int) -> list[str]:
    """Returns `count` true captions of a scene; some may be equal."""
    return [describe(scene, rng).text for _ in range(count)]
