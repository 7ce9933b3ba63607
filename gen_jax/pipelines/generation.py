"""From prompts to images with a trained run."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common import numbers
from gen_jax.common.errors import UserError
from gen_jax.data.text import tokenizer_file
from gen_jax.diffusion.guidance import checked_interval
from gen_jax.diffusion.samplers import SAMPLERS
from gen_jax.pipelines.parts import images_in_parts
from gen_jax.pipelines.resampled import MAX_GUIDANCE, MAX_STEPS
from gen_jax.runs import layout
from gen_jax.runs.reader import TrainedModel


@dataclasses.dataclass(frozen=True)
class Request:
    """What to generate, one entry a picture.

    Attributes:
      prompts: texts.
      seeds: of each picture's noise, 0 to 2**32 - 1; a picture depends on its seed and prompt
        alone.
      negative: what to keep away from, "" for the empty prompt.
      x_T: the noise itself `[n, h, w, c]`, instead of the seeds'.
    """

    prompts: Sequence[str]
    seeds: Sequence[int]
    negative: str = ""
    x_T: np.ndarray | None = None


class TextToImage:
    """A text-to-image run, ready to sample.

    Args:
      model: a run whose task generates from tokens.
      sampler: see `diffusion.samplers`; None for the run's own, as for the others.
      num_inference_steps: its steps.
      guidance_scale: 0 to `MAX_GUIDANCE`, 1 for none.
      guidance_rescale: share of the contrast put back, 0 to 1.
      guidance_interval: part of the time range that is guided, shares from 0 (no noise) to 1.

    Raises:
      UserError: the run generates nothing, or an option makes no sense.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        sampler: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ):
        if "generate" not in model.task.predict_fns():
            stage = model.config.get("task", {}).get("name", "diffusers")
            raise UserError(
                f"{model.path}: a {stage} run does not generate from prompts; "
                "name a run of configs/ldm.py"
            )
        if sampler is not None and sampler not in SAMPLERS:
            raise UserError(f"--sampler={sampler}: expected one of {', '.join(SAMPLERS)}")
        for name, value, kind, low, high in (
            ("--steps", num_inference_steps, int, 1, MAX_STEPS),
            ("--guidance", guidance_scale, float, 0, MAX_GUIDANCE),
            ("--rescale", guidance_rescale, float, 0, 1),
        ):
            if value is not None:
                numbers.parse(value, name, kind, low, high)
        if guidance_interval is not None:
            guidance_interval = checked_interval(guidance_interval, "--guidance_interval")
        changes = {
            "sampler": sampler,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "guidance_rescale": guidance_rescale,
            "guidance_interval": guidance_interval,
        }
        changes = {k: v for k, v in changes.items() if v is not None}
        self.task = dataclasses.replace(model.task, **changes)
        self._variables = jax.tree.map(jnp.asarray, dict(model.variables))
        self._frozen = jax.tree.map(jnp.asarray, dict(model.frozen))
        self._tokenizer = tokenizer_file.load(model.path / layout.TOKENIZER)
        self._generate = jax.jit(self.task.predict_fns()["generate"])

    @property
    def settings(self) -> dict[str, Any]:
        """What a manifest says of the sampling."""
        t = self.task
        return {
            "sampler": t.sampler,
            "num_inference_steps": t.num_inference_steps,
            "guidance_scale": t.guidance_scale,
            "guidance_rescale": t.guidance_rescale,
            "guidance_interval": list(t.guidance_interval),
        }

    def noise(self, seeds: Sequence[int]) -> np.ndarray:
        """x_T of each seed, `[n, h, w, c]`."""
        shape = self.task.latent_shape
        keys = jnp.stack([jax.random.key(int(s)) for s in seeds])
        return np.asarray(jax.vmap(lambda k: jax.random.normal(k, shape))(keys))

    def unknown_words(self, text: str) -> list[str]:
        """Returns the words of a text that have no token of their own."""
        return self._tokenizer.unknown_words(text)

    def truncated(self, texts: Sequence[str]) -> list[str]:
        """The texts that are longer than the model reads."""
        found = self._tokenizer.encode(list(texts), self.task.text_encoder.max_length)
        return [t for t, cut in zip(texts, found.truncated) if cut]

    def __call__(self, request: Request, batch_size: int = 16) -> np.ndarray:
        """Samples.

        Args:
          request: what to generate.
          batch_size: pictures at once.

        Returns:
          uint8 `[n, h, w, 3]`.
        """
        count = len(request.prompts)
        seeds = [numbers.check_seed(seed, "seed") for seed in request.seeds]
        x_T = self.noise(seeds) if request.x_T is None else request.x_T
        batch = {**self._tokens(request.prompts), "x_T": x_T, "seed": np.array(seeds, np.uint32)}
        if request.negative:
            negative = self._tokens([request.negative])
            batch["negative_tokens"] = negative["tokens"].repeat(count, 0)
            batch["negative_mask"] = negative["token_mask"].repeat(count, 0)
        return images_in_parts(
            lambda part: self._generate(self._variables, part, {}, self._frozen), batch, batch_size
        )

    def _tokens(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        found = self._tokenizer.encode(list(texts), self.task.text_encoder.max_length)
        return {"tokens": found.ids, "token_mask": found.mask}


def walk(points: np.ndarray, count: int, path: str = "slerp") -> np.ndarray:
    """`count` points on the way through all of `points` [n, ...], the ends among them.

    Args:
      points: two at least; at times that are equally far apart.
      count: of the result, `[count, ...]`.
      path: "slerp", on great circles, so that points stay Gaussian; or "lerp", straight.

    Raises:
      UserError: another path.
    """
    if path not in ("slerp", "lerp"):
        raise UserError(f"--path={path}: expected slerp or lerp")
    way = between if path == "slerp" else _lerp
    time = np.linspace(0.0, len(points) - 1.0, count)
    start = np.minimum(time.astype(int), len(points) - 2)
    parts = [
        way(points[i].ravel(), points[i + 1].ravel(), time[start == i] - i)
        for i in range(len(points) - 1)
    ]
    return np.concatenate(parts).reshape(count, *points.shape[1:]).astype(np.float32)


def slerp(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """`count` points from a to b on the great circle, `[count, ...]`; both stay Gaussian."""
    return walk(np.stack([a, b]), count)


def _lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    return (1 - t[:, None]) * a + t[:, None] * b


def between(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points [n, d] of the great circle from a to b, [d], at times t, [n], from 0 to 1."""
    a, b, t = a.astype(np.float64), b.astype(np.float64), t[:, None]
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.sin(angle) < 1e-6:
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
