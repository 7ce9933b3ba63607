import json

import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.text import captions


def _read(tmp_path, *lines):
    path = tmp_path / captions.FILE
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return captions.read(path)


def test_captions_and_attributes(tmp_path):
    found = _read(
        tmp_path,
        {"file": "a.jpg", "caption": " a cat "},
        "",
        {"file": "b/c.jpg", "captions": ["eins", "猫 🐈"], "artist": "X", "year": 1888},
        {"file": "a.jpg", "captions": ["a cat", "a tabby"]},
    )
    assert found["a.jpg"].captions == ("a cat", "a tabby")
    assert found["b/c.jpg"].captions == ("eins", "猫 🐈")
    assert found["b/c.jpg"].attributes == {"artist": "X", "year": 1888}
    assert found["b/c.jpg"].line == 3


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"file": "a.jpg", "caption": ', "is not JSON"),
        ("[1]", "expected an object"),
        ('{"caption": "x"}', '"file" must name an image'),
        ('{"file": "a.jpg"}', 'neither "caption"'),
        ('{"file": "a.jpg", "caption": 3}', "must be a string, this is 3"),
        ('{"file": "a.jpg", "captions": "x"}', "must be a list"),
        ('{"file": "a.jpg", "caption": "  "}', "is empty"),
        ('{"file": "a.jpg", "caption": "x", "captions": []}', "both"),
        ('{"file": "../a.jpg", "caption": "x"}', "inside this folder"),
        ('{"file": "/a.jpg", "caption": "x"}', "must be relative"),
        ('{"file": "a.jpg", "caption": "\\ud83d"}', "surrogate"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    with pytest.raises(UserError, match=rf"captions.jsonl line 2: .*{message}"):
        _read(tmp_path, {"file": "ok.jpg", "caption": "fine"}, line)


def test_not_utf8_is_named(tmp_path):
    path = tmp_path / captions.FILE
    path.write_bytes(b'{"file": "a.jpg", "caption": "caf\xe9"}')
    with pytest.raises(UserError, match="line 1: is not UTF-8"):
        captions.read(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match=r"captions\.jsonl: is a git-lfs pointer.*`git lfs pull`"):
        captions.read(path)
    path.write_bytes(b'\xef\xbb\xbf{"file": "a.jpg", "caption": "x"}\r\n')
    assert captions.read(path)["a.jpg"].captions == ("x",)
