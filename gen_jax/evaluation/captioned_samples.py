"""Images and captions of seeds: beside a mixture and noise as priors, and whether they agree."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result
from gen_jax.evaluation.captioned_images import captions_of, sheet_scale
from gen_jax.evaluation.judge import features_by
from gen_jax.metrics import captions as caption_metrics
from gen_jax.metrics import interval, kid
from gen_jax.metrics.coherence import WordClassifier, coherence

_BLANK = 4.0  # standard deviation of pixels, of 255, below which an image shows nothing
_RESAMPLES = 200


@dataclasses.dataclass(frozen=True)
class CaptionedSamples(Evaluator):
    """Samples of seeds 0, 1, ..., of a Gaussian mixture over latents and of noise as latents.

    Attributes:
      count: Samples of each prior.
      train: Training images at most: for the mixture, for the classifier of words and, the first
        `count` of them, as the reconstructions that samples are compared with.
      batch_size: Images at once.
      encoder: Encoder of the features, "NAME:WEIGHTS"; "" is an untrained network.
      components: Gaussians of the mixture.
      least: Occurrences that a word must have for the classifier.
      shown: Number of images in each picture.
    """

    count: int = 512
    train: int = 4096
    batch_size: int = 64
    encoder: str = ""
    components: int = 8
    least: int = 20
    shown: int = 24

    def reads(self) -> tuple[Reads, ...]:
        return (Reads("train", self.train),)

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Returns `kid_prior`, `kid_mixture` and `kid_normal`, kernel distances to reconstructions
        with the ends of their intervals, and `kid_prior_minus_mixture` with its own; `coherence`,
        `coherence_shuffled` and `coherence_p_value`; `loop_rate`, `distinct_captions`, `blank` and
        `perplexity`, beside `perplexity_real`. Pictures `samples`, `mixture` and `normal`.
        """
        # Imported where it is used: scikit-learn takes a second.
        from gen_jax.evaluation.latent_mixture import sample_mixture

        known = data.read("train", self.train)
        true = [texts[0] for texts in captions_of(data, "train", known["index"])]
        inputs = {"image": known["image"], **data.tokenize(true)}
        latents = predict.batched("encode", inputs, self.batch_size)["latent"]
        noise = np.random.RandomState(0).standard_normal((self.count, latents.shape[1]))
        drawn = sample_mixture(latents, self.count, components=self.components)
        real = self._decoded(predict, data, latents[: self.count])[0]
        sets = {
            "prior": self._generated(predict, data),
            "mixture": self._decoded(predict, data, drawn),
            "normal": self._decoded(predict, data, noise.astype(np.float32)),
        }
        target = features_by(self.encoder, predict, real)
        rows = {k: features_by(self.encoder, predict, images) for k, (images, _) in sets.items()}
        metrics = self._distances(rows, target)
        images, captions = sets["prior"]
        metrics |= self._captions(captions, true)
        classifier = WordClassifier(
            features_by(self.encoder, predict, known["image"]), true, self.least
        )
        if classifier.words:
            agreement = coherence(classifier, rows["prior"], captions)
            metrics |= {
                "coherence": agreement.value,
                "coherence_shuffled": agreement.shuffled,
                "coherence_p_value": agreement.p_value,
            }
        metrics["blank"] = float((images.std((1, 2, 3)) < _BLANK).mean())
        names = {"prior": "samples"}
        sheets = {names.get(k, k): self._sheet(*pair) for k, pair in sets.items()}
        return Result(metrics, sheets)

    def _generated(self, predict, data):
        seeds = np.arange(self.count, dtype=np.uint32)
        inputs = {"seed": seeds, **data.tokenize([""] * self.count)}
        out = predict.batched("generate", inputs, self.batch_size)
        return out["image"], data.detokenize(out["caption"])

    def _decoded(self, predict, data, latents):
        seeds = np.arange(len(latents), dtype=np.uint32)
        out = predict.batched("decode", {"latent": latents, "seed": seeds}, self.batch_size)
        return out["image"], data.detokenize(out["caption"])

    @staticmethod
    def _distances(rows, target) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, features in rows.items():
            metrics |= kid.kernel_distance(features, target).named(f"kid_{name}")
        difference = interval.bootstrap(
            lambda prior, mixture, real: kid.mmd2(prior, real) - kid.mmd2(mixture, real),
            rows["prior"],
            rows["mixture"],
            target,
            num_resamples=_RESAMPLES,
        )
        return metrics | difference.named("kid_prior_minus_mixture")

    @staticmethod
    def _captions(captions, true) -> dict[str, float]:
        half = len(true) // 2
        model = caption_metrics.TrigramModel(true[:half])
        return {
            "loop_rate": float(np.mean([caption_metrics.has_loop(text) for text in captions])),
            "distinct_captions": len(set(captions)) / len(captions),
            "perplexity": model.perplexity(captions),
            "perplexity_real": model.perplexity(true[half:]),
        }

    def _sheet(self, images, captions):
        images, captions = images[: self.shown], captions[: self.shown]
        return pictures.grid(images, captions, columns=6, scale=sheet_scale(images))
