"""A small stand-in for a captioned pipeline: fast, and its images follow from their latents."""

import pathlib
import threading
import zlib

import ml_collections
import numpy as np

from gen_jax.common.errors import UserError
from gen_jax.pipelines.sampling import Request, Samples
from gen_jax.runs.reader import TrainedModel

SIDE, DIM = 24, 6


def trained_model():
    return TrainedModel(
        path=pathlib.Path("runs/double"),
        config=ml_collections.ConfigDict(),
        task=None,
        variables={},
        frozen={},
        step=3,
        digest="d" * 64,
    )


class Sampler:
    """Draws images and captions, and nothing else.

    Attributes:
      gate: Event that every call waits for; set by default.
      calls: Number of rows of each call.
      overlaps: How often a call began while another one ran.
    """

    def __init__(self, model=None, **settings):
        self.model = model or trained_model()
        self.settings = {"guidance_scale": 2.0, "temperature": 0.5, **settings}
        self.gate = threading.Event()
        self.gate.set()
        self.calls, self.overlaps = [], 0
        self._running = threading.Lock()

    def sample(self, request, batch_size=16):
        if not self._running.acquire(blocking=False):
            self.overlaps += 1
            self._running.acquire()
        try:
            assert self.gate.wait(10)
            self.calls.append(len(request.seeds))
            return self._draw(request)
        finally:
            self._running.release()

    def _draw(self, request):
        latents = request.latents
        if latents is None:
            pairs = zip(request.seeds, request.prompts, strict=True)
            latents = np.stack([self._latent(seed, text) for seed, text in pairs])
        if any(prompt == "nan" for prompt in request.prompts):
            raise UserError("the image of seed 1 is not finite (NaN or Inf)")
        if any(prompt == "bug" for prompt in request.prompts):
            raise RuntimeError("an internal detail")
        waves = np.sin(np.linspace(0, 6, SIDE)[None] * latents[:, :1] + latents[:, 1:2])
        gray = (127 + 120 * waves[:, :, None] * waves[:, None, :]).astype(np.uint8)
        temperature = self.settings["temperature"]
        captions = tuple(f"<{z[0]:.4f}> at {temperature}" for z in latents)
        return Samples(np.repeat(gray[..., None], 3, -1), captions)

    def _latent(self, seed, prompt=""):
        entropy = [int(seed), zlib.crc32(prompt.encode())] if prompt else [int(seed)]
        return np.random.default_rng(entropy).uniform(0.5, 3, DIM)


class Double(Sampler):
    """The same with latents that can be encoded and mixed."""

    def walk(self, seeds, count):
        ends = [self._latent(seed) for seed in seeds]
        return np.stack([ends[0] + (ends[-1] - ends[0]) * t for t in np.linspace(0, 1, count)])

    def near(self, seed, count, distance=0.3):
        rng = np.random.default_rng(seed)
        steps = np.concatenate([np.zeros((1, DIM)), rng.standard_normal((count - 1, DIM))])
        return self._latent(seed) + distance * steps

    def latents(self, seeds):
        return np.stack([self._latent(seed) for seed in seeds])

    def encode(self, images):
        return np.stack([np.full(DIM, image.mean() / 100) for image in images])

    def decode(self, latents, seeds=()):
        return self._draw(Request(seeds, [""] * len(latents), latents=latents))

    def describe(self, images):
        captions = [f"an image of {x.shape[1]} x {x.shape[0]} pixels" for x in images]
        return self.decode(self.encode(images))._replace(captions=tuple(captions))

    def transfer(self, structure, hand):
        return np.concatenate([structure[:, : DIM // 2], hand[:, DIM // 2 :]], 1)
