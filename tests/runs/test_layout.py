import pytest

from gen_jax.common.errors import UserError
from gen_jax.runs import layout


@pytest.mark.parametrize("name", ["workdir", "--out"])
def test_unwritable_folder_is_named_as_its_caller_calls_it(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"^{name}={tmp_path}/file/run: cannot write there"):
        layout.make(tmp_path / "file" / "run", *([] if name == "workdir" else [name]))
