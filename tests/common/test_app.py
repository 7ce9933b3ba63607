"""What holds for every command, whatever its console and its environment."""

import io
import sys

import jax
import pytest

from gen_jax.common import app, files
from gen_jax.common.errors import UserError
from gen_jax.parallel import compilation


def test_a_console_without_utf8_prints_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    app._print_anything()
    print("\U0001f600 caf\xe9 \udcff", flush=True)
    assert written.getvalue() == b"\\U0001f600 caf\\xe9 \\udcff\n"


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize backend 'x': y (set)"),
                                   AssertionError()])  # fmt: skip
def test_devices_that_are_not_here(monkeypatch, error):
    def refuse():
        raise error

    monkeypatch.setattr(jax, "devices", refuse)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=r"^JAX_PLATFORMS=cuda: no such device can be used here"):
        compilation.check_devices()


def test_programs_are_kept_only_in_a_home_that_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilation._cache_folder() == tmp_path / ".cache" / "gen_jax" / "xla"
    monkeypatch.setattr(compilation.os, "access", lambda *_: False)
    assert compilation._cache_folder() is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert compilation._cache_folder() is None
    monkeypatch.setattr(compilation.paths, "user_folder", lambda: None)
    assert compilation._cache_folder() is None


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')
    assert files.read_text(path) == '{"a": "é"}'
