"""Sampling of images with captions, and what can be done with the latents that both share."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gen_jax.common import batching
from gen_jax.data.load.steps import letterbox
from gen_jax.pipelines.interpolation import slerp, walk
from gen_jax.pipelines.sampling import (
    Pipeline,
    Request,
    Samples,
    checked_seeds,
    generate_in_batches,
)

_FIRST_NEIGHBOR = 1_000_003  # seeds of the noise that neighbors are mixed with begin there


class Captioned(Pipeline):
    """A run of the engravings stage, ready to sample.

    `Request.latents` is the noise that the flow begins with, see `walk` and `near`. What `encode`
    gives are latents of images, which `decode` takes.
    """

    predict_fn = "sample"

    def _compile(self) -> None:
        variables = jax.tree.map(jnp.asarray, dict(self.model.variables))
        known = self.task.predict_fns()
        names = ("sample", "encode", "decode", "reconstruct")
        jitted = {name: jax.jit(known[name]) for name in names}
        self._fns = {
            name: (lambda batch, fn=fn: fn(variables, batch, {}, {})) for name, fn in jitted.items()
        }
        self._run = self._fns["sample"]
        self._noise = jax.jit(self.task.noise)

    @classmethod
    def options(cls, task):
        return super().options(task) | {"latents", "path", "image", "style_image", "near"}

    def walk(self, seeds, count, path="slerp"):
        return walk(np.asarray(self._noise(checked_seeds(seeds))), count, path)

    def near(self, seed: int, count: int, distance: float = 0.3) -> np.ndarray:
        """Returns noise around that of a seed, which is the first, for `Request.latents`.

        Args:
          seed: Seed in whose neighborhood the others are.
          count: How many, the seed itself among them.
          distance: 0 for the seed itself, 1 for seeds that have nothing to do with it.
        """
        center = np.asarray(self._noise(checked_seeds([seed])))[0]
        # Wraps round at the largest seed.
        others = (np.arange(count - 1) + _FIRST_NEIGHBOR + seed).astype(np.uint32)
        t = np.array([distance])
        rows = [slerp(center, other, t)[0] for other in np.asarray(self._noise(others))]
        return np.stack([center, *rows]).astype(np.float32)

    def latents(self, seeds: Sequence[int], batch_size: int = 16) -> np.ndarray:
        """Returns the joined latents [n, d] that seeds are drawn to, without a prompt."""
        batch = self._batch(Request(list(seeds)), checked_seeds(seeds))
        return self._batched("sample", batch, batch_size)["latent"]

    def encode(self, images: Sequence[np.ndarray], batch_size: int = 16) -> np.ndarray:
        """Returns the joined latents [n, d] of images, without a caption.

        Args:
          images: uint8 [h, w], [h, w, 1] or [h, w, 3], of any size.
          batch_size: Images at once.
        """
        rows = np.stack([self._padded(image) for image in images])
        batch = {"image": rows, **self._tokens([""] * len(rows))}
        return self._batched("encode", batch, batch_size)["latent"]

    def decode(
        self, latents: np.ndarray, seeds: Sequence[int] = (), batch_size: int = 16
    ) -> Samples:
        """Returns the images and captions of joined latents [n, d].

        Args:
          latents: Rows as `encode` and `transfer` give them.
          seeds: Seed of each caption, 0 for all by default.
          batch_size: Images at once.
        """
        rows = checked_seeds(list(seeds) or [0] * len(latents))
        out = generate_in_batches(
            self._fns["decode"], {"latent": latents.astype(np.float32), "seed": rows}, batch_size
        )
        return Samples(out["image"], self._texts(out["caption"]))

    def describe(self, images: Sequence[np.ndarray], batch_size: int = 16) -> Samples:
        """Returns the reconstructions of images, and the most likely captions."""
        rows = np.stack([self._padded(image) for image in images])
        out = self._batched("reconstruct", {"image": rows}, batch_size)
        return Samples(out["image"], self._texts(out["caption"]))

    def redrawn(
        self, images: Sequence[np.ndarray], hand: np.ndarray, batch_size: int = 16
    ) -> Samples:
        """Returns images in the hand of another image, with captions; see `transfer`."""
        pooled = self.encode([hand]).repeat(len(images), 0)
        mixed = self.transfer(self.encode(images, batch_size), pooled)
        return self.decode(mixed, batch_size=batch_size)

    def transfer(self, structure: np.ndarray, hand: np.ndarray) -> np.ndarray:
        """Returns latents with the spatial one of the first rows and the pooled one of the others.

        Args:
          structure: Joined latents [n, d] that say where things are.
          hand: Joined latents [n, d] that say in what manner they are drawn.
        """
        first, second = (self.task.split(jnp.asarray(rows)) for rows in (structure, hand))
        mixed = first.replace(pooled=second.pooled, caption=jnp.zeros_like(first.caption))
        return np.asarray(self.task.join(mixed))

    def _batch(self, request: Request, seeds: np.ndarray) -> dict[str, np.ndarray]:
        noise = self._noise(seeds) if request.latents is None else request.latents
        return {**super()._batch(request, seeds), "noise": np.asarray(noise)}

    def _padded(self, image: np.ndarray) -> np.ndarray:
        image = image[..., None] if image.ndim == 2 else image
        if image.shape[-1] == 1:
            image = image.repeat(3, axis=-1)
        padded = letterbox(self.task.image_size)({"image": image}, np.random.default_rng(0))
        return padded["image"]

    def _batched(self, name, batch, batch_size):
        parts = []
        for padded, count in batching.split(batch, batch_size):
            out = self._fns[name](padded)
            parts.append({key: np.asarray(value)[:count] for key, value in out.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _texts(self, tokens: np.ndarray) -> tuple[str, ...]:
        return tuple(self._tokenizer.decode(ids).strip() for ids in tokens)
