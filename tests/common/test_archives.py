import pathlib
import zipfile

import pytest

from gen_jax.common import archives
from gen_jax.common.errors import UserError


@pytest.mark.parametrize(
    "spec,want",
    [
        ("a/b.zip", ("a/b.zip", "")),
        ("a/B.ZIP:c/d.png", ("a/B.ZIP", "c/d.png")),
        ("a/b.zip:c.zip", ("a/b.zip", "c.zip")),
        ("a/b.zippy", None),
        ("a/b.safetensors", None),
    ],
)
def test_split(spec, want):
    assert archives.split(spec) == (want and (pathlib.Path(want[0]), want[1]))


def test_names_and_bytes(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("b/2.png", "b/1.png", "b/"):
            archive.writestr(name, name * 40)
    assert archives.names(path) == ["b/1.png", "b/2.png"]
    assert archives.read(path, "b/1.png") == b"b/1.png" * 40
    with pytest.raises(UserError, match=r"holds no 'c\.png'; it has b/1\.png, b/2\.png"):
        archives.read(path, "c.png")
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot be read as a zip"):
        archives.read(path, "b/2.png")


def test_what_is_no_zip_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        archives.names(tmp_path / "a.zip")
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(UserError, match="cannot be read as a zip"):
        archives.names(tmp_path / "a.zip")
