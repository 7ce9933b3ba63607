"""Configs of earlier versions: read as those of today, and resumed."""

import json

import pytest

from configs import art, detail, encoder, faces, faces_text, ldm, restore, restore_text, vae, vqvae
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.runs import layout, renamed
from gen_jax.training import resume

# The keys of `config.data` that chose and set up the transform, as 0.1.0 wrote them.
OLD = dict(
    crop_scale=[0.8, 1.0], flip=True, symmetries=False, colour=0.0, degradation="", gray=False,
    instructions=-1.0, curriculum_steps=0, face_words=False, art_words=False,
)  # fmt: skip


def plain(config):
    """A config as config.json has it."""
    return json.loads(config_lib.to_json(config))


def downgraded(config, **changes):
    """The config as an earlier version wrote it: `OLD` and `changes` instead of a transform."""
    config = plain(config)
    del config["data"]["transform"]
    config["data"] |= OLD | changes
    return config


RECIPES = [
    (vae, "", dict(crop_scale=[0.7, 1.0])),
    (vae, "data=shapes", dict(crop_scale=[1.0, 1.0], flip=False)),
    (ldm, "data=photos", {}),
    (encoder, "", dict(crop_scale=[1.0, 1.0])),
    (restore, "gray", dict(degradation="photograph", gray=True)),
    (restore_text, "", dict(degradation="photograph", instructions=0.35)),
    (restore_text, "finish", dict(degradation="photograph_camera", instructions=0.35)),
    (faces, "", {}),
    (faces_text, "", dict(face_words=True)),
    (vqvae, "data=x", dict(crop_scale=[0.7, 1.0], symmetries=True)),
    (art, "data=x", dict(crop_scale=[0.7, 1.0], symmetries=True, art_words=True)),
    (art, "captions=own", dict(crop_scale=[1.0, 1.0])),
    (detail, "", dict(crop_scale=[0.7, 1.0])),
]


@pytest.mark.parametrize(("module", "arg", "changes"), RECIPES)
def test_old_keys_of_every_recipe_become_its_transform(module, arg, changes, tmp_path):
    config = module.get_config(arg)
    old = downgraded(config, **changes)
    unchanged = json.dumps(old)
    assert renamed.current(old) == plain(config)
    assert json.dumps(old) == unchanged
    assert renamed.current(plain(config)) == plain(config), "the keys of today stay"
    # Training resumes, and notices what differs.
    layout.write_json(tmp_path / layout.CONFIG, old)
    resume.check_same_run(config, tmp_path)
    with config.unlocked():
        config.data.transform.name = "other"
    with pytest.raises(UserError, match=r"holds a run with config\.data\.transform\.name="):
        resume.check_same_run(config, tmp_path)


def test_color_jitter_and_the_first_versions():
    old = downgraded(vae.get_config(), colour=0.3)
    assert renamed.current(old)["data"]["transform"]["color_jitter"] == 0.3
    for key in ("symmetries", "colour", "face_words", "art_words"):  # came later
        del old["data"][key]
    transform = renamed.current(old)["data"]["transform"]
    assert (transform["symmetries"], transform["color_jitter"]) == (False, 0.0)


def test_required_configs_are_translated_too():
    config = ldm.get_config("data=photos,vae=train")
    old = plain(config)
    old["requires"]["vae"] = downgraded(config.requires.vae, crop_scale=[0.7, 1.0])
    assert renamed.current(old) == plain(config)


def test_a_key_moves_with_its_value(monkeypatch):
    def drop(config):
        del config["c"]

    monkeypatch.setattr(renamed, "RENAMED", (("a.b", "x.y"), ("a.none", "x.none"), ("c", drop)))
    assert renamed.current({"a": {"b": 0, "k": 1}, "c": 2}) == {"a": {"k": 1}, "x": {"y": 0}}
    assert renamed.current({"a": 1}) == {"a": 1}
