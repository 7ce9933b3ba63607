"""What stages that give images back are trained by: pixels, perception, a patch discriminator."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.build import by_name
from gen_jax.common.errors import UserError
from gen_jax.losses import adversarial, perceptual, reconstruction
from gen_jax.models.patch_discriminator import PatchDiscriminator
from gen_jax.tasks.perceptual import PerceptualTerm, make_term

DISCRIMINATORS = {"patch": PatchDiscriminator}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTerms:
    """Terms of the loss between images and what was made of them; a stage inherits its fields.

    Attributes:
      discriminator: PatchGAN of arXiv 1611.07004, or None.
      image_size: side of the square images, in pixels.
      l1_weight: weight of the mean absolute error.
      l2_weight: weight of the mean squared error.
      gradient_weight: weight of `losses.perceptual.multiscale_gradient_loss`: LPIPS hardly sees a
        faint regular pattern, which differences of neighbours do.
      perceptual: the perceptual term, by name and encoder in the config.
      perceptual_weight: its weight, 0 for none.
      perceptual_crop: side in pixels of the window that it sees, at a place that each step draws
        for the whole batch; 0 for the whole images. A window of half the side takes a quarter of
        the time.
      adversarial_weight: weight of the generator's adversarial term.
      adversarial_start: updates before that term sets in.
    """

    discriminator: nn.Module | None = None
    image_size: int = 64
    l1_weight: float = 1.0
    l2_weight: float = 0.0
    gradient_weight: float = 0.0
    perceptual: PerceptualTerm | None = None
    perceptual_weight: float = 0.0
    perceptual_crop: int = 0
    adversarial_weight: float = 0.0
    adversarial_start: int = 0

    def frozen_encoders(self) -> dict[str, str]:
        """Returns the perceptual term's encoder: place in `frozen` -> "NAME:WEIGHTS"."""
        return self.perceptual.frozen_encoders() if self.perceptual_weight else {}

    def batch_spec(self):
        side = self.image_size
        return {"image": jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)}

    def losses(self):
        """`_model_loss` and, beside a discriminator, `_disc_loss` of the stage."""
        groups = {"model": self._model_loss}
        if self.discriminator is not None:
            groups["disc"] = self._disc_loss
        return groups

    def terms(
        self, x: jax.Array, y: jax.Array, everything: Mapping[str, Any], updates, frozen, rng
    ) -> dict[str, tuple[Any, jax.Array]]:
        """Name -> (weight, value) of each term that is asked for.

        Args:
          x: images [b, h, w, 3] in [-1, 1].
          y: what was made of them.
          everything: parameters of all groups.
          updates: taken so far.
          frozen: parameters of `frozen_encoders`.
          rng: draws the window that the perceptual term sees.
        """
        found = {}
        if self.l1_weight:
            found["l1"] = (self.l1_weight, reconstruction.l1(x, y).mean())
        if self.l2_weight:
            found["l2"] = (self.l2_weight, reconstruction.l2(x, y).mean())
        if self.gradient_weight:
            value = perceptual.multiscale_gradient_loss(x, y).mean()
            found["gradient"] = (self.gradient_weight, value)
        if self.perceptual_weight:
            pair = self._window(x, y, rng)
            found["perceptual"] = (self.perceptual_weight, self.perceptual(*pair, frozen).mean())
        if self.discriminator is not None:
            fake = self.discriminator.apply({"params": everything["disc"]}, y)
            on = (updates >= self.adversarial_start).astype(jnp.float32)
            weight = self.adversarial_weight * on
            found["adversarial"] = (weight, adversarial.hinge_generator(fake).mean())
        return found

    def _window(self, x: jax.Array, y: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        side = self.perceptual_crop
        if not side:
            return x, y
        top, left = jax.random.randint(rng, (2,), 0, x.shape[1] - side + 1)
        shape = (len(x), side, side, x.shape[-1])
        return tuple(jax.lax.dynamic_slice(image, (0, top, left, 0), shape) for image in (x, y))

    def total(self, terms: Mapping[str, tuple[Any, jax.Array]], x: jax.Array, y: jax.Array):
        """The weighted sum, and metrics of the group "model" with the PSNR of the batch."""
        loss = sum(weight * value for weight, value in terms.values())
        metrics = {f"model/{name}": value for name, (_, value) in terms.items()}
        metrics["model/psnr"] = -10.0 * jnp.log10(jnp.mean((x - y) ** 2) / 4.0 + 1e-12)
        return loss, metrics

    def told_apart(self, params: Mapping[str, Any], x: jax.Array, y: jax.Array):
        """The discriminator's loss, and metrics of the group "disc"."""
        real = self.discriminator.apply({"params": params}, x)
        fake = self.discriminator.apply({"params": params}, jax.lax.stop_gradient(y))
        loss = adversarial.hinge_discriminator(real, fake).mean()
        return loss, {"disc/real": real.mean(), "disc/fake": fake.mean()}


def with_terms(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config.task` with the discriminator and the perceptual term built.

    Raises:
      UserError: a key that does not exist or does not fit.
    """
    values = dict(config)
    if values.get("discriminator"):
        values["discriminator"] = by_name(
            DISCRIMINATORS, values["discriminator"], "config.task.discriminator"
        )
    else:
        values.pop("discriminator", None)
    crop, side = values.get("perceptual_crop", 0), values.get("image_size", ImageTerms.image_size)
    if not 0 <= crop <= side:
        raise UserError(
            f"config.task.perceptual_crop={crop}: expected 0 for whole images, or at most "
            f"config.task.image_size={side}"
        )
    term, encoder = values.pop("perceptual", ""), values.pop("perceptual_encoder", "")
    if term or values.get("perceptual_weight"):
        values["perceptual"] = make_term(term, encoder)
    return values
