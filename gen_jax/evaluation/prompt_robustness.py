"""What is left of the adjectives when prompts are not as in training: misspelt, long, negated."""

import dataclasses
from collections.abc import Callable

import numpy as np

from gen_jax.data.text import art_words
from gen_jax.evaluation.adjectives import moved, samples
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Result


def _misspelt(word: str) -> str:
    """Two letters inside the word exchanged: "drak"."""
    return word[0] + word[2] + word[1] + word[3:]


WORDINGS: dict[str, Callable[[str, str], str]] = {
    "misspelt": lambda word, opposite: _misspelt(word),
    "capitals": lambda word, opposite: f"{word.upper()}!",
    "unknown": lambda word, opposite: f"{word}, zorblish, quintal",
    "long": lambda word, opposite: (
        f"a {word} picture that somebody whose name nobody remembers made in a year that nobody "
        "wrote down, for a house that is no longer there"
    ),
    "buried": lambda word, opposite: (
        "for a house that is no longer there somebody whose name nobody remembers once made a "
        f"{word} picture"
    ),
    "negated": lambda word, opposite: f"not {opposite}",
    "both": lambda word, opposite: f"{word} and {opposite}",
}
"""Name -> a prompt of a word and its opposite that means the word ("both" means neither)."""


@dataclasses.dataclass(frozen=True)
class PromptRobustness(Evaluator):
    """`Adjectives` in other wordings, against plain opposites by the same seeds.

    Attributes:
      per_word: samples of an adjective in each wording.
      batch_size: samples at once.
      words: names of the adjectives.
    """

    per_word: int = 8
    batch_size: int = 64
    words: tuple[str, ...] = ("dark", "bright", "muted", "vivid", "cold", "warm", "smooth", "busy")

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `wording_accuracy/NAME` for each of `WORDINGS`, and `wording_accuracy/plain`;
        "negated" is right where "not bright" is darker than "bright"; "both" is to be a half.
        """
        known = art_words.load().adjectives
        chosen = [known[name] for name in self.words]
        how = (self.per_word, self.batch_size)
        against = samples(
            predict, data, {a.name: [a.opposite] * self.per_word for a in chosen}, *how
        )
        metrics = {}
        for name, say in {"plain": lambda word, opposite: word, **WORDINGS}.items():
            prompts = {a.name: [say(a.name, a.opposite)] * self.per_word for a in chosen}
            found = samples(predict, data, prompts, *how)
            each = [moved(a, found[a.name][1], against[a.name][1]) for a in chosen]
            metrics[f"wording_accuracy/{name}"] = float(np.mean(each))
        return Result(metrics)
