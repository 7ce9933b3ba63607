"""Metrics of generated captions against references: BLEU and CIDEr-D, on words.

Both follow the definitions of the COCO caption evaluation (arXiv:1504.00325). Words are runs of
letters, digits and apostrophes in lower case; COCO's own tokenizer needs Java.
"""

import collections
import math
import re
from collections.abc import Sequence

import numpy as np

_MAX_N = 4
_SIGMA = 6.0  # of CIDEr-D's penalty on the difference of lengths, in words
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

NGrams = collections.Counter


def words(caption: str) -> list[str]:
    """Returns the words of a caption in lower case."""
    return _WORDS.findall(caption.lower())


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> float:
    """Returns corpus BLEU (Papineni et al., ACL 2002) with the closest reference length.

    Args:
      candidates: Generated captions.
      references: Reference captions of each.
      n: Longest n-gram.

    Returns:
      0 to 1; 0 if an n-gram order has no match at all.
    """
    matches, totals = np.zeros(n), np.zeros(n)
    length, reference_length = 0, 0
    for candidate, several in zip(candidates, references, strict=True):
        tokens, others = words(candidate), [words(text) for text in several]
        length += len(tokens)
        reference_length += min((len(o) for o in others), key=lambda m: (abs(m - len(tokens)), m))
        for order in range(1, n + 1):
            counts = _ngrams_of_order(tokens, order)
            largest: NGrams = collections.Counter()
            for other in others:
                largest |= _ngrams_of_order(other, order)
            matches[order - 1] += sum((counts & largest).values())
            totals[order - 1] += sum(counts.values())
    if not matches.all():
        return 0.0
    brevity = min(1.0, math.exp(1.0 - reference_length / length))
    return brevity * math.exp(np.mean(np.log(matches / totals)))


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns CIDEr-D (arXiv:1411.5726) of each caption, 0 to 10; the corpus score is its mean.

    Documents for the inverse document frequencies are the images, by their references.

    Args:
      candidates: Generated captions.
      references: Reference captions of each.
    """
    several = [[_ngrams(words(text)) for text in texts] for texts in references]
    frequency: NGrams = collections.Counter(
        ngram for texts in several for ngram in {n for counts in texts for n in counts}
    )
    log_images = math.log(max(len(references), 1))
    scores = []
    for candidate, texts in zip(candidates, several, strict=True):
        vector = _tf_idf(_ngrams(words(candidate)), frequency, log_images)
        others = [_tf_idf(counts, frequency, log_images) for counts in texts]
        scores.append(np.mean([_similarity(vector, other) for other in others], axis=0).mean())
    return 10.0 * np.asarray(scores)


def _ngrams_of_order(tokens: Sequence[str], n: int) -> NGrams:
    return collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _ngrams(tokens: Sequence[str]) -> NGrams:
    return sum((_ngrams_of_order(tokens, n) for n in range(1, _MAX_N + 1)), collections.Counter())


def _tf_idf(counts: NGrams, frequency: NGrams, log_images: float):
    """Returns vectors by order, their norms, and the length in words."""
    vectors: list[dict] = [{} for _ in range(_MAX_N)]
    for ngram, count in counts.items():
        weight = log_images - math.log(max(1.0, frequency[ngram]))
        vectors[len(ngram) - 1][ngram] = count * weight
    norms = [math.sqrt(sum(v * v for v in vector.values())) for vector in vectors]
    # As COCO's code: the number of bigrams stands for the length.
    length = sum(count for ngram, count in counts.items() if len(ngram) == 2)
    return vectors, norms, length


def _similarity(candidate, reference) -> np.ndarray:
    """Returns the clipped cosine of each order, with the penalty on lengths."""
    (vectors, norms, length), (others, other_norms, other_length) = candidate, reference
    penalty = math.exp(-((length - other_length) ** 2) / (2.0 * _SIGMA**2))
    values = np.zeros(_MAX_N)
    for order in range(_MAX_N):
        both = sum(
            min(value, others[order].get(ngram, 0.0)) * others[order].get(ngram, 0.0)
            for ngram, value in vectors[order].items()
        )
        if norms[order] and other_norms[order]:
            both /= norms[order] * other_norms[order]
        values[order] = both * penalty
    return values


STOP_WORDS = frozenset(
    """
    a an and as at by for from in into is it its of on or s that the their to with
    """.split()  # noqa: SIM905
)
"""Words that say nothing of an image."""


def exact_words(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Returns the share of the references' words, without stop words, that captions name exactly.

    Each caption counts alike; a reference without any such word is left out.
    """
    shares = []
    for candidate, several in zip(candidates, references, strict=True):
        wanted = {word for text in several for word in words(text)} - STOP_WORDS
        if wanted:
            shares.append(len(wanted & set(words(candidate))) / len(wanted))
    return float(np.mean(shares)) if shares else 0.0


def has_loop(caption: str) -> bool:
    """Returns whether three words in a row occur twice."""
    said = words(caption)
    triples = list(zip(said, said[1:], said[2:]))
    return len(set(triples)) < len(triples)


class TrigramModel:
    """A word trigram model with interpolated absolute discounting (Ney et al., 1994).

    It says how much captions read like those that it was made from.

    Args:
      captions: Captions that the words are counted in.
    """

    _DISCOUNT = 0.75

    def __init__(self, captions: Sequence[str]):
        self._counts = [collections.Counter() for _ in range(3)]
        self._contexts = [collections.Counter() for _ in range(3)]
        self._kinds = [collections.Counter() for _ in range(3)]
        for caption in captions:
            sequence = self._padded(caption)
            for end in range(2, len(sequence)):
                for n in range(3):
                    gram = tuple(sequence[end - n : end + 1])
                    self._kinds[n][gram[:-1]] += gram not in self._counts[n]
                    self._counts[n][gram] += 1
                    self._contexts[n][gram[:-1]] += 1
        # One more for all words that were never seen.
        self._vocabulary = len(self._counts[0]) + 1

    def perplexity(self, captions: Sequence[str]) -> float:
        """Returns the perplexity per word, the end of each caption among the words."""
        logs = [
            math.log(self._probability(tuple(sequence[end - 2 : end + 1])))
            for sequence in map(self._padded, captions)
            for end in range(2, len(sequence))
        ]
        return math.exp(-sum(logs) / max(1, len(logs)))

    @staticmethod
    def _padded(caption: str) -> list[str]:
        return ["<s>", "<s>", *words(caption), "</s>"]

    def _probability(self, gram: tuple[str, ...]) -> float:
        n = len(gram) - 1
        lower = self._probability(gram[1:]) if n else 1.0 / self._vocabulary
        total = self._contexts[n][gram[:-1]]
        if not total:
            return lower
        kept = max(0.0, self._counts[n][gram] - self._DISCOUNT) / total
        return kept + self._DISCOUNT * self._kinds[n][gram[:-1]] / total * lower
