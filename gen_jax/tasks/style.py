"""The style of a picture: few numbers that a prior over codes is given besides the text.

Codes that are drawn at once, or far from each other, do not know of each other. What they have in
common, from the colours to the composition, can be drawn first, by a small flow that hears the
text, and then be given to all of them: as in generation by way of a representation (RCG, arXiv
2312.03701), but with a representation that learns along what helps the prior, through a noisy
channel that limits how much it tells. The style of a picture can be given, too.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gen_jax.common import ranges
from gen_jax.common.build import build
from gen_jax.common.fields import Part
from gen_jax.diffusion import guidance
from gen_jax.models.latent_flow import LatentFlow, flow_loss, follow, velocity_fn
from gen_jax.models.style_encoder import StyleEncoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """Tells the style of codes, and draws styles for texts.

    Attributes:
      encoder: of codes' vectors.
      flow: from noise and a text's mean state to styles.
      noise: deviation of the channel's noise, styles having 1: by Shannon's formula at most
        dim/2 log(1 + 1/noise²) nats pass it.
      dropout_prob: share of the styles that are left out in training besides those whose texts are.
    """

    parts: ClassVar = {"encoder": Part(StyleEncoder), "flow": Part(LatentFlow)}

    encoder: StyleEncoder
    flow: LatentFlow
    noise: float = 0.5
    dropout_prob: float = 0.1

    @classmethod
    def from_config(cls, config: Any) -> "Style":
        """Builds it from `config.task.style`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        values = dict(config)
        for name, kind in (("encoder", StyleEncoder), ("flow", LatentFlow)):
            values[name] = build(kind, values.get(name, {}), f"config.task.style.{name}")
        style = build(cls, values, "config.task.style")
        allowed = {"noise": ranges.NOT_NEGATIVE, "dropout_prob": ranges.BELOW_1}
        ranges.check_fields(style, allowed, "config.task.style")
        return style

    @property
    def dim(self) -> int:
        """Numbers of a style."""
        return self.encoder.dim

    def init(self, rng: jax.Array, z: Float[Array, "1 h w c"], heard: Float[Array, "1 t"]):
        """Parameters."""
        keys = jax.random.split(rng)
        x, t = jnp.zeros((1, self.dim)), jnp.zeros((1,))
        return {
            "encoder": self.encoder.init(keys[0], z)["params"],
            "flow": self.flow.init(keys[1], x, t, heard)["params"],
        }

    def of(self, params, z: Float[Array, "b h w c"], keys: jax.Array) -> Float[Array, "b d"]:
        """Styles of codes' vectors as they arrive, by a key each."""
        told = self.encoder.apply({"params": params["encoder"]}, z)
        return told + self.noise * self._noise(keys)

    def loss(self, params, style, heard, rng) -> Float[Array, ""]:
        """Of the flow, which learns to draw styles and teaches the encoder nothing."""
        style = jax.lax.stop_gradient(style)
        return flow_loss(self.flow, params["flow"], style, rng, heard).mean()

    def draw(
        self,
        params,
        text: Float[Array, "b t"],
        keys: jax.Array,
        empty: Float[Array, "b t"] | None = None,
        scale: guidance.Scale = 1.0,
    ) -> Float[Array, "b d"]:
        """Draws a style for each text by a key of its own.

        Args:
          params: Those of `init`.
          text: Mean state of each text.
          keys: One per text.
          empty: Mean states of the empty text, for classifier-free guidance; None for none.
          scale: Guidance scale.
        """
        velocity = velocity_fn(self.flow, params["flow"], text)
        if empty is not None:
            unconditional = velocity_fn(self.flow, params["flow"], empty)
            velocity = guidance.guided(velocity, unconditional, scale)
        return follow(velocity, self._noise(keys))

    def _noise(self, keys):
        return jax.vmap(lambda key: jax.random.normal(key, (self.dim,)))(keys)
