"""Golden file of the caption metrics: what pycocoevalcap computes.

    python tests/golden/make_captions.py

Needs pycocoevalcap, whose BLEU and CIDEr are pure Python. The captions are drawn here and stored
with the scores, so that words are split alike. Made with pycocoevalcap 1.2.
"""

import json
import pathlib
import random

FILE = pathlib.Path(__file__).with_name("captions.json")

_WORDS = (
    "an engraving depicting of the a man woman horse ship tower river with two three and old dog "
    "riding standing beside under trees harbour church soldier's crown in"
)


def drawn(count: int = 60) -> tuple[list[str], list[list[str]]]:
    """Returns captions and one to three references of each; some agree, one is empty."""
    rng, vocabulary = random.Random(0), _WORDS.split()
    candidates, references = [], []
    for index in range(count):
        lengths = [rng.randint(1, 12) for _ in range(rng.randint(1, 3))]
        several = [" ".join(rng.choices(vocabulary, k=length)) for length in lengths]
        words = rng.choice(several).split()
        for place in range(len(words)):
            if rng.random() < 0.3:
                words[place] = rng.choice(vocabulary)
        candidates.append(" ".join(words[: rng.randint(1, 12)]) if index else "")
        references.append(several)
    return candidates, references


def scores() -> dict:
    """Returns the captions, CIDEr-D of each, and corpus BLEU of 1 to 4."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    candidates, references = drawn()
    given = {i: [text] for i, text in enumerate(candidates)}
    true = dict(enumerate(references))
    bleu, _ = Bleu(4).compute_score(true, given, verbose=0)
    _, cider = Cider().compute_score(true, given)
    return {
        "candidates": candidates,
        "references": references,
        "bleu": [float(value) for value in bleu],
        "cider": [float(value) for value in cider],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(scores(), indent=1) + "\n")
