"""Which places of a picture look at which of its words?"""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.data.text import art_attributes, art_words
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, held_out

_WORDS = 3  # of a prompt
_DARKEST = 0.15  # where nothing is looked at


@dataclasses.dataclass(frozen=True)
class WordAttention(Evaluator):
    """Samples of held-out pictures' words, with a map of the attention to each word.

    Attributes:
      split: whose pictures are measured for prompts.
      count: samples.
    """

    split: str = "val"
    count: int = 8

    def reads(self) -> tuple[Reads, ...]:
        return (Reads(self.split, self.count, is_optional=True),)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metric `attention_on_words`, the share of the attention that goes to words, not to
        commas and marks of the text's ends; picture `word_attention`: each sample, and it again as
        bright as each word is looked at, the brightest place of each map alike.
        """
        batch, warnings = held_out(data, self.split, self.count)
        measured = [art_words.suggest(art_attributes.measure(image)) for image in batch["image"]]
        prompts = [list(words)[:_WORDS] for words in measured if len(words) >= _WORDS]
        if not prompts:
            return Result({}, warnings=warnings)
        texts = [", ".join(words) for words in prompts]
        seeds = np.arange(len(texts), dtype=np.uint32)
        found = predict("look", {**data.tokenize(texts), "seed": seeds})
        cells, labels, shares = [], [], []
        samples = zip(prompts, texts, found["image"], found["attention"], strict=True)
        for words, text, image, maps in samples:
            cells.append(image)
            labels.append(text)
            spans = _spans(data, words)
            shares.append(sum(maps[..., a:b].sum(-1).mean() for a, b in spans))
            for word, (start, end) in zip(words, spans):
                looked = maps[..., start:end].sum(-1)
                cells.append(_lit(image, looked))
                labels.append(f"{word} {looked.mean():.2f}")
        sheet = pictures.grid(cells, labels, columns=_WORDS + 1)
        metrics = {"attention_on_words": float(np.mean(shares))}
        by_picture = {"word_attention": texts}
        return Result(metrics, {"word_attention": sheet}, warnings=warnings, prompts=by_picture)


def _spans(data: Data, words: list[str]) -> list[tuple[int, int]]:
    """First token of each word of a prompt, and the one behind its last."""
    before = [", ".join(words[:i]) + "," * bool(i) for i in range(len(words))]
    through = [", ".join(words[: i + 1]) for i in range(len(words))]
    counts = data.tokenize([*before, *through])["token_mask"].sum(1) - 1  # without the end's mark
    return list(zip(counts[: len(words)].tolist(), counts[len(words) :].tolist(), strict=True))


def _lit(image: np.ndarray, looked: np.ndarray) -> np.ndarray:
    """The image, as bright as it is looked at."""
    side = image.shape[0] // looked.shape[0], image.shape[1] // looked.shape[1]
    weight = looked / max(looked.max(), 1e-9)
    weight = weight.repeat(side[0], 0).repeat(side[1], 1)[..., None]
    return (image * (_DARKEST + (1 - _DARKEST) * weight)).astype(np.uint8)
