"""The encoder stage by masked feature prediction: a vision transformer learns from images alone.

Every patch token tells the histograms of gradients and the colours of its surroundings, whether the
patch was shown or masked (MaskFeat, arXiv:2112.09133, which asks masked patches alone). What a
shown patch is asked shapes the distances between tokens within minutes; what a masked one is asked
needs the rest of the picture. The class token tells the layout of the whole. No second view and no
teacher, so that a step costs a forward and a backward pass of one view: what two CPU cores afford.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gen_jax.common.build import build
from gen_jax.common.errors import UserError
from gen_jax.common.fields import Part
from gen_jax.data.load.views import Views
from gen_jax.encoders.dinov2 import DINOv2
from gen_jax.losses import surroundings
from gen_jax.losses.self_distillation import spread
from gen_jax.tasks import towers
from gen_jax.tasks.base import Task

_PARTS = {"encoder": DINOv2, "views": Views}


@dataclasses.dataclass(frozen=True)
class MaskFeatTask(Task):
    """Trains a DINOv2 tower.

    Attributes:
      encoder: the tower, with a mask token.
      views: how a view of an image is drawn; targets are taken from the view itself.
      image_size: side of the images that the data gives, in pixels.
      mask_ratio: share of a masked view's patches that are hidden.
      mask_prob: share of the views that are masked at all.
      masked_weight: of a hidden patch's error beside a shown one's.
      color_weight: of the colours beside either histogram.
      layout_weight: of the class token's error.
    """

    encoder: DINOv2
    views: Views
    image_size: int = 96
    mask_ratio: float = 0.35
    mask_prob: float = 0.5
    masked_weight: float = 0.5
    color_weight: float = 1.0
    layout_weight: float = 0.5

    parts: ClassVar = {name: Part(kind) for name, kind in _PARTS.items()}
    rng_streams = ("views", "mask")

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None
    ) -> "MaskFeatTask":
        """Builds it from `config.task`.

        Raises:
          UserError: a key that does not exist or does not fit.
        """
        task = build(cls, towers.build_parts(config, _PARTS), "config.task")
        if task.views.size % task.encoder.patch_size or task.encoder.patch_size % 2:
            raise UserError(
                f"config.task.views.size={task.views.size} must be a multiple of "
                f"config.task.encoder.patch_size={task.encoder.patch_size}, which must be even"
            )
        if not task.encoder.use_mask_token:
            raise UserError("config.task.encoder.use_mask_token=False: must be True")
        return task

    def batch_spec(self):
        side = self.image_size
        return {"image": jax.ShapeDtypeStruct((side, side, 3), jnp.uint8)}

    def init(self, rng, batch):
        backbone = towers.first_parameters(self.encoder, rng)
        token = jnp.zeros((1, self.encoder.hidden_size))
        cells = (self.views.size // self.encoder.patch_size) ** 2
        widths = {"head": surroundings.WIDTH, "layout_head": cells * surroundings.LAYOUT_WIDTH}
        heads = {k: _linear(n).init(rng, token)["params"] for k, n in widths.items()}
        return {"model": {"backbone": backbone, **heads}}, {}

    def losses(self):
        return {"model": self._loss}

    def predict_fns(self):
        return {"features": self._features}

    def components(self, variables, frozen):
        return {"encoder": (self.encoder, self.as_frozen(variables))}

    def as_frozen(self, variables) -> dict[str, Any]:
        """Parameters of the tower, as `encoders.load` gives them."""
        return variables["params"]["model"]["backbone"]

    def _features(self, variables, batch, rngs, frozen):
        return towers.features(self.encoder, self.as_frozen(variables), batch["image"])

    def _loss(self, params, everything, extra, batch, rngs, frozen):
        views = self.views.draw(rngs["views"], batch["image"])
        n, side = len(views), self.views.size // self.encoder.patch_size
        masked, _ = towers.random_masks(rngs["mask"], n, side, self.mask_ratio)
        # Spread over the batch, so that every device has its share of masked views.
        chosen = jnp.floor(jnp.arange(1, n + 1) * self.mask_prob) > jnp.floor(
            jnp.arange(n) * self.mask_prob
        )
        masked &= chosen[:, None, None]
        out = self.encoder.apply({"params": params["backbone"]}, towers.normalised(views), masked)
        target = surroundings.describe(views, self.encoder.patch_size)
        groups = surroundings.errors(_told(params["head"], out["patches"]), target)
        error = groups["fine"] + groups["coarse"] + self.color_weight * groups["color"]
        target = surroundings.layout(views, self.encoder.patch_size)
        layout = surroundings.standard_error(
            _told(params["layout_head"], out["cls"]), target
        ).mean()
        loss = (error * jnp.where(masked, self.masked_weight, 1.0)).mean()
        loss += self.layout_weight * layout
        found = {f"model/{k}": (v * ~masked).sum() / (~masked).sum() for k, v in groups.items()}
        hidden = (error * masked).sum() / jnp.maximum(masked.sum(), 1)
        found |= {"model/hidden": hidden, "model/layout": layout}
        found |= {"model/feature_std": spread(_rows(out["patches"]))}
        return loss, (found, extra)


def _linear(width):
    # From zero, so that it begins with the mean and not far beside it.
    return nn.Dense(width, kernel_init=nn.initializers.zeros_init())


def _told(params, tokens):
    return _linear(params["bias"].size).apply({"params": params}, tokens)


def _rows(tokens):
    return tokens.reshape(-1, tokens.shape[-1])
