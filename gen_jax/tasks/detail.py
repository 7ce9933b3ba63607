"""The stage of fine detail: what a decoder cannot tell of the codes is drawn instead.

A decoder that is trained by distances gives the mean of all pictures that its codes may stand for,
which is blurred. A flow (arXiv 2210.02747) draws one of them, as a decoder that is a diffusion
model does (arXiv 2405.14869): it leads from noise to what the brightness of a picture has beyond
its reconstruction, given that reconstruction. Colours stay the decoder's.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common import pixels, ranges
from gen_jax.common.build import build
from gen_jax.common.color import BT601_LUMA
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.diffusion import samplers
from gen_jax.diffusion.schedules import expand, make_process
from gen_jax.models.layers.embeddings import timestep_embedding
from gen_jax.models.local_scale import LocalScale, gaussian_nll
from gen_jax.models.swin_unet import SwinUNet
from gen_jax.tasks.base import Task, upstream
from gen_jax.tasks.vqvae import VQVAETask

_TIME = 16  # numbers that tell the network the time: waves of it,
_FASTEST = 64.0  # the fastest of which turns by so many radians on the way
_LEAST_TIME = 0.1  # below which an error weighs no more
_PROCESS = make_process("flow", "sample", timestep_sampling="stratified")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetailTask(Task):
    """Trains a network that tells the detail at any time of the way from noise to it, and one that
    tells how much detail there is at each place, which it is divided by: flat parts stay flat.

    Neither knows where it is, nor how large the picture: they learn on windows and draw whole
    pictures.

    Attributes:
      vqvae: the trained one, whose parameters are `frozen["vqvae"]`.
      network: of the noisy detail, the reconstruction and the logarithm of the scale.
      scale: of the reconstruction.
      crop: side in pixels of the window of each picture that is learnt; 0 for whole pictures.
      num_inference_steps: of the drawing, by Euler's method.
      noise: deviation of the noise that drawing begins with; less than 1 draws plainer detail.
    """

    vqvae: VQVAETask
    network: SwinUNet
    scale: LocalScale
    crop: int = 64
    num_inference_steps: int = 4
    noise: float = 1.0

    parts: ClassVar = {
        "network": Part(SwinUNet, derived=("in_channels", "out_channels", "residual", "text")),
        "scale": Part(LocalScale),
    }
    rng_streams = ("t", "noise", "window")
    is_refiner = True

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "DetailTask":
        """Builds it from `config.task`.

        Args:
          config: its values.
          frozen_tasks: the VQ-VAE's as "vqvae".

        Raises:
          UserError: a key that does not exist or does not fit, or no VQ-VAE.
        """
        advice = "a refiner adds what a VQ-VAE leaves out; name a run of configs/vqvae.py"
        vqvae = upstream(frozen_tasks, "vqvae", VQVAETask, advice)
        if "network" not in config:
            raise UserError("config.task.network is missing; see configs/detail.py")
        fields = {
            **config["network"],
            **{"in_channels": 5, "out_channels": 1, "residual": False, "text": ()},
        }
        values = {
            **config,
            "network": build(SwinUNet, fields, "config.task.network"),
            "scale": build(LocalScale, config.get("scale", {}), "config.task.scale"),
            "vqvae": vqvae,
        }
        task = build(cls, values, "config.task")
        if not 0 <= task.crop <= task.image_size or task.crop % 2:
            raise UserError(
                f"config.task.crop={task.crop}: expected 0 for whole pictures, or an even number "
                f"of at most the {task.image_size} pixels of the VQ-VAE's"
            )
        steps = task.num_inference_steps
        ranges.check_range(steps, ranges.AT_LEAST_1, "config.task.num_inference_steps", int)
        return task

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels."""
        return self.vqvae.image_size

    def batch_spec(self):
        return self.vqvae.batch_spec()

    def init(self, rng, batch):
        side = self.crop or self.image_size
        y, keys = jnp.zeros((1, side, side, 3)), jax.random.split(rng)
        seen = jnp.zeros((1, side, side, self.network.in_channels))
        params = {
            "network": self.network.init(keys[0], seen, jnp.zeros((1, _TIME)))["params"],
            "scale": self.scale.init(keys[1], y)["params"],
        }
        return {"model": params}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"reconstruct": self._reconstruct, "decode": self._decode}

    def predict_spec(self):
        return {"reconstruct": self.batch_spec(), "decode": self.vqvae.predict_spec()["decode"]}

    def add(
        self, frozen: Mapping[str, Any], y: Float[Array, "b h w 3"], keys: jax.Array
    ) -> Float[Array, "b h w 3"]:
        """Images as a decoder gives them with the detail that each one's key draws.

        Args:
          frozen: of `as_frozen`.
          y: images in about [-1, 1], of any even sides.
          keys: one an image.
        """
        params = frozen["params"]
        log_std = self.scale.apply({"params": params["scale"]}, y)
        eps = jax.vmap(lambda key: jax.random.normal(key, log_std.shape[1:]))(keys)
        drawn = samplers.sample(
            lambda x_t, t: self._told(params, x_t, y, log_std, t),
            self.noise * eps,
            _PROCESS,
            self.num_inference_steps,
            "euler",
        )
        return y + jnp.exp(log_std) * drawn

    def _told(self, params, x_t, y, log_std, t):
        """The detail that a noisy one stands for, in units of its scale."""
        alpha, sigma = _PROCESS.alpha(t), _PROCESS.sigma(t)
        x_t = x_t * expand(jax.lax.rsqrt(alpha**2 + sigma**2), x_t.ndim)
        # Logarithms of scales, brought to about the range of the images.
        seen = jnp.concatenate([x_t, y, 0.5 * log_std + 1.25], -1)
        time = timestep_embedding(_FASTEST * t, _TIME, max_period=_FASTEST)
        return self.network.apply({"params": params["network"]}, seen, time)[0]

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        y = self.vqvae.images(frozen["vqvae"], self.vqvae.codes(frozen["vqvae"], x))
        x, y = self._window(x, jax.lax.stop_gradient(y), rngs["window"])
        missing = ((x - y) * jnp.asarray(BT601_LUMA)[None, None, None]).sum(-1, keepdims=True)
        log_std = self.scale.apply({"params": params["scale"]}, y)
        nll = gaussian_nll(missing, log_std).mean()
        log_std = jax.lax.stop_gradient(log_std)
        x_0 = missing * jnp.exp(-log_std)
        t = _PROCESS.sample_t(rngs["t"], (len(x),))
        x_t = _PROCESS.add_noise(x_0, jax.random.normal(rngs["noise"], x_0.shape), t)
        told = self._told(params, x_t, y, log_std, t)
        error = jnp.square(told - x_0).mean(axis=(1, 2, 3))
        # As the error of the velocity weighs (arXiv 2511.13720), but for the last of the way.
        flow = (error / jnp.square(jnp.maximum(t, _LEAST_TIME))).mean()
        metrics = {"model/flow": flow, "model/scale_nll": nll, "model/mse": error.mean()}
        return flow + nll, (metrics, extra)

    def _window(self, x, y, rng):
        """The same window of both, at a place of each image's own."""
        if not self.crop or self.crop == self.image_size:
            return x, y
        places = jax.random.randint(rng, (len(x), 2), 0, self.image_size - self.crop + 1)

        def cut(image, place):
            shape = (self.crop, self.crop, image.shape[-1])
            return jax.lax.dynamic_slice(image, (place[0], place[1], 0), shape)

        return jax.vmap(cut)(x, places), jax.vmap(cut)(y, places)

    def _reconstruct(self, variables, batch, rngs, frozen):
        """Held-out images through their codes and back: "image", and "decoded" without detail."""
        codes = self.vqvae.codes(frozen["vqvae"], pixels.to_signed(batch["image"]))
        return {**self._decode(variables, {"codes": codes}, rngs, frozen), "codes": codes}

    def _decode(self, variables, batch, rngs, frozen):
        y = self.vqvae.images(frozen["vqvae"], batch["codes"])
        keys = jax.random.split(rngs["noise"], len(y))
        z = self.add(self.as_frozen(variables), y, keys)
        return {"image": pixels.from_signed(z), "decoded": pixels.from_signed(y)}
