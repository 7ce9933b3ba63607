"""Sampling of codes by a prior that hears text: the part of a stage that a guide has, too."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common import pixels
from gen_jax.diffusion import guidance
from gen_jax.diffusion import tokens as sampling
from gen_jax.models.layers.conditioning import masked_mean
from gen_jax.models.token_transformer import TokenTransformer
from gen_jax.tasks import text
from gen_jax.tasks.base import Task
from gen_jax.tasks.style import Style
from gen_jax.tasks.vqvae import VQVAETask

_OF_STYLE = 2**32 - 2  # folded into a picture's key, its codes being drawn by others


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodePrior(Task):
    """Draws codes for texts, all at once in few steps or one after the other.

    Attributes:
      vqvae: the trained one, whose parameters are `frozen["vqvae"]`.
      prior: over its codes.
      text_encoder: reads adjectives.
      style: what the prior is given of the whole picture besides; none for nothing.
      guidance_scale: of sampling, 1 for none.
      num_inference_steps: of a masked prior's sampling.
      temperature: of the codes drawn.
      choice_temperature: see `diffusion.tokens.parallel_decode`.
    """

    vqvae: VQVAETask
    prior: TokenTransformer
    # `field()`: without it the default of `Task` would count as this field's.
    text_encoder: nn.Module | text.FrozenText = dataclasses.field()
    style: Style | None = None
    guidance_scale: float = 2.0
    num_inference_steps: int = 16
    temperature: float = 1.0
    choice_temperature: float = 2.0

    pipeline = "code_prior"

    def sampling_settings(self):
        names = ("guidance_scale", "temperature")
        if not self.prior.is_causal:  # an ordered prior draws one code after the other
            names += ("num_inference_steps", "choice_temperature")
        return {name: getattr(self, name) for name in names}

    def draw(self, params, batch, frozen, keys):
        """Codes [b, n] for the batch's texts by a key each."""
        draw = self._in_order if self.prior.is_causal else self._at_once
        return draw(params, batch, frozen, keys)

    def told(self, params, batch, frozen, count: int = 0):
        """What the prior is given besides codes: "text" and "mask", those of the empty text where
        the batch has none, and "style", zeros where it has none.
        """
        tokens, mask = (
            (batch["tokens"], batch["token_mask"])
            if "tokens" in batch
            else text.empty(self.text_encoder, count)
        )
        states, seen = text.encode(self.text_encoder, params, frozen, tokens, mask)
        told = {"text": states, "mask": mask if seen is None else seen}
        if self.style is not None:
            told["style"] = batch.get("style", jnp.zeros((len(tokens), self.style.dim)))
        return told

    def with_style(self, params, batch, frozen, keys):
        """The batch with styles: those of pictures that it is to be "like", or drawn for texts with
        their guidance.
        """
        if self.style is None or "style" in batch:
            return batch
        keys = jax.vmap(lambda key: jax.random.fold_in(key, _OF_STYLE))(keys)
        if "like" in batch:
            grid = self.vqvae.codes(frozen["vqvae"], pixels.to_signed(batch["like"]))
            return {**batch, "style": self.style_of(params, grid, frozen, keys)}
        count, scale = len(keys), self._scale(batch, len(keys))
        heard = self._heard(params, batch, frozen, count)
        guided = {}
        if scale is not None:
            guided = {"empty": self._heard(params, {}, frozen, count), "scale": scale}
        return {**batch, "style": self.style.draw(params["style"], heard, keys, **guided)}

    def _heard(self, params, batch, frozen, count):
        told = self.told(params, batch, frozen, count)
        return masked_mean(told["text"], told["mask"])

    def style_of(self, params, grid, frozen, keys):
        """Styles of codes [b, *grid] by a key each."""
        z = self.vqvae.quantizer.lookup(grid, frozen["vqvae"]["codebook"])
        return self.style.of(params["style"], z, keys)

    def _at_once(self, params, batch, frozen, keys):
        return sampling.parallel_decode(
            self.logits_fn(params, batch, frozen),
            keys,
            self.prior.length,
            self.prior.num_codes,
            steps=self.num_inference_steps,
            temperature=self.temperature,
            choice_temperature=self.choice_temperature,
        )

    def _in_order(self, params, batch, frozen, keys):
        step_fn, cache = self.step_fn(params, batch, frozen)
        return sampling.ordered_decode(
            step_fn,
            cache,
            keys,
            self.prior.length,
            self.prior.num_codes,
            temperature=self.temperature,
        )

    def logits_fn(self, params, batch, frozen) -> sampling.LogitsFn:
        """What a masked prior draws codes by, for the batch's texts, with their guidance."""
        both, scale = self._with_none(params, batch, frozen)

        def logits_fn(ids):
            logits = self.prior.apply({"params": params["prior"]}, _twice(ids, scale), **both)
            return _guided(logits, scale)

        return logits_fn

    def step_fn(self, params, batch, frozen):
        """The same of an ordered prior, see `diffusion.tokens.ordered_decode`; its empty cache."""
        both, scale = self._with_none(params, batch, frozen)

        def step_fn(ids, index, cache):
            logits, cache = self.prior.apply(
                {"params": params["prior"]}, _twice(ids, scale), index, cache, method="step", **both
            )
            return _guided(logits, scale), cache

        return step_fn, self.prior.empty_cache(len(both["text"]))

    def _with_none(self, params, batch, frozen):
        """What the prior is told, with guidance what of no text after it; and its scale [b]."""
        count = len(batch["seed"])
        told, scale = self.told(params, batch, frozen, count), self._scale(batch, count)
        if scale is not None:
            blank = self.told(params, {}, frozen, count)
            told = jax.tree.map(lambda *pair: jnp.concatenate(pair), told, blank)
        return told, scale

    def _scale(self, batch, count):
        """Of guidance for each picture [b]; none where none is guided."""
        if "guidance" in batch or self.guidance_scale == 1.0:
            return batch.get("guidance")
        return jnp.full((count,), self.guidance_scale)


def _twice(ids, scale):
    """Once for the text and once for none, where there is guidance."""
    return ids if scale is None else jnp.concatenate([ids, ids])


def _guided(logits, scale):
    """One set of logits of both halves, where there is guidance."""
    if scale is None:
        return logits
    return guidance.combine(*jnp.split(logits, 2), scale)
