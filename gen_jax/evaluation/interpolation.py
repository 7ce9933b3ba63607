"""How smoothly a generator's pictures change on the way from one seed to another."""

import dataclasses

import numpy as np

from gen_jax.common import pictures, pixels
from gen_jax.encoders.face_detector import FaceDetector, enlarged
from gen_jax.encoders.image_distance import open_distance
from gen_jax.evaluation.base import Data, Evaluator, Predictor, Result, SplitData
from gen_jax.evaluation.untrained import random_features
from gen_jax.pipelines.interpolation import slerp, walk

_SHOWN = 8  # frames of a way in the picture
_STEP = 0.01  # of the way


@dataclasses.dataclass(frozen=True)
class Interpolation(Evaluator):
    """Great circles between the latents of seeds 0 and 1, 2 and 3, ...; noise stays as it is.

    Attributes:
      pairs: ways.
      samples: of the perceptual path length, 0 for none.
      frames: pictures along each, its ends among them.
      batch_size: pictures at once.
      distance: "NAME:WEIGHTS" of LPIPS; "" takes the features of an untrained network, whose
        numbers compare with their own alone.
      detector: MTCNN's weights, or "" to look for no faces.
    """

    pairs: int = 8
    samples: int = 0
    frames: int = 32
    batch_size: int = 64
    distance: str = ""
    detector: str = ""

    def encoders(self) -> tuple[str, ...]:
        return (self.distance,)

    def check(self, data: SplitData) -> None:
        if self.detector:
            FaceDetector(self.detector)  # three small networks, read for their errors

    def __call__(self, predict: Predictor, data: Data) -> Result:
        """Metrics, means over ways: `path_length`, the sum of a way's steps; `largest_step`, its
        largest step over their mean, and `largest_step_worst`, the worst of all ways. With a
        detector `path_detection_rate`, the share of frames with a face; with `samples` the
        `perceptual_path_length` (arXiv 1812.04948, section 4.1, between latents). Picture `paths`.
        """
        frames = self._draw(predict)
        flat = frames.reshape(-1, *frames.shape[2:])
        steps = self._steps(frames)
        share = steps.max(1) / np.maximum(steps.mean(1), 1e-12)
        metrics = {
            "path_length": float(steps.sum(1).mean()),
            "largest_step": float(share.mean()),
            "largest_step_worst": float(share.max()),
        }
        if self.samples:
            metrics["perceptual_path_length"] = self._perceptual_path_length(predict)
        if self.detector:
            detector, found = FaceDetector(self.detector), 0
            for start in range(0, len(flat), self.batch_size):
                found += sum(map(bool, detector(enlarged(flat[start : start + self.batch_size]))))
            metrics["path_detection_rate"] = found / len(flat)
        chosen = np.linspace(0, self.frames - 1, min(_SHOWN, self.frames)).round().astype(int)
        shown = frames[:, chosen].reshape(-1, *frames.shape[2:])
        return Result(metrics, {"paths": pictures.grid(shown, columns=len(chosen))})

    def _draw(self, predict: Predictor) -> np.ndarray:
        """Pictures [pairs, frames, h, w, 3]."""
        seeds = np.arange(2 * self.pairs, dtype=np.uint32)
        ends = np.asarray(predict.task.latents(seeds)).reshape(self.pairs, 2, -1)
        z = np.concatenate([walk(pair, self.frames) for pair in ends])
        noise = seeds[::2].repeat(self.frames)
        made = predict.batched("synthesize", {"z": z, "seed": noise}, self.batch_size)["image"]
        return made.reshape(self.pairs, self.frames, *made.shape[1:])

    def _perceptual_path_length(self, predict: Predictor) -> float:
        """Mean distance of pictures a step of `_STEP` apart on a way, over the step's square.

        Pictures are of 8 bits: what is paid for is the smallest step that they tell apart.
        """
        seeds = np.arange(2 * self.samples, dtype=np.uint32)
        ends = np.asarray(predict.task.latents(seeds)).reshape(self.samples, 2, -1)
        where = np.random.default_rng(0).random(self.samples) * (1.0 - _STEP)
        z = np.stack([slerp(a, b, np.array([t, t + _STEP])) for (a, b), t in zip(ends, where)])
        batch = {"z": z.reshape(2 * self.samples, -1), "seed": seeds[::2].repeat(2)}
        made = predict.batched("synthesize", batch, self.batch_size)["image"]
        made = made.reshape(self.samples, 2, *made.shape[1:])
        return float(self._steps(made).mean() / _STEP**2)

    def _steps(self, frames: np.ndarray) -> np.ndarray:
        """Distances from frame to frame, [pairs, frames - 1]."""
        before, after = frames[:, :-1], frames[:, 1:]
        shape = before.shape[:2]
        if self.distance:
            far = open_distance(self.distance)
            flat = [v.reshape(-1, *v.shape[2:]) for v in (before, after)]
            return far(*flat).reshape(shape)
        rows = random_features(pixels.to_unit(frames.reshape(-1, *frames.shape[2:])))
        rows = rows.reshape(*frames.shape[:2], -1)
        return np.linalg.norm(rows[:, 1:] - rows[:, :-1], axis=-1)
