import os
import signal
import time

import pytest

from gen_jax.common import folder_lock
from gen_jax.common.errors import UserError
from gen_jax.runs import lock


def test_sigterm_and_errors_release_the_lock(tmp_path):
    stage = tmp_path / "vae"
    stage.mkdir()
    with pytest.raises(SystemExit) as leaving, lock.held(tmp_path), lock.held(stage):
        assert folder_lock.holder(stage).pid == os.getpid()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert leaving.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert folder_lock.holder(tmp_path) is None and not list(stage.iterdir())
    with pytest.raises(UserError, match="any"), lock.held(tmp_path):
        raise UserError("any")
    assert [p.name for p in tmp_path.iterdir()] == ["vae"]
