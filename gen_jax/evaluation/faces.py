"""What a generator without prompts draws, by seeds: a sheet, and how it is spread beside real."""

import dataclasses

import numpy as np

from gen_jax.common import pictures
from gen_jax.encoders.face_detector import FaceDetector, enlarged
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Reads, Result, SplitData
from gen_jax.evaluation.face_attributes import attribute_accuracy
from gen_jax.evaluation.judge import features_by
from gen_jax.evaluation.untrained import suffix
from gen_jax.metrics import frechet, kid
from gen_jax.metrics.prdc import prdc

_NEAREST = 5
_AT_ONCE = 128  # pictures that the detector sees


@dataclasses.dataclass(frozen=True)
class Faces(Evaluator):
    """Samples of seeds 0, 1, ... against held-out images.

    Attributes:
      split: the split to compare with.
      count: real images at most, and samples.
      batch_size: samples at once.
      encoder: "NAME[:WEIGHTS]" of the tower that distances are taken in: another one than that of
        the loss; "" is an untrained network, whose numbers compare within a data set alone.
      detector: MTCNN's weights, see `face_detector.FaceDetector`; "" looks for no faces.
      shown: samples in the picture.
      per_value: Number of samples of each value of an attribute that prompts name, 0 for none; see
        `face_attributes`.
      controls: Number of samples of each value in each control of the prompts (`controls`).
    """

    split: str = "val"
    count: int = 512
    batch_size: int = 64
    encoder: str = ""
    detector: str = ""
    shown: int = 64
    per_value: int = 0
    controls: int = 32

    def reads(self) -> tuple[Reads, ...]:
        attributes = (Reads("train", self.count),) if self.per_value else ()
        return (Reads(self.split, self.count), *attributes)

    def encoders(self) -> tuple[str, ...]:
        return (self.encoder,)

    def check(self, data: SplitData) -> None:
        if self.detector:
            FaceDetector(self.detector)  # three small networks, read for their errors

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics `fd`, `kid`, `precision`, `recall` (their names end in `_untrained` if no encoder
        is named) and `diversity`; picture `samples`.

        With a detector, the share of samples and of real images that a face is found in
        (`detection_rate`, `detection_rate_real`), and of samples whose five points all lie where
        real ones do (`anatomy`). With `per_value` those of `face_attributes.attribute_accuracy`,
        and `detection_rate_asked`, the share of its samples with a face; the others are of samples
        without a text.
        """
        real = data.read(self.split, self.count)["image"]
        seeds = np.arange(self.count, dtype=np.uint32)
        made = predict.batched("generate", {"seed": seeds}, self.batch_size)["image"]
        picture = {"samples": pictures.grid(made[: self.shown], columns=8)}
        if len(real) <= _NEAREST or len(made) <= _NEAREST:
            return Result({}, picture)
        a, b = (features_by(self.encoder, predict, v) for v in (real, made))
        spread = prdc(a, b, _NEAREST)
        features = suffix(self.encoder)
        metrics = {
            f"fd{features}": float(frechet.frechet(a, b)),
            f"kid{features}": float(kid.kernel_distance(a, b).value),
            f"precision{features}": spread.precision,
            f"recall{features}": spread.recall,
            # Of pixels, 1 where samples differ as much from each other as real images do.
            "diversity": _deviation(made) / max(_deviation(real), 1e-6),
        }
        notes, prompts = {}, {}
        detector = FaceDetector(self.detector) if self.detector else None
        if detector:
            metrics |= _anatomy(detector, real, made)
        if self.per_value:
            asked, samples = attribute_accuracy(
                predict,
                data,
                self.split,
                self.per_value,
                self.batch_size,
                controls_per_value=self.controls,
            )
            metrics, picture = metrics | asked.metrics, picture | asked.pictures
            notes, prompts = asked.notes, asked.prompts
            if detector and len(samples):
                metrics["detection_rate_asked"] = len(_points(detector, samples)) / len(samples)
        return Result(metrics, picture, notes, prompts=prompts)


def _deviation(images: np.ndarray) -> float:
    return float(images.astype(np.float32).std(0).mean())


def _anatomy(detector: FaceDetector, real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    known, found = (_points(detector, v) for v in (real, made))
    rates = {
        "detection_rate": len(found) / len(made),
        "detection_rate_real": len(known) / len(real),
    }
    if len(known) < _NEAREST:
        return rates
    # The outermost hundredth may be mistakes of the detector; the rest leaves a little room.
    low, high = np.quantile(known, [0.005, 0.995], axis=0)
    room = 0.1 * (high - low)
    inside = ((found >= low - room) & (found <= high + room)).all((1, 2))
    return {**rates, "anatomy": float(inside.sum()) / len(made)}


def _points(detector: FaceDetector, images: np.ndarray) -> np.ndarray:
    """Five points of the first face of each picture that has one, in sides, [n, 5, 2]."""
    found = []
    for start in range(0, len(images), _AT_ONCE):
        part = enlarged(images[start : start + _AT_ONCE])
        found += [faces[0].points / part.shape[1] for faces in detector(part) if faces]
    return np.array(found, np.float32).reshape(-1, 5, 2)
