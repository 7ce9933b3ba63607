"""Coherence of captions and images whose agreement is known."""

import numpy as np

from gen_jax.metrics.coherence import WordClassifier, coherence

WORDS = [f"word{i}" for i in range(20)]


def pairs(count, seed):
    rng = np.random.default_rng(seed)
    which = np.array([rng.choice(20, 2, replace=False) for _ in range(count)])
    features = rng.normal(size=(count, 30)) * 0.3
    for column in which.T:
        features[np.arange(count), column] += 1.0
    return features, [f"The {WORDS[a]} of {WORDS[b]}" for a, b in which]


def test_captions_of_their_own_images_agree_and_others_do_not():
    classifier = WordClassifier(*pairs(600, 0), least=5)
    assert sorted(classifier.words) == sorted(WORDS)  # without stop words
    features, captions = pairs(200, 1)
    own = coherence(classifier, features, captions)
    assert own.value > 0.9 and own.p_value < 0.001 and own.pairs == 200
    # Of 20 words, two are named for each image.
    assert 0.05 < own.shuffled < 0.15
    rolled = coherence(classifier, features, captions[1:] + captions[:1])
    assert rolled.value < 0.2 and rolled.p_value > 0.01


def test_rare_and_unknown_words_are_left_out():
    features, captions = pairs(100, 2)
    classifier = WordClassifier(features, captions, least=1000)
    assert classifier.words == []
    classifier = WordClassifier(features, captions, least=2)
    assert coherence(classifier, features, ["nothing known"] * 100).pairs == 0
