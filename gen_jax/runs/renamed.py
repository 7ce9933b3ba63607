"""Keys of `config.json` that earlier versions wrote, translated into those of today.

Whatever reads the config of a run applies `current` to it, so that runs and packaged models of
earlier versions are still read, and training resumes in them.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from gen_jax.common.fields import defaults_of
from gen_jax.data.load.transforms import TRANSFORMS

Config = dict[str, Any]

_FIELDS = {
    "crop_scale": "crop_scale",
    "flip": "flip",
    "symmetries": "symmetries",
    "colour": "color_jitter",
    "degradation": "degradation",
    "gray": "gray",
    "curriculum_steps": "curriculum_steps",
    "instructions": "contradiction_prob",
}
"""Old key of `config.data` -> field of a transform."""


def _name_transform(config: Config) -> None:
    """Gathers what used to choose and set up the transform under `data.transform`."""
    data = config["data"]
    keys = (*_FIELDS, "face_words", "art_words")
    old = {key: data.pop(key) for key in keys if key in data}
    if old.get("degradation"):
        # -1 stood for no instructions.
        is_instructed = old.get("instructions", -1) >= 0
        name = "instructed_restoration" if is_instructed else "restoration"
    elif old.get("face_words"):
        name = "face_captions"
    elif config["task"].get("features"):
        name = "features"
    else:
        name = "art_captions" if old.get("art_words") else "crops"
    # The first versions lack the later keys, whose defaults leave images as they were.
    values = defaults_of(TRANSFORMS[name])
    values |= {new: old[key] for key, new in _FIELDS.items() if key in old and new in values}
    data["transform"] = {"name": name, **values}


RENAMED: tuple[tuple[str, str | Callable[[Config], None]], ...] = (
    ("data.crop_scale", _name_transform),
    ("task.told_share", "task.teacher_forcing_prob"),
    ("task.perceptual_where", "task.perceptual_ranges"),
    ("task.cond_dropout", "task.text_dropout_prob"),
    ("task.drop_text", "task.text_dropout_prob"),
    ("task.sample_latent", "task.sample_posterior"),
    ("task.coordinates", "task.use_coordinates"),
    ("task.keep_codes", "task.freeze_codes"),
    ("task.masked_views", "task.mask_prob"),
    ("task.network.text_places", "task.network.text_stages"),
    ("task.style.drop", "task.style.dropout_prob"),
    ("task.objective.reading_weight", "task.objective.classifier_weight"),
    ("task.objective.clusters", "task.objective.num_clusters"),
    ("task.objective.bank", "task.objective.memory_bank_size"),
    ("task.objective.places_weight", "task.objective.local_weight"),
    ("task.objective.whole_weight", "task.objective.global_weight"),
    ("task.objective.per_prompt", "task.objective.samples_per_prompt"),
    ("task.objective.pixel_side", "task.objective.pixel_size"),
    ("task.objective.samples", "task.objective.samples_per_image"),
    ("task.objective.hidden", "task.objective.hidden_size"),
    ("task.objective.flow_hidden", "task.objective.flow_hidden_size"),
    ("evaluators.image_quality.of", "evaluators.image_quality.predict_fn"),
)
"""Old path -> new path, or a function that changes the config in place. Applied in order to each
config that has the old path."""


def current(config: Mapping[str, Any]) -> Config:
    """Translates a config, and those that it requires.

    Args:
      config: Config of a run, as JSON gives it.

    Returns:
      A copy with the keys of today, the same if there is nothing to translate.
    """
    config = copy.deepcopy(dict(config))
    for old, new in RENAMED:
        if not _has(config, old):
            continue
        if callable(new):
            new(config)
        else:
            _move(config, old, new)
    if config.get("requires"):
        config["requires"] = {k: current(v) for k, v in config["requires"].items()}
    return config


def _has(config: Config, path: str) -> bool:
    tree: Any = config
    for key in path.split("."):
        if not isinstance(tree, dict) or key not in tree:
            return False
        tree = tree[key]
    return True


def _move(config: Config, old: str, new: str) -> None:
    holder, name = _holder(config, old)
    value = holder.pop(name)
    holder, name = _holder(config, new)
    holder[name] = value


def _holder(config: Config, path: str) -> tuple[Config, str]:
    """Returns the dict that has, or gets, the value at `path`, and its key there."""
    *parents, name = path.split(".")
    for key in parents:
        config = config.setdefault(key, {})
    return config, name
