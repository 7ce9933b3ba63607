import pytest

from gen_jax.common.errors import UserError
from gen_jax.runs import layout


@pytest.mark.parametrize("flag", ["--workdir", "--out"])
def test_unwritable_folder_is_named_with_its_flag(tmp_path, flag):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"^{flag}={tmp_path}/file/run: cannot write there"):
        layout.make(tmp_path / "file" / "run", *([] if flag == "--workdir" else [flag]))
