"""The restoration stage: from degraded crops to clean ones, or to what an instruction asks for."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common import pixels, ranges
from gen_jax.common.build import build, by_name
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.degradations import PARAMETERS
from gen_jax.data.degradations.base import SCALES
from gen_jax.losses import adversarial, frequency, reconstruction
from gen_jax.metrics.ssim import ssim
from gen_jax.models.degradation_estimator import DegradationEstimator
from gen_jax.models.restoration import RestorationNetwork, RestorationOutput
from gen_jax.tasks import text
from gen_jax.tasks.base import Task
from gen_jax.tasks.image_terms import DISCRIMINATORS
from gen_jax.tasks.perceptual import PerceptualTerm, make_term

NETWORKS = {
    "dncnn": "gen_jax.models.dncnn:DnCNN",
    "ffdnet": "gen_jax.models.ffdnet:FFDNet",
    "scunet": "gen_jax.models.scunet:SCUNet",
    "swin_unet": "gen_jax.models.swin_unet:SwinUNet",
}
"""Name in a config -> "module:class" of a `models.restoration.RestorationNetwork`."""

_TERMS = {
    "l1": reconstruction.l1,
    "l2": reconstruction.l2,
    "charbonnier": reconstruction.charbonnier,
    "ssim": lambda x, y: 1.0 - ssim(x, y),
    "frequency": frequency.frequency_l1,
}

# Root mean square error, in 8-bit units, that counts as half of the greatest severity.
_HALF = 10.0


@dataclasses.dataclass(frozen=True)
class RestoreTask(Task):
    """Trains a network on pairs that the loader's degradations make.

    Attributes:
      network: Network from degraded images in [0, 1] to restored ones.
      estimator: Estimates `PARAMETERS` from the image alone and is trained along; needed by a
        network that is conditioned on "degradation".
      text_encoder: Encoder of instructions, for a network that is conditioned on "text".
      discriminator: PatchGAN of arXiv:1611.07004, or None.
      image_size: Side of the crops in pixels.
      channels: Number of channels of the images, 1 or 3.
      l1_weight: Weight of the mean absolute error.
      l2_weight: Weight of the mean squared error.
      charbonnier_weight: Weight of the Charbonnier loss, a smooth absolute error.
      ssim_weight: Weight of 1 - SSIM.
      frequency_weight: Weight of the mean absolute error between spectra.
      perceptual: Perceptual term, by name and encoder in the config.
      perceptual_weight: Weight of the perceptual term, 0 for none.
      perceptual_ranges: Images that the perceptual term sees: (name of `PARAMETERS`, least, most)
        in its unit, in a config name -> (least, most); empty for all. On noisy images the term
        would keep grain, which looks like texture.
      perceptual_every: The term sees one image of so many per batch, preferably within
        `perceptual_ranges`, because the encoder can cost more than the network.
      adversarial_weight: Weight of the adversarial loss.
      adversarial_start: Number of updates before the adversarial loss begins.
      estimate_weight: Weight of the mean absolute error of the estimator.
      gate_weight: Weight of the squared difference between gates and `severity`.
      estimator_only: Whether only the estimator is trained, so that the network is not applied.
      teacher_forcing_prob: Probability that a training crop is conditioned on the true degradation
        vector instead of the estimate.
    """

    network: RestorationNetwork
    estimator: nn.Module | None = None
    text_encoder: nn.Module | text.FrozenText | None = None
    discriminator: nn.Module | None = None
    image_size: int = 64
    channels: int = 3
    l1_weight: float = 0.0
    l2_weight: float = 0.0
    charbonnier_weight: float = 0.0
    ssim_weight: float = 0.0
    frequency_weight: float = 0.0
    perceptual: PerceptualTerm | None = None
    perceptual_weight: float = 0.0
    perceptual_ranges: tuple[tuple[str, float, float], ...] = ()
    perceptual_every: int = 1
    adversarial_weight: float = 0.0
    adversarial_start: int = 0
    estimate_weight: float = 0.1
    gate_weight: float = 0.0
    estimator_only: bool = False
    teacher_forcing_prob: float = 0.25

    parts: ClassVar = {
        "network": Part(NETWORKS),
        "estimator": Part(DegradationEstimator, derived=("outputs",)),
        "text_encoder": Part(text.CONFIGS),
        "discriminator": Part(DISCRIMINATORS),
    }
    rng_streams = ("dropout", "told")
    pipeline = "restoration"

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "RestoreTask":
        """Builds it from `config.task`.

        Args:
          config: Plain values.
          frozen_tasks: A frozen text encoder as "text", if one is named.

        Raises:
          UserError: A key that does not exist or does not fit.
        """
        values = {k: v for k, v in config.items() if k not in ("perceptual", "perceptual_encoder")}
        if "network" not in values:
            raise UserError("config.task.network is missing: name an architecture")
        values["network"] = by_name(NETWORKS, values["network"], "config.task.network")
        if "estimator" in values:
            fields = {"outputs": len(PARAMETERS), **values["estimator"]}
            values["estimator"] = build(DegradationEstimator, fields, "config.task.estimator")
        if "text_encoder" in values:
            values["text_encoder"] = text.build_text_encoder(
                values["text_encoder"], frozen_tasks or {}
            )
        if values.get("discriminator"):
            values["discriminator"] = by_name(
                DISCRIMINATORS, values["discriminator"], "config.task.discriminator"
            )
        else:
            values.pop("discriminator", None)
        if values.get("perceptual_weight"):
            term, encoder = config.get("perceptual", ""), config.get("perceptual_encoder", "")
            values["perceptual"] = make_term(term, encoder)
        where = values.get("perceptual_ranges") or {}
        values["perceptual_ranges"] = tuple(_bounds(name, v) for name, v in sorted(where.items()))
        task = build(cls, values, "config.task")
        task._check()
        return task

    def _check(self) -> None:
        if not any(getattr(self, f"{name}_weight") for name in _TERMS):
            raise UserError(
                "config.task: every weight of a pixel error is 0; set one of "
                + ", ".join(f"{name}_weight" for name in _TERMS)
            )
        if self.estimator_only and (self.estimator is None or self.discriminator is not None):
            raise UserError(
                "config.task.estimator_only: name a network with an estimator, and no discriminator"
            )
        every = self.perceptual_every
        ranges.check_range(every, ranges.AT_LEAST_1, "config.task.perceptual_every", int)
        kind = type(self.network).__name__
        for field, condition in (("estimator", "degradation"), ("text_encoder", "text")):
            is_conditioned, is_given = condition in self.network.conditions, field in self._given()
            if is_conditioned and not is_given:
                raise UserError(
                    f"config.task.{field} is missing: this {kind} is conditioned on {condition}"
                )
            if is_given and not is_conditioned:
                raise UserError(
                    f"config.task.{field}: this {kind} is not conditioned on {condition}; leave it "
                    "out, or choose a network that is"
                )

    def _given(self) -> set[str]:
        parts = {"estimator": self.estimator, "text_encoder": self.text_encoder}
        return {name for name, part in parts.items() if part is not None}

    def frozen_encoders(self):
        return self.perceptual.frozen_encoders() if self.perceptual_weight else {}

    def batch_spec(self):
        shape = (self.image_size, self.image_size, self.channels)
        spec = {
            "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
            "degraded": jax.ShapeDtypeStruct(shape, jnp.float32),
            "degradation": jax.ShapeDtypeStruct((len(PARAMETERS),), jnp.float32),
        }
        if self.text_encoder is not None:
            length = (self.text_encoder.max_length,)
            spec["tokens"] = jax.ShapeDtypeStruct(length, jnp.int32)
            spec["token_mask"] = jax.ShapeDtypeStruct(length, jnp.bool_)
        return spec

    def init(self, rng, batch):
        keys = jax.random.split(rng, 4)
        x, params = batch["degraded"], {}
        if self.estimator is not None:
            params["estimator"] = self.estimator.init(keys[1], x)["params"]
        known = self._strengths(batch)
        if self.text_encoder is not None:
            tokens, mask = batch["tokens"], batch["token_mask"]
            params |= text.init(self.text_encoder, keys[2], tokens, mask)
            # The network's parameters depend on the width of the states alone.
            states = jnp.zeros((*tokens.shape, self.text_encoder.hidden_size))
            known |= {"text": states, "text_mask": mask}
        params["network"] = self.network.init(keys[0], x, known, method="restore")["params"]
        if self.discriminator is None:
            return {"model": params}, {}
        disc = self.discriminator.init(keys[3], x)["params"]
        return {"model": params, "disc": disc}, {"updates": jnp.zeros((), jnp.int32)}

    def losses(self):
        groups = {"model": self._loss}
        return groups if self.discriminator is None else groups | {"disc": self._disc_loss}

    def predict_fns(self):
        fns = {"restore": self._restore}
        return fns if self.estimator is None else fns | {"estimate": self._estimate}

    def predict_spec(self):
        spec = {k: v for k, v in self.batch_spec().items() if k != "image"}
        specs = {"restore": spec, "estimate": {"degraded": spec["degraded"]}}
        return {name: specs[name] for name in self.predict_fns()}

    def _strengths(self, batch):
        """Returns what a network may be conditioned on, from "degradation"."""
        sigma = degradation_of(batch["degradation"], "sigma") / 255.0
        return {"degradation": batch["degradation"], "sigma": sigma}

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        if self.estimator_only:
            estimate = self._estimator_output(params, batch)
            error = jnp.abs(estimate - batch["degradation"]).mean()
            return self.estimate_weight * error, ({"model/estimate": error}, extra)
        x = pixels.to_unit(batch["image"])
        output, estimate = self._trained_on(params, batch, rngs, frozen)
        y, gates = output.image, output.gates
        terms = {}
        if estimate is not None:
            error = jnp.abs(estimate - batch["degradation"]).mean()
            terms["estimate"] = (self.estimate_weight, error)
        for name, term in _TERMS.items():
            if weight := getattr(self, f"{name}_weight"):
                terms[name] = (weight, term(x, y).mean())
        if gates is not None and self.gate_weight:
            wanted = severity(batch["degradation"])[:, None]
            terms["gate"] = (self.gate_weight, jnp.square(gates - wanted).mean())
        if self.perceptual_weight:
            terms["perceptual"] = (self.perceptual_weight, self._distance(x, y, batch, frozen))
        if self.discriminator is not None:
            logits = self.discriminator.apply({"params": everything["disc"]}, 2.0 * y - 1.0)
            on = (extra["updates"] >= self.adversarial_start).astype(jnp.float32)
            term = adversarial.hinge_generator(logits).mean()
            terms["adversarial"] = (self.adversarial_weight * on, term)
            extra = {**extra, "updates": extra["updates"] + 1}
        loss = sum(weight * value for weight, value in terms.values())
        metrics = {f"model/{name}": value for name, (_, value) in terms.items()}
        metrics["model/psnr"] = -10.0 * jnp.log10(jnp.mean((x - y) ** 2, (1, 2, 3)) + 1e-12).mean()
        return loss, (metrics, extra)

    def _distance(self, x, y, batch, frozen):
        is_seen = jnp.ones(len(x), bool)
        for name, least, most in self.perceptual_ranges:
            value = degradation_of(batch["degradation"], name)
            is_seen &= (value >= least) & (value <= most)
        if self.perceptual_every > 1:
            some = jnp.argsort(~is_seen)[: max(1, len(x) // self.perceptual_every)]
            x, y, is_seen = x[some], y[some], is_seen[some]
        distance = self.perceptual(2.0 * _rgb(x) - 1.0, 2.0 * _rgb(y) - 1.0, frozen)
        return jnp.where(is_seen, distance, 0.0).mean()

    def _disc_loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_unit(batch["image"])
        output, _ = self._trained_on(everything["model"], batch, rngs, frozen)
        real, fake = (
            self.discriminator.apply({"params": params}, 2.0 * v - 1.0)
            for v in (x, jax.lax.stop_gradient(output.image))
        )
        loss = adversarial.hinge_discriminator(real, fake).mean()
        return loss, ({"disc/real": real.mean(), "disc/fake": fake.mean()}, extra)

    def _trained_on(self, params, batch, rngs, frozen):
        """Returns the network's output in training, and the estimates or None."""
        if self.estimator is None:
            return self._apply(params, batch, rngs, frozen, train=True), None
        estimate, truth = self._estimator_output(params, batch), batch["degradation"]
        is_forced = jax.random.bernoulli(
            rngs["told"], self.teacher_forcing_prob, (truth.shape[0], 1)
        )
        vector = jnp.where(is_forced, truth, clipped(jax.lax.stop_gradient(estimate)))
        batch = {**batch, "degradation": vector}
        return self._apply(params, batch, rngs, frozen, train=True), estimate

    def _estimator_output(self, params, batch):
        return self.estimator.apply({"params": params["estimator"]}, batch["degraded"])

    def _apply(self, params, batch, rngs, frozen, train) -> RestorationOutput:
        known = self._strengths(batch) if self.network.conditions else {}
        if self.text_encoder is not None:
            tokens, mask = batch["tokens"], batch["token_mask"]
            states, seen = text.encode(self.text_encoder, params, frozen, tokens, mask)
            known |= {"text": states, "text_mask": seen}
        dropout = {"dropout": rngs["dropout"]} if train and "dropout" in rngs else None
        return self.network.apply(
            {"params": params["network"]},
            batch["degraded"],
            known,
            deterministic=not train,
            method="restore",
            rngs=dropout,
        )

    def _restore(self, variables, batch, rngs, frozen):
        """Restores "degraded", conditioned on "degradation" and the tokens.

        Returns:
          "restored" [b, h, w, c] and, from a network with gates, their mean "gate" [b] and all
          "gates" [b, n].
        """
        output = self._apply(variables["params"]["model"], batch, rngs, frozen, train=False)
        if output.gates is None:
            return {"restored": output.image}
        return {
            "restored": output.image,
            "gate": output.gates.mean(-1),
            "gates": output.gates,
        }

    def _estimate(self, variables, batch, rngs, frozen):
        """Returns "estimate" [b, p] of "degraded", scaled as "degradation"."""
        return {"estimate": clipped(self._estimator_output(variables["params"]["model"], batch))}


def _bounds(name: str, value: Any) -> tuple[str, float, float]:
    where = "config.task.perceptual_ranges"
    if name not in PARAMETERS:
        raise UserError(f"{where}: {name!r} is none of {', '.join(PARAMETERS)}")
    if len(value) != 2:
        raise UserError(f"{where}.{name}={value}: expected the least and the most")
    return name, float(value[0]), float(value[1])


def clipped(estimate: jax.Array) -> jax.Array:
    """Returns estimates within the range of strengths, [0, 2]."""
    return jnp.clip(estimate, 0.0, 2.0)


def severity(vector: jax.Array) -> jax.Array:
    """Returns how severe a degradation is, [b] in [0, 1): e / (e + 10), e its RMS error."""
    error = degradation_of(vector, "error")
    return error / (error + _HALF)


def degradation_of(vector: jax.Array, name: str) -> jax.Array:
    """Returns one of `PARAMETERS` in its own unit, [b], from "degradation" [b, p]."""
    return vector[:, PARAMETERS.index(name)] * SCALES[name]


def _rgb(x):
    return jnp.broadcast_to(x, (*x.shape[:3], 3))
