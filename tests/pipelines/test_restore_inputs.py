"""Which files `restore` reads, and what each becomes."""

import os

import pytest

from gen_jax.common.errors import UserError
from gen_jax.pipelines.restore_inputs import plan


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with files that only look like images."""
    path = tmp_path / "in"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def put(*names):
    for name in names:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        open(name, "w").close()


def becomes(*inputs, out="out"):
    return {str(job.source): str(job.out) for job in plan(inputs, out).jobs}


def test_files_folders_and_patterns(folder):
    put("a.png", "b.png", "c.gif", "dir[1]/d.png", "dir[1]/sub/e.PPM")
    assert becomes("*.png", "c.gif") == {
        "a.png": "out/a.png",
        "b.png": "out/b.png",
        "c.gif": "out/c.gif.png",
    }
    assert becomes("dir[1]/*.png") == {"dir[1]/d.png": "out/d.png"}
    below = {"dir[1]/d.png": "out/d.png", "dir[1]/sub/e.PPM": "out/sub/e.PPM.png"}
    assert becomes("dir[1]") == below == becomes("dir[1]/**")
    # A file that comes twice is restored once.
    twice = becomes("a.png", "./a.png", str(folder / "a.png"), "dir[1]/d.png", "dir[1]")
    assert set(twice.values()) == {"out/a.png", "out/d.png", "out/sub/e.PPM.png"}


def test_names_that_are_not_given(folder):
    put("a.tif", "b.ppm", "sub/a.png")
    beside = folder.with_name("in_restored")
    assert becomes(".", out="")["a.tif"] == str(beside / "a.tif")
    assert becomes("a.tif", out="") == {"a.tif": "a_restored.tif"}
    assert becomes("b.ppm", out="") == {"b.ppm": "b_restored.png"}
    assert becomes("sub", out="") == {"sub/a.png": "sub_restored/a.png"}
    os.chdir("sub")
    assert becomes("..", out="")["../a.tif"] == str(beside / "a.tif")
    long = "n" * 246 + ".tif"
    put(long)
    (name,) = becomes(long, out="").values()
    assert len(name) == 255 and name.endswith("_restored.tif") and name.startswith("nnn")


def test_what_is_left_out_is_said_and_what_is_lost_counts(folder):
    put("a.png", ".b.png", "out/a.png", "c.nef")
    os.symlink("/nowhere", "d.png")
    found = plan(["."], "out")
    assert [str(job.source) for job in found.jobs] == ["a.png"] and found.lost == 2
    assert found.notes == (
        "left out of .: 1 broken link (d.png), 1 hidden (.b.png), "
        "1 not readable here (c.nef: develop it to TIFF or PNG), 1 output folder (out)",
    )


@pytest.mark.parametrize(
    "inputs,out,word",
    [
        (["a.png", "x/a.png"], "out", "a.png and x/a.png would both become out/a.png"),
        (["*.bmp"], "out", r"\*\.bmp: no image fits this pattern"),
        (["none"], "out", "no image in this folder"),
        (["z.png"], "out.png", r"z\.png: no such file"),
        (["*.png"], "", r"\*\.png: out is missing"),
        ([], "out", "name images"),
        (["a.png"], "b.gif", r"b\.gif: expected a name"),
        (["*.png"], "-", "standard output holds one"),
    ],
)
def test_mistakes_are_named(folder, inputs, out, word):
    put("a.png", "b.png", "x/a.png")
    os.mkdir("none")
    with pytest.raises(UserError, match=word):
        plan(inputs, out)


def test_an_output_folder_that_is_there_or_ends_in_a_slash(folder):
    put("a.png", "b/c.png")
    assert becomes("a.png", out="b") == {"a.png": "b/a.png"}
    assert becomes("a.png", out="new/") == {"a.png": "new/a.png"}
    assert becomes("a.png", out="new.jpg") == {"a.png": "new.jpg"}
