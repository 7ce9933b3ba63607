"""The restoration stage: from degraded crops to clean ones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.build import build, by_name
from gen_jax.common.errors import UserError
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.degradations.base import SCALES
from gen_jax.losses import frequency, reconstruction
from gen_jax.metrics.ssim import ssim
from gen_jax.models.dncnn import DnCNN
from gen_jax.models.ffdnet import FFDNet
from gen_jax.models.scunet import SCUNet
from gen_jax.tasks.perceptual import PerceptualTerm, make_term

NETWORKS = {"dncnn": DnCNN, "ffdnet": FFDNet, "scunet": SCUNet}

_TERMS = {
    "l1": reconstruction.l1,
    "l2": reconstruction.l2,
    "charbonnier": reconstruction.charbonnier,
    "ssim": lambda x, y: 1.0 - ssim(x, y),
    "frequency": frequency.frequency_l1,
}


@dataclasses.dataclass(frozen=True)
class RestoreTask:
    """Trains a network on pairs that the loader's degradations make.

    Attributes:
      network: from degraded images in [0, 1] to restored ones; one that is told the noise level
        (FFDNet) gets it from the data.
      image_size: side of the crops, in pixels.
      channels: of the images, 1 or 3.
      l1_weight: weight of the mean absolute error.
      l2_weight: weight of the mean squared error.
      charbonnier_weight: weight of the smooth absolute error.
      ssim_weight: weight of 1 - SSIM.
      frequency_weight: weight of the absolute error between spectra.
      perceptual: the perceptual term, by name and encoder in the config.
      perceptual_weight: its weight, 0 for none.
    """

    network: nn.Module
    image_size: int = 64
    channels: int = 3
    l1_weight: float = 0.0
    l2_weight: float = 0.0
    charbonnier_weight: float = 0.0
    ssim_weight: float = 0.0
    frequency_weight: float = 0.0
    perceptual: PerceptualTerm | None = None
    perceptual_weight: float = 0.0

    rng_streams = ("dropout",)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "RestoreTask":
        """Builds it from `config.task`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        values = dict(config)
        if "network" not in values:
            raise UserError("config.task.network is missing: name an architecture")
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in values["network"].items()}
        values["network"] = by_name(NETWORKS, fields, "config.task.network")
        term, encoder = values.pop("perceptual", ""), values.pop("perceptual_encoder", "")
        if values.get("perceptual_weight"):
            values["perceptual"] = make_term(term, encoder)
        task = build(cls, values, "config.task")
        if not any(getattr(task, f"{name}_weight") for name in _TERMS):
            raise UserError(
                "config.task: every weight of a pixel error is 0; set one of "
                + ", ".join(f"{name}_weight" for name in _TERMS)
            )
        return task

    def towers(self) -> dict[str, str]:
        """Frozen encoders that the losses read: place in `frozen` -> "NAME:WEIGHTS"."""
        return self.perceptual.towers() if self.perceptual_weight else {}

    def batch_spec(self):
        shape = (self.image_size, self.image_size, self.channels)
        return {
            "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
            "degraded": jax.ShapeDtypeStruct(shape, jnp.float32),
            "degradation": jax.ShapeDtypeStruct((len(PARAMETERS),), jnp.float32),
        }

    def init(self, rng, batch):
        return {"model": self.network.init(rng, *self._inputs(batch))["params"]}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"restore": self._restore}

    def _inputs(self, batch):
        if isinstance(self.network, FFDNet):
            return batch["degraded"], degradation_of(batch["degradation"], "sigma") / 255.0
        return (batch["degraded"],)

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x = batch["image"].astype(jnp.float32) / 255.0
        y = self._apply(params, batch, rngs, train=True)
        terms = {
            name: (weight, term(x, y).mean())
            for name, term in _TERMS.items()
            if (weight := getattr(self, f"{name}_weight"))
        }
        if self.perceptual_weight:
            distance = self.perceptual(2.0 * _rgb(x) - 1.0, 2.0 * _rgb(y) - 1.0, frozen).mean()
            terms["perceptual"] = (self.perceptual_weight, distance)
        loss = sum(weight * value for weight, value in terms.values())
        metrics = {f"model/{name}": value for name, (_, value) in terms.items()}
        metrics["model/psnr"] = -10.0 * jnp.log10(jnp.mean((x - y) ** 2, (1, 2, 3)) + 1e-12).mean()
        return loss, (metrics, extra)

    def _apply(self, params, batch, rngs, train):
        inputs = self._inputs(batch)
        if isinstance(self.network, SCUNet):
            dropout = {"dropout": rngs["dropout"]} if train else None
            return self.network.apply({"params": params}, *inputs, not train, rngs=dropout)
        return self.network.apply({"params": params}, *inputs)

    def _restore(self, variables, batch, rngs, frozen):
        y = self._apply(variables["params"]["model"], batch, rngs, train=False)
        return {"restored": y}


def degradation_of(vector: jax.Array, name: str) -> jax.Array:
    """One of `PARAMETERS` in its own unit, [b], from the data's "degradation" [b, p]."""
    return vector[:, PARAMETERS.index(name)] * SCALES[name]


def _rgb(x):
    return jnp.broadcast_to(x, (*x.shape[:3], 3))
