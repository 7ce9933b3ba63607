"""The stage of pictures by adjectives: a prior over a trained VQ-VAE's codes, which hears text.

With `decoder_weight` the decoder is fine-tuned along and hears the text, too.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from gen_jax.common import pixels, ranges
from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.diffusion import tokens as sampling
from gen_jax.models.layers.conditioning import masked_mean
from gen_jax.models.token_transformer import TokenTransformer
from gen_jax.models.vqvae import VQVAE
from gen_jax.tasks import first_stage, text
from gen_jax.tasks.base import SEED, upstream
from gen_jax.tasks.code_prior import CodePrior
from gen_jax.tasks.detail import DetailTask
from gen_jax.tasks.style import Style
from gen_jax.tasks.vqvae import VQVAETask

# The parts of a VQ-VAE that lie behind its codes.
_DECODER = ("decoder_", "ups_", "patch_out", "head_", "steering_")
_OF_DETAIL = 2**32 - 1  # folded into a picture's key, its codes being drawn by others


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtTask(CodePrior):
    """Trains a transformer on codes: a masked one (MaskGIT, arXiv 2202.04200) or, if it is causal,
    one that goes in order (arXiv 2012.09841, section 3.2).

    Attributes:
      text_dropout_prob: Probability that a text is replaced by the empty one in training, for
        classifier-free guidance.
      label_smoothing: Label smoothing of the codes' cross-entropy.
      decoder_weight: Weight of the reconstruction terms that the VQ-VAE was trained with, except
        for the adversarial one. 0 keeps the decoder frozen and unconditional.
      detail: Refiner of generated images, with the parameters `frozen["detail"]`; it has no part in
        training (`pipelines.model_changes.with_refiner`).
    """

    text_dropout_prob: float = 0.1
    label_smoothing: float = 0.0
    decoder_weight: float = 0.0
    detail: DetailTask | None = None

    parts: ClassVar = {
        "prior": Part(TokenTransformer, derived=("num_codes", "grid")),
        "text_encoder": Part(text.CONFIGS),
        "style": Part(Style),
    }
    rng_streams = ("hide", "drop_text", "dropout", "sample", "window", "style")

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "ArtTask":
        """Builds it from `config.task`.

        Args:
          config: its values.
          frozen_tasks: the VQ-VAE's as "vqvae"; a frozen text tower as "text", where one is named.

        Raises:
          UserError: a key that does not exist or does not fit, or no VQ-VAE.
        """
        values, found = dict(config), frozen_tasks or {}
        advice = "a prior needs the codes of a VQ-VAE; name a run of configs/vqvae.py"
        vqvae = upstream(found, "vqvae", VQVAETask, advice)
        for name in ("prior", "text_encoder"):
            if name not in values:
                raise UserError(f"config.task.{name} is missing; see configs/art.py")
        if "detail" in values:
            raise UserError(
                "config.task.detail: it has no part in training; name the run as the refiner of "
                "generate or evaluate"
            )
        fields = {**values["prior"], "num_codes": vqvae.quantizer.num_codes, "grid": vqvae.grid}
        values["prior"] = build(TokenTransformer, fields, "config.task.prior")
        values["text_encoder"] = text.build_text_encoder(values["text_encoder"], found)
        if values.get("style") is not None:
            values["style"] = Style.from_config(values["style"])
        task = build(cls, {**values, "vqvae": vqvae}, "config.task")
        steps = task.num_inference_steps
        ranges.check_range(steps, ranges.AT_LEAST_1, "config.task.num_inference_steps", int)
        return task

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels."""
        return self.vqvae.image_size

    def batch_spec(self):
        length = (self.text_encoder.max_length,)
        return {
            **self.vqvae.batch_spec(),
            "tokens": jax.ShapeDtypeStruct(length, jnp.int32),
            "token_mask": jax.ShapeDtypeStruct(length, jnp.bool_),
        }

    def init(self, rng, batch):
        keys = jax.random.split(rng, 3)
        tokens, mask = batch["tokens"][:1], batch["token_mask"][:1]
        states = jnp.zeros((*tokens.shape, self.text_encoder.hidden_size))
        ids = jnp.zeros((1, self.prior.length), jnp.int32)
        model = text.init(self.text_encoder, keys[0], tokens, mask)
        told = {}
        if self.style is not None:
            z = jnp.zeros((1, *self.prior.grid[:2], self.vqvae.quantizer.dim))
            model["style"] = self.style.init(
                jax.random.fold_in(rng, 3), z, masked_mean(states, mask)
            )
            told = {"style": jnp.zeros((1, self.style.dim))}
        model["prior"] = self.prior.init(keys[1], ids, states, mask, **told)["params"]
        if self.decoder_weight:
            image = jnp.zeros((1, *self.vqvae.batch_spec()["image"].shape))
            made = self._decoder.init(keys[2], image, states, mask)["params"]
            # What is learnt of the decoder is added to what it was: nothing, to begin with.
            model["decoder"] = {
                name: tree if name.startswith("steering_") else jax.tree.map(jnp.zeros_like, tree)
                for name, tree in made.items()
                if name.startswith(_DECODER)
            }
        return {"model": model}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {
            "generate": self._generate,
            "reconstruct": self._reconstruct,
            "random": self._random,
            "score": self._score,
            "look": self._look,
        }

    def predict_spec(self):
        spec = self.batch_spec()
        prompted = {"seed": SEED, "tokens": spec["tokens"], "token_mask": spec["token_mask"]}
        return {
            "generate": prompted,
            "reconstruct": spec,
            "random": {"seed": SEED},
            "score": spec,
            "look": prompted,
        }

    @property
    def _first(self) -> VQVAETask:
        """The VQ-VAE's stage without a discriminator, which its run has kept to itself."""
        return dataclasses.replace(self.vqvae, discriminator=None)

    def frozen_encoders(self):
        return self._first.frozen_encoders() if self.decoder_weight else {}

    @property
    def _decoder(self) -> VQVAE:
        """The VQ-VAE with a decoder that hears."""
        return self.vqvae.autoencoder.clone(text=True)

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        x = pixels.to_signed(batch["image"])
        grid = jax.lax.stop_gradient(self.vqvae.codes(frozen["vqvae"], x))
        codes = grid.reshape(len(x), -1)
        told = self.told(params, self._with_dropped_text(batch, rngs), frozen)
        metrics, loss = {}, 0.0
        if self.style is not None:
            loss, told["style"] = self._learn_style(params, grid, told, frozen, rngs)
            metrics["model/style"] = loss
        logits, counted = self._logits(params, codes, told, rngs["hide"], rngs.get("dropout"))
        nll, right = self._of_codes(logits, codes, counted)
        metrics |= {"model/prior_nll": nll, "model/prior_accuracy": right}
        loss = loss + self._smoothed(logits, codes, counted, nll)
        if self.decoder_weight:
            y = self._images(params, frozen, grid, told)
            terms = self._first.terms(x, y, everything, 0, frozen, rngs["window"])
            metrics |= {f"model/image_{name}": value for name, (_, value) in terms.items()}
            loss = loss + self.decoder_weight * sum(w * value for w, value in terms.values())
        return loss, (metrics, extra)

    def _learn_style(self, params, grid, told, frozen, rngs):
        """The flow's loss, and the styles of codes with some left out: all whose text is."""
        keys = jax.random.split(rngs["style"], 3)
        each = jax.random.split(keys[0], len(grid))
        style = self.style_of(params, grid, frozen, each)
        heard = masked_mean(told["text"], told["mask"])
        loss = self.style.loss(params["style"], style, heard, keys[1])
        kept = jax.random.bernoulli(keys[2], 1.0 - self.style.dropout_prob, (len(grid),))
        kept &= ~self._dropped(len(grid), rngs)
        return loss, jnp.where(kept[:, None], style, 0.0)

    def _logits(self, params, codes, told, rng, dropout=None):
        """Logits [b, n, k], and which places count: the hidden ones, or all."""
        ids, counted = self._asked(codes, rng)
        rngs = {} if dropout is None else {"dropout": dropout}
        logits = self.prior.apply(
            {"params": params["prior"]}, ids, deterministic=dropout is None, rngs=rngs, **told
        )
        return logits, counted

    def _asked(self, codes, rng):
        """What the prior is given of codes [b, n], and the places whose codes it is to tell."""
        if not self.prior.is_causal:
            return sampling.hide(codes, self.prior.num_codes, rng)
        begin = jnp.full_like(codes[:, :1], self.prior.num_codes)
        return jnp.concatenate([begin, codes[:, :-1]], 1), jnp.ones_like(codes, bool)

    def _of_codes(self, logits, codes, counted):
        """Mean negative log likelihood in nats, and the share told right, where they count."""
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, codes)
        right = (logits.argmax(-1) == codes).astype(jnp.float32)
        weight = counted.astype(jnp.float32)
        return (nll * weight).sum() / weight.sum(), (right * weight).sum() / weight.sum()

    def _smoothed(self, logits, codes, counted, nll):
        if not self.label_smoothing:
            return nll
        weight = counted.astype(jnp.float32)
        uniform = -(jax.nn.log_softmax(logits).mean(-1) * weight).sum() / weight.sum()
        return (1.0 - self.label_smoothing) * nll + self.label_smoothing * uniform

    def _with_dropped_text(self, batch, rngs):
        count = len(batch["tokens"])
        dropped = self._dropped(count, rngs)[:, None]
        tokens, mask = text.empty(self.text_encoder, count)
        return {
            **batch,
            "tokens": jnp.where(dropped, tokens, batch["tokens"]),
            "token_mask": jnp.where(dropped, mask, batch["token_mask"]),
        }

    def _dropped(self, count, rngs):
        return jax.random.bernoulli(rngs["drop_text"], self.text_dropout_prob, (count,))

    def _images(self, params, frozen, grid, told):
        """Codes [b, *grid] to images in about [-1, 1], by the decoder as it now is."""
        if not self.decoder_weight:
            return self.vqvae.images(frozen["vqvae"], grid)
        old = frozen["vqvae"]["params"]
        new = {
            name: tree if name.startswith("steering_") else jax.tree.map(jnp.add, old[name], tree)
            for name, tree in params["decoder"].items()
        }
        z = self.vqvae.quantizer.lookup(grid, frozen["vqvae"]["codebook"])
        return self._decoder.apply(
            {"params": {**old, **new}}, z, told["text"], told["mask"], method="decode"
        )

    def _generate(self, variables, batch, rngs, frozen):
        """Pictures "image" of texts ("tokens", "token_mask"; none is the empty text) by "seed",
        uint32 [b]: each of its own seed and text alone; and their "codes". "guidance" [b] takes
        the place of the task's own scale; images "like" [b, h, w, 3] give their styles, and so
        does "style" [b, d]: else it is drawn for the text.
        """
        params, count = variables["params"]["model"], len(batch["seed"])
        keys = jax.vmap(jax.random.key)(batch["seed"].astype(jnp.uint32))
        batch = self.with_style(params, batch, frozen, keys)
        grid = self.draw(params, batch, frozen, keys).reshape(count, *self.prior.grid)
        y = self._images(params, frozen, grid, self.told(params, batch, frozen, count))
        return {**self._with_detail(y, keys, frozen), "codes": grid}

    def _with_detail(self, y, keys, frozen):
        """Adds the detail, if any is drawn, to decoded images in about [-1, 1]; see `to_images`."""
        if self.detail is not None:
            mine = jax.vmap(lambda key: jax.random.fold_in(key, _OF_DETAIL))(keys)
            y = self.detail.add(frozen["detail"], y, mine)
        return first_stage.to_images(y)

    def _reconstruct(self, variables, batch, rngs, frozen):
        """Held-out images through their codes, by the decoder as it now is (hearing nothing)."""
        x = pixels.to_signed(batch["image"])
        grid, params = self.vqvae.codes(frozen["vqvae"], x), variables["params"]["model"]
        y = self._images(params, frozen, grid, self.told(params, batch, frozen, len(x)))
        keys = jax.random.split(rngs["sample"], len(x))
        return {**self._with_detail(y, keys, frozen), "codes": grid}

    def _random(self, variables, batch, rngs, frozen):
        """Pictures of codes that are drawn evenly: what a VQ-VAE is without a prior."""
        keys = jax.vmap(jax.random.key)(batch["seed"].astype(jnp.uint32))
        grid = jax.vmap(lambda k: jax.random.randint(k, self.prior.grid, 0, self.prior.num_codes))(
            keys
        )
        y = self.vqvae.images(frozen["vqvae"], grid)
        return self._with_detail(y, keys, frozen)

    def _score(self, variables, batch, rngs, frozen):
        """How likely the codes of images are with their texts: "nll" in nats a code, float [b]."""
        x, params = pixels.to_signed(batch["image"]), variables["params"]["model"]
        codes = self.vqvae.codes(frozen["vqvae"], x).reshape(len(x), -1)
        told = self.told(params, batch, frozen, len(x))
        logits, counted = self._logits(params, codes, told, rngs["hide"])
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, codes)
        weight = counted.astype(jnp.float32)
        return {"nll": (nll * weight).sum(-1) / weight.sum(-1)}

    def _look(self, variables, batch, rngs, frozen):
        """Pictures of texts ("seed", "tokens", "token_mask"), and "attention" [b, rows, columns,
        tokens]: how much each place looks at each token of the text, the mean over heads, layers
        and depth, with a part of the codes hidden or, in order, all of those that follow.
        """
        params = variables["params"]["model"]
        keys = jax.vmap(jax.random.key)(batch["seed"].astype(jnp.uint32))
        batch = self.with_style(params, batch, frozen, keys)
        made = self._generate(variables, batch, rngs, frozen)
        codes = made["codes"].reshape(len(made["codes"]), -1)
        ids, _ = self._asked(codes, rngs["hide"])
        told = self.told(params, batch, frozen)
        _, found = self.prior.apply(
            {"params": params["prior"]}, ids, mutable=["intermediates"], **told
        )
        looks = jnp.stack([leaf.mean(1) for leaf in jax.tree.leaves(found)]).mean(0)
        grid = looks.reshape(len(codes), *self.prior.grid, -1).mean(3)
        return {"image": made["image"], "attention": grid}
