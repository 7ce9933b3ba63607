"""Do adjectives move what can be measured of the pictures, the way they are meant?"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from gen_jax.common import pictures
from gen_jax.data import art_attributes, art_words
from gen_jax.evaluation import word_probe
from gen_jax.evaluation.base import Data, Predictor, Result

_ORDERS = 100  # of exchanged prompts
_WORST = 4  # adjectives in the picture of those that are heard least


@dataclasses.dataclass(frozen=True)
class Adjectives:
    """Samples of each adjective against samples of its opposite by the same seeds.

    An adjective is right about a seed where its sample has more of what it means (or less, as it
    is meant) than the opposite's sample. A model that hears nothing is right half the time.

    Attributes:
      per_word: samples of an adjective.
      batch_size: samples at once.
      words: names of the adjectives; all of the vocabulary where empty.
      paraphrases: whether words that no caption of training had are asked, too.
      shown: samples of each in the picture.
      probe: training pictures that probes are fitted to, which judge the samples besides; 0 for
        no probes (`word_probe`).
      encoder: whose features the probes read, "NAME:WEIGHTS"; "" is an untrained network.
    """

    per_word: int = 32
    batch_size: int = 64
    words: tuple[str, ...] = ()
    paraphrases: bool = True
    shown: int = 6
    probe: int = 0
    encoder: str = ""

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `adjective_accuracy/NAME` and their mean `adjective_accuracy`;
        `paraphrase_accuracy/NAME` and `paraphrase_accuracy` of words unseen in training;
        `adjective_accuracy_shuffled`, the mean with prompts exchanged among all samples;
        `probe_accuracy/NAME` and `probe_accuracy`, the same by probes, which are right about
        `probe_held_out` of held-out pictures; pictures
        `adjectives` and `opposites`, a row for each adjective, and `adjectives_worst`: for the
        adjectives that are heard least, samples above and their opposites' below.
        """
        known = art_words.load().adjectives
        chosen = [known[name] for name in self.words or known]
        prompts = {a.name: [a.name] * self.per_word for a in chosen}
        asked = self._samples(predict, data, prompts)
        against = self._samples(
            predict, data, {a.name: [a.opposite] * self.per_word for a in chosen}
        )
        accuracy = _accuracy(chosen, asked, against)
        metrics = _named("adjective_accuracy", accuracy)
        metrics["adjective_accuracy_shuffled"] = _shuffled(chosen, asked, against)
        if self.paraphrases:
            others = {a.name: _cycled(a.paraphrases, self.per_word) for a in chosen}
            unseen = self._samples(predict, data, others)
            metrics |= _named("paraphrase_accuracy", _accuracy(chosen, unseen, against))
        warnings = ()
        if self.probe:
            probes = word_probe.fit(chosen, predict, data, encoder=self.encoder, count=self.probe)
            both = ({k: v[0] for k, v in found.items()} for found in (asked, against))
            warnings = probes.warnings
            if judged := probes.accuracy(predict, *both):
                metrics |= _named("probe_accuracy", judged)
            if probes.held_out:
                metrics["probe_held_out"] = float(np.mean(list(probes.held_out.values())))
        shown = {
            name: self._picture(chosen, found)
            for name, found in (("adjectives", asked), ("opposites", against))
        }
        shown["adjectives_worst"] = self._worst(chosen, accuracy, asked, against)
        return Result(metrics, shown, warnings=warnings)

    def _worst(self, chosen, accuracy, asked, against):
        shown, rows, labels = min(self.shown, self.per_word), [], []
        for adjective in sorted(chosen, key=lambda a: accuracy[a.name])[:_WORST]:
            for found, name in ((asked, adjective.name), (against, adjective.opposite)):
                rows.append(found[adjective.name][0][:shown])
                labels += [f"{name} {accuracy[adjective.name]:.2f}", *[""] * (shown - 1)]
        return pictures.grid(np.concatenate(rows), labels, columns=shown)

    def _samples(self, predict, data, prompts):
        return samples(predict, data, prompts, self.per_word, self.batch_size)

    def _picture(self, chosen, found):
        shown = min(self.shown, self.per_word)
        rows = np.concatenate([found[a.name][0][:shown] for a in chosen])
        return pictures.grid(
            rows, [a.name if not i else "" for a in chosen for i in range(shown)], columns=shown
        )


def samples(
    predict: Predictor,
    data: Data,
    prompts: Mapping[str, Sequence[str]],
    per_word: int,
    batch_size: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Samples of prompts.

    Args:
      predict: of a task that makes pictures of seeds and texts.
      data: whose tokenizer reads them.
      prompts: name -> `per_word` prompts; the seeds of a name's rows depend on its place alone.
      per_word: see there.
      batch_size: samples at once.

    Returns:
      Name -> (images, what is measured of them `[per_word, attributes]`).
    """
    texts = [text for name in prompts for text in prompts[name]]
    batch = {**data.tokenize(texts), "seed": np.arange(len(texts), dtype=np.uint32)}
    images = predict.batched("generate", batch, batch_size)["image"]
    measured = np.stack([art_attributes.as_vector(art_attributes.measure(i)) for i in images])
    parts = range(0, len(texts), per_word)
    return {
        name: (images[i : i + per_word], measured[i : i + per_word])
        for name, i in zip(prompts, parts, strict=True)
    }


def moved(adjective: art_words.Adjective, measured: np.ndarray, others: np.ndarray) -> float:
    """Share of the rows that have more of what is meant than the others; as many are a half, and
    so is a pair of which one is too flat to be measured (NaN).
    """
    column = art_attributes.NAMES.index(adjective.attribute)
    difference = adjective.sign * (measured[:, column] - others[:, column])
    neither = (difference == 0) | np.isnan(difference)
    return float(np.mean((difference > 0) + 0.5 * neither))


def _accuracy(chosen, asked, against):
    return {a.name: moved(a, asked[a.name][1], against[a.name][1]) for a in chosen}


def _shuffled(chosen, asked, against):
    """The mean accuracy with the samples of all prompts exchanged, over many orders."""
    pool = np.concatenate([found[a.name][1] for found in (asked, against) for a in chosen])
    rng, half, count = np.random.default_rng(0), len(pool) // 2, len(asked[chosen[0].name][1])
    found = []
    for _ in range(_ORDERS):
        mixed = pool[rng.permutation(len(pool))]
        for place, adjective in enumerate(chosen):
            rows = slice(place * count, (place + 1) * count)
            found.append(moved(adjective, mixed[:half][rows], mixed[half:][rows]))
    return float(np.mean(found))


def _named(name, accuracy):
    mean = {name: float(np.mean(list(accuracy.values())))}
    return mean | {f"{name}/{k}": v for k, v in accuracy.items()}


def _cycled(words, count):
    return [words[i % len(words)] for i in range(count)]
