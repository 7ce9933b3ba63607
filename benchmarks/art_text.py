"""What a frozen text tower makes of adjectives: neighbours, norms, and what truncation costs.

    python -m benchmarks.art_text --encoder=all-MiniLM-L6-v2 --weights=minilm/model.safetensors

A word's vector is the mean of its tokens' last states, as FiLM gets it. "group" is how many of the
paraphrases in gen_jax/data/text/art_vocabulary.json, which no caption of training has, are nearest
to a word of their own adjective; "side", how many are nearer to the mean of their adjective's words
than to that of its opposite's, which is what an attribute is measured by.
"""

import argparse
import pathlib

import numpy as np

from benchmarks import contest
from gen_jax.data.text import art_words

LENGTHS = (6, 8, 12, 16, 24)  # tokens


class Tower:
    """A frozen tower with its tokenizer: texts to vectors."""

    def __init__(self, name: str, weights: str):
        import jax

        from gen_jax import encoders
        from gen_jax.encoders import text_tokenizer

        self._tower, self._params = encoders.load(name, weights)[:2]
        kind = text_tokenizer.kind_of(self._tower)
        self._tokenizer = kind.find(pathlib.Path(weights).parent)
        self._run = jax.jit(self._states)

    def _states(self, params, ids, mask):
        return self._tower.apply({"params": params}, ids, mask)["hidden_states"][-1]

    def states(self, texts: list[str], length: int = 24) -> tuple[np.ndarray, np.ndarray]:
        """States `[n, length, d]` and which tokens count."""
        found = self._tokenizer.encode(texts, length)
        return np.asarray(self._run(self._params, found.ids, found.mask)), found.mask

    def vectors(self, texts: list[str], length: int = 24) -> np.ndarray:
        """Means over tokens `[n, d]`."""
        states, mask = self.states(texts, length)
        weight = mask[..., None].astype(np.float32)
        return (states * weight).sum(1) / weight.sum(1)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def neighbours(vectors) -> dict[str, float]:
    """Shares of paraphrases that lie where they should."""
    known = art_words.load().adjectives
    words = [(w, a) for a in known.values() for w in a.words]
    table = unit(vectors([w for w, _ in words]))
    owner = np.array([a.name for _, a in words])
    centre = {name: unit(table[owner == name].mean(0)[None])[0] for name in known}
    unseen = [(w, a) for a in known.values() for w in a.paraphrases]
    rows = unit(vectors([w for w, _ in unseen]))
    group = [owner[(table @ row).argmax()] == a.name for row, (_, a) in zip(rows, unseen)]
    side = [row @ centre[a.name] > row @ centre[a.opposite] for row, (_, a) in zip(rows, unseen)]
    wrong = [w for (w, _), right in zip(unseen, side) if not right]
    return {"group": float(np.mean(group)), "side": float(np.mean(side)), "wrong side": wrong}


def main() -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="name of a BERT tower")
    parser.add_argument("--weights", required=True, help="its .safetensors, vocab.txt beside it")
    parser.add_argument("--captions", type=int, default=1000, help="captions to measure")
    parser.add_argument("--out", help="a JSON file for all numbers")
    args = parser.parse_args()
    tower = Tower(args.encoder, args.weights)
    found = neighbours(tower.vectors)
    print(f"paraphrases: nearest word is of their adjective {found['group']:.2f}, "
          f"on their side of the opposite {found['side']:.2f}")  # fmt: skip
    print(f"on the wrong side: {', '.join(found['wrong side']) or 'none'}")
    rng = np.random.default_rng(0)
    every = art_words.vocabulary()
    captions = [every[i] for i in rng.choice(len(every), min(args.captions, len(every)), False)]
    states, mask = tower.states(captions)
    norms = np.linalg.norm(states, axis=-1)[mask]
    means = np.linalg.norm(tower.vectors(captions), axis=-1)
    found["token norm"] = [float(norms.mean()), float(norms.std())]
    found["mean norm"] = [float(means.mean()), float(means.std())]
    print(f"norms: of a token {norms.mean():.2f} ± {norms.std():.2f}, "
          f"of a text's mean {means.mean():.2f} ± {means.std():.2f}")  # fmt: skip
    whole = unit(tower.vectors(captions, 64))
    _, long = tower.states(captions, 64)
    print("tokens kept   captions cut   cosine to the whole text's mean")
    for length in LENGTHS:
        cosine = (unit(tower.vectors(captions, length)) * whole).sum(-1)
        cut = float((long.sum(1) > length).mean())
        found[f"cut at {length}"] = [cut, float(cosine.mean()), float(cosine.min())]
        print(f"{length:>11}{cut:>15.2f}   {cosine.mean():.3f}, least {cosine.min():.3f}")
    contest.write(args, **found)


if __name__ == "__main__":
    main()
