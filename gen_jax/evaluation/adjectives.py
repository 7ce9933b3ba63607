"""Whether adjectives move what can be measured of the images, the way they are meant."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from gen_jax.common import pictures
from gen_jax.data.text import art_attributes, art_words
from gen_jax.evaluation import controls, word_probe
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result

_WORST = 4  # adjectives in the picture of those with the lowest accuracy


@dataclasses.dataclass(frozen=True)
class Adjectives(Evaluator):
    """Samples of each adjective against samples of its opposite by the same seeds.

    An adjective is right about a seed if its sample has more of what it means (or less, as it is
    meant) than the opposite's sample. Equal samples count half, so that a model that ignores the
    text scores exactly 0.5.

    The controls (`controls`) generate both sides again: `_shuffled` with adjectives of *other*
    attributes, and their opposites, by the same seeds. Words that mean something else should move
    this attribute up as often as down: about 0.5. More says that whatever stands on the
    adjective's side is drawn differently, for its seeds or its place and not for what it says.
    `_empty` sets samples of the empty prompt against the same opposites: what the opposite does by
    itself. The accuracy minus this one is what the adjective adds.

    Attributes:
      per_word: Number of samples of an adjective.
      batch_size: Number of samples generated at once.
      words: Names of the adjectives; all of the vocabulary if empty.
      paraphrases: Whether words that no training caption had are prompts, too.
      shown: Number of samples of each in the picture.
      probe: Number of training images that probes are fitted to, which judge the samples as well;
        0 for no probes (`word_probe`).
      encoder: Encoder whose features the probes read, "NAME:WEIGHTS"; "" is an untrained network.
      controls: Number of samples of an adjective in each control, at most `per_word`.
    """

    per_word: int = 32
    batch_size: int = 64
    words: tuple[str, ...] = ()
    paraphrases: bool = True
    shown: int = 6
    probe: int = 0
    encoder: str = ""
    controls: int = 4

    def reads(self) -> tuple[Reads, ...]:
        if not self.probe:
            return ()
        return (Reads("train", self.probe), Reads("val", self.probe, is_optional=True))

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `adjective_accuracy/NAME` and their mean `adjective_accuracy`, with the controls
        `adjective_accuracy_shuffled` and `adjective_accuracy_empty`, means of all adjectives;
        `paraphrase_accuracy/NAME` and `paraphrase_accuracy` of words unseen in training;
        `probe_accuracy/NAME` and `probe_accuracy`, the same judged by probes, with controls of the
        same names; `probe_held_out`, the share of held-out images that the probes are right about.
        Pictures `adjectives` and `opposites`, a row for each adjective, and `adjectives_worst`: for
        the adjectives of the lowest accuracy, samples above and their opposites' below.
        """
        known = art_words.load().adjectives
        chosen = [known[name] for name in self.words or known]
        prompts = {a.name: [a.name] * self.per_word for a in chosen}
        opposites = {a.name: [a.opposite] * self.per_word for a in chosen}
        asked = self._samples(predict, data, prompts)
        against = self._samples(predict, data, opposites)
        accuracy = _accuracy(chosen, asked, against)
        metrics = _named("adjective_accuracy", accuracy)
        if self.paraphrases:
            others = {a.name: _cycled(a.paraphrases, self.per_word) for a in chosen}
            unseen = self._samples(predict, data, others)
            metrics |= _named("paraphrase_accuracy", _accuracy(chosen, unseen, against))
        pairs = self._control_pairs(predict, data, chosen, prompts, opposites, against)
        for control, pair in pairs.items():
            metrics[f"adjective_accuracy_{control}"] = _mean(_accuracy(chosen, *pair))
        warnings = ()
        if self.probe:
            probes = word_probe.fit(chosen, predict, data, encoder=self.encoder, count=self.probe)
            warnings = probes.warnings
            if judged := probes.accuracy(predict, _images(asked), _images(against)):
                metrics |= _named("probe_accuracy", judged)
                for control, pair in pairs.items():
                    judged = probes.accuracy(predict, *map(_images, pair))
                    metrics[f"probe_accuracy_{control}"] = _mean(judged)
            if probes.held_out:
                metrics["probe_held_out"] = _mean(probes.held_out)
        notes = {
            name: note
            for name in metrics
            for control, note in controls.NOTES.items()
            if name.endswith(f"_{control}")
        }
        shown = {
            name: self._picture(chosen, samples_of)
            for name, samples_of in (("adjectives", asked), ("opposites", against))
        }
        shown["adjectives_worst"] = self._worst(chosen, accuracy, asked, against)
        return Result(metrics, shown, notes, warnings)

    def _control_pairs(self, predict, data, chosen, prompts, opposites, against):
        """Returns control -> samples on the side of the adjectives and on that of opposites."""
        count = min(self.controls, self.per_word)
        if not count:
            return {}
        labels = np.repeat([(a.attribute, a.name) for a in chosen], self.per_word, axis=0)
        rows = np.flatnonzero(np.arange(len(labels)) % self.per_word < count)
        names = [a.name for a in chosen]

        def again(texts, *which):
            batch = _batch(data, texts)
            images = controls.generate(
                predict, data, batch, labels, rows, self.batch_size, names=which
            )
            return {k: _by_name(names, v, count) for k, v in images.items()}

        words = again(prompts, "shuffled", "empty")
        first = {k: (images[:count], values[:count]) for k, (images, values) in against.items()}
        return {
            "shuffled": (words["shuffled"], again(opposites, "shuffled")["shuffled"]),
            "empty": (words["empty"], first),
        }

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
    """Generates samples of prompts and measures them.

    Args:
      predict: Predictor of a task that generates from seeds and prompts.
      data: Data whose tokenizer reads the prompts.
      prompts: Name -> `per_word` prompts; the seeds of a name's rows depend on its place alone.
      per_word: Number of samples of a name.
      batch_size: Number of samples generated at once.

    Returns:
      Name -> (images, what is measured of them `[per_word, attributes]`).
    """
    batch = _batch(data, prompts)
    images = predict.batched("generate", batch, batch_size)["image"]
    return _by_name(list(prompts), images, per_word)


def _batch(data, prompts):
    """Returns the batch of all prompts, in their order, with a seed by place."""
    texts = [text for name in prompts for text in prompts[name]]
    return {**data.tokenize(texts), "seed": np.arange(len(texts), dtype=np.uint32)}


def _by_name(names, images, count):
    """Returns name -> (its `count` images, what is measured of them)."""
    measured = np.stack([art_attributes.as_vector(art_attributes.measure(i)) for i in images])
    starts = range(0, len(images), count)
    return {
        name: (images[i : i + count], measured[i : i + count])
        for name, i in zip(names, starts, strict=True)
    }


def _images(samples_of):
    return {name: images for name, (images, _) in samples_of.items()}


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


def _named(name, accuracy):
    return {name: _mean(accuracy)} | {f"{name}/{k}": v for k, v in accuracy.items()}


def _mean(accuracy) -> float:
    return float(np.mean(list(accuracy.values())))


def _cycled(words, count):
    return [words[i % len(words)] for i in range(count)]
