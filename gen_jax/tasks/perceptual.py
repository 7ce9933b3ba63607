"""The perceptual term of a stage: one that needs no weights, or LPIPS through a frozen tower."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float

from gen_jax.common.errors import UserError
from gen_jax.encoders import catalog
from gen_jax.encoders.lpips import LPIPS
from gen_jax.losses import perceptual

LPIPS_NAME = "lpips"
FROZEN = "perceptual"
"""The tower's place in `frozen`."""


@dataclasses.dataclass(frozen=True)
class PerceptualTerm:
    """Which term it is; build it with `make_term`.

    Attributes:
      name: "lpips", or one of `losses.perceptual.TERMS`.
      encoder: of LPIPS, "NAME:WEIGHTS"; see `encoders.catalog.parse`.
    """

    name: str
    encoder: str = ""

    def frozen_encoders(self) -> dict[str, str]:
        """What the trainer has to load: place in `frozen` -> "NAME:WEIGHTS".

        Raises:
          UserError: LPIPS without weights.
        """
        if self.name != LPIPS_NAME:
            return {}
        net, weights = _parsed(self.encoder)
        if weights is None:
            heads = "" if net == "lpips-st-alex" else ",HEADS.safetensors"
            raise UserError(
                f"config.task.perceptual_encoder={self.encoder!r}: the weights of {net} are "
                f"missing: set config.task.perceptual_encoder={net}:TOWER.safetensors{heads} "
                "(docs/encoders.md says where they come from), or do without: "
                "config.task.perceptual=multiscale_gradient"
            )
        return {FROZEN: self.encoder}

    def __call__(
        self, x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], frozen: Mapping[str, Any]
    ) -> Float[Array, "b"]:
        """The distance of each pair, 0 where they are equal.

        Args:
          x: images in [-1, 1]; no gradient is wanted of them.
          y: their reconstructions.
          frozen: with LPIPS, its parameters under `FROZEN`.
        """
        if self.name != LPIPS_NAME:
            return perceptual.TERMS[self.name](x, y)
        net, _ = _parsed(self.encoder)
        # A loss bears JAX's default precision, which accelerators compute several times faster.
        tower = LPIPS(_net(net), precision=None)
        return tower.apply({"params": frozen[FROZEN]}, y, x)


def make_term(name: str, encoder: str) -> PerceptualTerm:
    """The term that `config.task.perceptual` and `perceptual_encoder` name.

    Raises:
      UserError: an unknown term, or an encoder that is none of LPIPS's.
    """
    known = sorted((*perceptual.TERMS, LPIPS_NAME))
    if name not in known:
        raise UserError(f"config.task.perceptual={name!r}: expected one of {', '.join(known)}")
    if name == LPIPS_NAME:
        _parsed(encoder)
    return PerceptualTerm(name, encoder)


def _parsed(encoder: str) -> tuple[str, str | None]:
    towers = [n for n in catalog.TOWERS if n.startswith("lpips-")]
    try:
        name, weights = catalog.parse(encoder)
    except UserError as error:
        raise UserError(f"config.task.perceptual_encoder: {error}") from None
    if name not in towers:
        raise UserError(
            f"config.task.perceptual_encoder={encoder!r}: expected NAME:WEIGHTS with one of "
            f"{', '.join(towers)}"
        )
    return name, weights


def _net(name: str) -> str:
    return name.removeprefix("lpips-").replace("-", "_")
