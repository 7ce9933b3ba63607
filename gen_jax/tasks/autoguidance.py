"""Sampling of a prior away from what a weaker one would have drawn (arXiv 2406.02507)."""

import dataclasses

from gen_jax.diffusion import guidance
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

    @classmethod
    def of(cls, task: ArtTask, guide: ArtTask, scale: float | int) -> "AutoguidedArtTask":
        """Returns the task with a guide."""
        own = {f.name: vars(task)[f.name] for f in dataclasses.fields(ArtTask)}
        return cls(**own, guide=guide, guide_scale=scale)

    def logits_fn(self, params, batch, frozen):
        mine = super().logits_fn(params, batch, frozen)
        theirs = self._guide().logits_fn(*_theirs(batch, frozen))
        return lambda ids: guidance.combine(mine(ids), theirs(ids), self.guide_scale)

    def step_fn(self, params, batch, frozen):
        mine, cache = super().step_fn(params, batch, frozen)
        theirs, other = self._guide().step_fn(*_theirs(batch, frozen))

        def step_fn(ids, index, caches):
            logits, cache = mine(ids, index, caches[0])
            weaker, other = theirs(ids, index, caches[1])
            return guidance.combine(logits, weaker, self.guide_scale), (cache, other)

        return step_fn, (cache, other)

    def _guide(self) -> ArtTask:
        """The guide as it is conditioned on the text, itself without guidance."""
        return dataclasses.replace(self.guide, guidance_scale=1.0)


def _theirs(batch, frozen):
    """Parameters, batch and frozen models of the guide, whose styles would be others."""
    batch = {k: v for k, v in batch.items() if k not in _MINE}
    return frozen["guide"]["params"], batch, frozen["guide"]["frozen"]
