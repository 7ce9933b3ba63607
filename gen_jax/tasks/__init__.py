"""Stages: what each one trains, as pure functions. A new stage is a line in `TASKS`."""

from collections.abc import Mapping
from typing import Any

from gen_jax.common.build import class_of
from gen_jax.tasks.base import Task

# Name -> "module:class", imported when it is built, so that commands start quickly.
TASKS = {
    "vae": "gen_jax.tasks.vae:VAETask",
    "ldm": "gen_jax.tasks.ldm:LDMTask",
    "dino": "gen_jax.tasks.dino:DINOTask",
    "restore": "gen_jax.tasks.restore:RestoreTask",
    "restore_error": "gen_jax.tasks.restore_error:RestoreErrorTask",
    "restore_ldm": "gen_jax.tasks.restore_ldm:RestoreLDMTask",
    "mask_feat": "gen_jax.tasks.mask_feat:MaskFeatTask",
    "faces": "gen_jax.tasks.faces:FacesTask",
    "vqvae": "gen_jax.tasks.vqvae:VQVAETask",
    "art": "gen_jax.tasks.art:ArtTask",
    "engravings": "gen_jax.tasks.engravings:EngravingsTask",
    "detail": "gen_jax.tasks.detail:DetailTask",
    "heads": "gen_jax.tasks.heads:HeadsTask",
}


def build_task(config: Mapping[str, Any], frozen_tasks: Mapping[str, Any] | None = None) -> Task:
    """Builds the task that `config["name"]` names.

    Args:
      config: `config.task`, plain values.
      frozen_tasks: Name in `config.frozen` -> task of that trained model.

    Raises:
      UserError: There is no such task, or a key does not fit it.
    """
    values = dict(config)
    kind = class_of(TASKS, values.pop("name", None), "config.task")
    return kind.from_config(values, frozen_tasks or {})
