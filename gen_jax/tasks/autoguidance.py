"""Sampling of a prior away from what a weaker one would have drawn (arXiv 2406.02507)."""

import dataclasses

from gen_jax.diffusion import tokens as sampling
from gen_jax.tasks.art import ArtTask

_MINE = ("guidance", "like", "style")  # of a batch, what is not the guide's


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoguidedArtTask(ArtTask):
    """A trained prior with a guide, whose faults are its own, and larger: a smaller prior over the
    same codes, or one that trained for less long.

    Attributes:
      guide: the weaker prior's stage. `frozen["guide"]` has its "params", and as "frozen" what it
        works on in turn.
      guide_scale: how far logits are taken from the guide's: 1 leaves them.
    """

    guide: ArtTask
    guide_scale: float = 2.0

    def logits_fn(self, params, batch, frozen):
        mine = super().logits_fn(params, batch, frozen)
        theirs = self._guides("logits_fn", batch, frozen)
        return lambda ids: sampling.guided(mine(ids), theirs(ids), self.guide_scale)

    def step_fn(self, params, batch, frozen):
        mine, cache = super().step_fn(params, batch, frozen)
        theirs, other = self._guides("step_fn", batch, frozen)

        def step_fn(ids, index, caches):
            logits, cache = mine(ids, index, caches[0])
            weaker, other = theirs(ids, index, caches[1])
            return sampling.guided(logits, weaker, self.guide_scale), (cache, other)

        return step_fn, (cache, other)

    def _guides(self, name, batch, frozen):
        """The guide's own function: it hears the texts, and is not taken away from none. Of styles
        it is told nothing: its own would be others.
        """
        guide = dataclasses.replace(self.guide, guidance_scale=1.0)
        batch = {k: v for k, v in batch.items() if k not in _MINE}
        return getattr(guide, name)(frozen["guide"]["params"], batch, frozen["guide"]["frozen"])
