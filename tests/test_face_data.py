"""The archive of faces as a folder that `prepare` reads."""

import json
import sys

import pytest

from benchmarks import face_data


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (("happiness", "female", "yes"), "a woman's smiling face with glasses"),
        (("neutral", "male", "no"), "a man's neutral face without glasses"),
        (("anger", "unknown", "unsure"), "a face"),
    ],
)
def test_captions_say_what_is_known(labels, text):
    assert face_data.caption(face_data.facts(*labels)) == text


def test_every_face_has_a_file_and_a_caption(shared, tmp_path, monkeypatch, capsys):
    archive = shared / "faces.zip"
    monkeypatch.setattr(
        sys, "argv", ["x", f"--archive={archive}", f"--out={tmp_path}", "--size=256"]
    )
    face_data.main()
    assert "wrote 1200 faces of 256x256" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert len(lines) == 1200 and all((tmp_path / line["file"]).is_file() for line in lines)
    assert {"a man's smiling face without glasses"} <= {line["caption"] for line in lines}
