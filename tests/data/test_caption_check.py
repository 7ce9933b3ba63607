"""The validator of captions: each thing it looks for, found on its line; kappa by hand."""

import json

import cv2
import numpy as np
import pytest

from gen_jax.common.errors import UserError
from gen_jax.data.prepare import caption_check
from gen_jax.data.prepare.caption_check import cohen_kappa
from tests.processes import call, one_line_error


@pytest.fixture
def folder(tmp_path):
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((64, 64, 3), 15, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    return tmp_path


def write(folder, *rows):
    text = "\n".join(json.dumps({"file": f, "caption": c, **more}) for f, c, more in rows)
    (folder / "captions.jsonl").write_text(text + "\n")
    return folder / "captions.jsonl"


def kinds(report):
    return [(f.line, f.kind) for f in report.findings if f.line]


def test_good_captions_pass(folder):
    (folder / "noise.png").rename(folder / "e\u0301.png")  # as macOS names it
    path = write(folder, ("dark.png", "dark, muted and calm", {}),
                 ("é.png", "a very busy and chaotic picture", {}))  # fmt: skip
    report = caption_check.check(path)
    assert kinds(report) == [] and report.lines == 2
    assert report.coverage["dark"] == 1 and report.coverage["bright"] == 0


@pytest.mark.parametrize("file,text,kind,words", [
    ("dark.png", "darkish", "unknown word", "did you mean dark"),
    ("dark.png", "bright", "contradicted", "brightness is 0.06, expected above 0.5"),
    ("dark.png", "horizontal", "contradicted", "too little to see"),
    ("dark.png", "dark and bright", "opposites", "dark and bright"),
    ("dark.png", "deep dark", "grammar", "hue alone"),
    ("dark.png", "very picture", "grammar", "no adjective"),
    ("dark.png", "dark,, calm", "grammar", "without a word"),
    ("gone.png", "dark", "file", "gone.png cannot be read"),
])  # fmt: skip
def test_each_fault_is_named_with_its_line(folder, file, text, kind, words):
    path = write(folder, ("noise.png", "busy", {}), (file, text, {}))
    found = [f for f in caption_check.check(path).findings if f.line]
    assert any(f.line == 2 and f.kind == kind and words in f.message for f in found), found


def test_duplicates_and_coverage(folder):
    path = write(folder, *[("dark.png", "dark", {})] * 2, ("dark.png", "Dark", {"annotator": "b"}))
    report = caption_check.check(path)
    assert kinds(report) == [(2, "duplicate")]
    rare = next(f for f in report.findings if f.kind == "coverage")
    assert "dark (3)" in rare.message and "bright (0)" in rare.message


def test_annotators_who_disagree_are_named(folder):
    rows = [("dark.png", "dark, calm", {"annotator": "ann"}),
            ("noise.png", "busy", {"annotator": "ann"})]  # fmt: skip
    same = caption_check.check(
        write(folder, *rows, *[(f, c, {"annotator": "bob"}) for f, c, _ in rows])
    )
    assert same.kappa[("ann", "bob")] == (1.0, 2)
    other = [("dark.png", "smooth", {"annotator": "bob"}),
             ("noise.png", "rough", {"annotator": "bob"})]  # fmt: skip
    report = caption_check.check(write(folder, *rows, *other))
    value, count = report.kappa[("ann", "bob")]
    assert count == 2 and value < 0.6
    assert any(f.kind == "agreement" for f in report.findings)


def test_kappa_by_hand():
    # The example of Cohen's own kind: 20 yes-yes, 15 no-no, 5 and 10 disagreements of 50.
    first = np.array(["y"] * 25 + ["n"] * 25)
    second = np.array(["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15)
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1.0
    assert cohen_kappa(np.zeros(3), np.zeros(3)) == 1.0


def test_a_file_of_nothing(folder):
    (folder / "captions.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no line"):
        caption_check.check(folder)


def test_the_door(folder):
    def door():
        return call("prepare", f"--validate-captions={folder}")

    write(folder, ("dark.png", "bright", {}))
    done = door()
    assert done.returncode == 2 and "line 1: contradicted" in done.stdout
    assert "1 findings" in one_line_error(done)
    (folder / "captions.jsonl").write_text('{"file": "dark.png", "caption": "dark"}\n{"file": 3}\n')
    assert "line 2" in one_line_error(door())
    write(folder, ("dark.png", "dark", {}))
    done = door()
    assert done.returncode == 0 and "1 lines" in done.stdout
