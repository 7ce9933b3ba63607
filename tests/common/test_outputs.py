"""Outputs are checked before the work and appear whole or not at all."""

import os

import pytest

from gen_jax.common import outputs
from gen_jax.common.errors import UserError


def test_places_that_cannot_be_written_are_named_with_their_flag(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for check, path, words in (
        (outputs.check_folder, "file", "is a file, expected a folder"),
        (outputs.check_folder, "file/below", "cannot write there (Not a directory)"),
        (outputs.check_folder, "link", "is a link to nothing"),
        (outputs.check_folder, "n" * 300, "cannot write there (File name too long)"),
        (outputs.check_file, ".", "is a folder, expected a file"),
        (outputs.check_file, "new/", "is a folder, expected a file"),
        (outputs.check_file, "file/m.json", "cannot write there (Not a directory)"),
    ):
        with pytest.raises(UserError) as error:
            check(f"{tmp_path}/{path}", "--out")
        assert str(error.value).startswith(f"--out={tmp_path}/{path}: {words}")


def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(UserError, match=r"--out=.*: cannot write there \(Permission denied\)"):
        outputs.check_file(tmp_path / "new" / "m.json", "--out")


def test_a_check_creates_nothing(tmp_path):
    assert outputs.check_folder(f"{tmp_path}/a/b/", "--out") == tmp_path / "a" / "b"
    assert outputs.check_file(f"{tmp_path}/a/m.json", "--out") == tmp_path / "a" / "m.json"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_new", [True, False])
def test_a_folder_is_written_whole_or_not_at_all(tmp_path, is_new):
    folder = tmp_path / "a" / "b"
    if not is_new:
        folder.mkdir(parents=True)
        for name in ("mine", "old", "same"):
            (folder / name).write_text(name)
    before = sorted(tmp_path.rglob("*"))
    replaced = [] if is_new else [folder / "old", folder / "same"]

    def write(fails):
        with outputs.writing(folder, replaced) as temporary:
            (temporary / "sub").mkdir()
            for name in ("same", "sub/new"):
                (temporary / name).write_text("new")
            if fails:
                raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(fails=True)
    assert sorted(tmp_path.rglob("*")) == before
    write(fails=False)
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {"same", "sub/new"} | (set() if is_new else {"mine"})
    assert (folder / "same").read_text() == "new" and not list(tmp_path.rglob("*.tmp"))
