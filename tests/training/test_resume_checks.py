"""What a run directory must still be when training resumes in it."""

import pytest

from configs import ldm
from gen_jax.common import config as config_lib
from gen_jax.common.errors import UserError
from gen_jax.runs import layout, manifest
from gen_jax.training import resume, stage


def test_a_damaged_config_and_other_frozen_weights_are_refused(tmp_path):
    (tmp_path / layout.CONFIG).write_text("{")
    with pytest.raises(UserError, match=r"config\.json: damaged, not JSON .* put back a copy"):
        stage.run(ldm.get_config("debug"), tmp_path)
    (tmp_path / layout.CONFIG).unlink()
    recorded = {"frozen_weights_sha256": {"vae": "of another run", "init": "a"}}
    layout.write_json(tmp_path / layout.MANIFEST, recorded)
    with pytest.raises(UserError, match="was trained on other weights of 'vae' until now"):
        stage.run(ldm.get_config("debug"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [layout.MANIFEST]
    now = {"vae": "of another run", "init": "b", "new": "c"}
    assert manifest.changed_weights(tmp_path, now) == ["init"]


def test_what_may_change_between_two_starts(tmp_path):
    config = ldm.get_config("debug")
    (tmp_path / layout.CONFIG).write_text(config_lib.to_json(config))
    with config.unlocked():
        config.training.update(best_metric="ldm/fd_untrained", keep=5)
    resume.check_same_run(config, tmp_path)
    with config.unlocked():
        config.training.seed = 7
    with pytest.raises(UserError, match=r"config\.training\.seed=0, this config has 7"):
        resume.check_same_run(config, tmp_path)
