"""Controls of text adherence: the same rows generated again under other prompts and under none.

A score such as `prompt_accuracy` is meant to say that the text decides what a sample shows. Each
control generates the first rows of the evaluation once more, with the same seeds at the same
places of the batches, changes the prompt alone, and scores the new samples against the labels of
the *original* prompts.

`*_shuffled`: every row has the prompt of a row with another label. A model that draws what its
prompt says scores at most chance, because it draws something else on purpose: nearly 0 of many
labels, 1 - accuracy of two. A score above chance says that the label arrives by another path than
the text: the seed, the row's index, an image that leaked into the batch. A model that ignores the
text and has no such path is at chance here as it is in the main score.

`*_empty`: every row has the empty prompt. It shows what the model draws without text; the main
score minus this one is what the text adds. A leaked label raises it, and so does a model that
prefers a label that most prompts happen to have, which is why evaluators spread their prompts
evenly over the labels.

Neither control can tell whether the judge is right about what it sees (evaluators measure it on
real images), nor whether the samples are copies of the training images with that caption
(`memorisation`). Scoring the same samples against permuted labels would be no control: whatever
the model does, permuted labels agree with it at chance.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from scipy.optimize import linear_sum_assignment

from gen_jax.evaluation.base import Data, Predictor

NOTES = {
    "shuffled": "same seeds, other prompts: at most chance if only the text carries the label",
    "empty": "same seeds, empty prompts: what the model draws without text",
}
"""Control -> what a reader of the report should know; `Result.notes` of its metrics."""


def other_labels(labels: Shaped[np.ndarray, "n ..."], seed: int = 0) -> Int[np.ndarray, " n"]:
    """Draws a permutation that gives every row the prompt of a row with another label.

    Args:
      labels: Label of each row, or several labels of it along a second axis, which should all
        differ.
      seed: Seed of the choice among such permutations.

    Returns:
      `order`, such that row i takes the prompt of row `order[i]`. Labels that more than half of
      the rows share cannot all change: the permutation then keeps as few of them as possible.
    """
    columns = labels.reshape(len(labels), -1)
    equal = (columns[:, None] == columns).sum(-1)
    # Ties are broken at random, by amounts that in sum are below one label kept.
    noise = np.random.default_rng(seed).random(equal.shape) / (len(labels) + 1)
    return linear_sum_assignment(equal + noise)[1]


def generate(
    predict: Predictor,
    data: Data,
    batch: Mapping[str, np.ndarray],
    labels: Shaped[np.ndarray, "n ..."],
    rows: Int[np.ndarray, " k"],
    batch_size: int,
    names: Sequence[str] = ("shuffled", "empty"),
    seed: int = 0,
) -> dict[str, UInt8[np.ndarray, "k h w c"]]:
    """Generates some rows of a batch again under the prompts of the controls.

    Args:
      predict: Predictor of a task that generates from prompts.
      data: Data whose tokenizer gives the empty prompt.
      batch: The batch that the main score was generated from, `tokens` and `token_mask` among its
        arrays `[n, ...]`. All but these two stay as they are.
      labels: Label of each row of the batch, see `other_labels`.
      rows: Indices of the rows to generate again. If the task draws its noise by the place in a
        batch, not by a `seed` in it, they must be the first ones to have the same noise.
      batch_size: Samples at once, as in the main score.
      names: Controls to generate.
      seed: Seed of the permutation.

    Returns:
      Control -> images of `rows`, to be scored against `labels[rows]`. No controls of no rows.
    """
    if not len(rows):
        return {}
    part = {k: v[rows] for k, v in batch.items()}
    order = other_labels(labels[rows], seed)
    prompts = {
        "shuffled": {k: part[k][order] for k in ("tokens", "token_mask")},
        "empty": data.tokenize([""] * len(rows)),
    }
    # Fewer rows than a batch are filled up: another shape would be compiled again.
    filled = np.arange(max(len(rows), min(batch_size, len(labels)))) % len(rows)
    images = {}
    for name in names:
        given = {k: v[filled] for k, v in {**part, **prompts[name]}.items()}
        images[name] = predict.batched("generate", given, batch_size)["image"][: len(rows)]
    return images
