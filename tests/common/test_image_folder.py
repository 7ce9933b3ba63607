"""The listing of a folder of images that every command uses."""

import json
import os

import pytest

from gen_jax.common import files, image_folder, image_formats, names, results
from gen_jax.common.errors import UserError
from gen_jax.common.left_out import summary

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def folder(tmp_path):
    """A folder to fill, whose parents hold no image."""
    path = tmp_path / "above" / "in"
    path.mkdir(parents=True)
    return path


def put(folder, *paths, data=PNG):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def reasons(listing):
    return {item.name: item.reason for item in listing.left_out}


def test_endings_of_any_case_and_folders_that_are_named_like_images(folder):
    put(folder, "a.PNG", "b.Tif", "c.jfif", "d.ppm", "e.AVIF", "f.jp2", "x.png/g.gif", "notes.txt")
    listing = image_folder.scan(folder)
    assert listing.names == ("a.PNG", "b.Tif", "c.jfif", "d.ppm", "e.AVIF", "f.jp2", "x.png/g.gif")
    assert listing.left_out == () and listing.paths[-1] == folder / "x.png" / "g.gif"


def test_the_order_is_that_of_composed_names(folder):
    decomposed, composed = "e\u0301.png", "é.png"
    put(folder, "a-b.png", "a/b.png", "A.png", decomposed, composed, "f.png")
    want = ("A.png", "a-b.png", "a/b.png", "f.png", decomposed, composed)
    assert image_folder.scan(folder).names == want


def test_hidden_images_are_counted_and_other_dot_files_are_not(folder):
    put(folder, "a.png", "._a.png", ".png", ".thumbs/deep/b.jpg", ".DS_Store", ".git/objects/1234")
    listing = image_folder.scan(folder)
    assert listing.names == ("a.png",)
    assert reasons(listing) == dict.fromkeys(("._a.png", ".png", ".thumbs"), "hidden")
    assert summary(listing.left_out) == "3 hidden (._a.png)"


def test_links_are_followed_and_each_real_folder_is_read_once(folder, tmp_path):
    put(tmp_path, "outside/1.png", "outside/more/2.png", "blob")
    put(folder, "real/3.png")
    os.symlink(folder / "real", folder / "alias")  # sorted before the folder itself
    os.symlink(tmp_path / "outside", folder / "linked")
    os.symlink(tmp_path / "outside" / "more", folder / "once_more")
    os.symlink(tmp_path / "blob", folder / "file.png")
    os.symlink("..", folder / "real" / "up")
    os.symlink(tmp_path, tmp_path / "outside" / "top")
    listing = image_folder.scan(folder)
    assert listing.names == ("file.png", "linked/1.png", "linked/more/2.png", "real/3.png")
    assert reasons(listing) == {"linked/top": "link to a folder above"}


def test_broken_links_are_counted(folder):
    put(folder, "a.png")
    os.symlink("/nowhere/b.png", folder / "b.png")
    os.symlink("loop.png", folder / "loop.png")
    os.symlink("/nowhere/images", folder / "more")
    os.symlink("/nowhere/c.txt", folder / "c.txt")
    listing = image_folder.scan(folder)
    assert listing.names == ("a.png",)
    assert reasons(listing) == dict.fromkeys(("b.png", "loop.png", "more"), "broken link")


def test_known_formats_that_cannot_be_read_come_with_advice(folder, monkeypatch):
    monkeypatch.setitem(image_formats._problems(), ".heic", "pip install pillow-heif")
    put(folder, "a.png", "b.HEIC", "c.nef", "IMG_1", "README")
    put(folder, "README", data=b"not an image")
    os.mkfifo(folder / "pipe.png")
    listing = image_folder.scan(folder)
    assert listing.names == ("a.png",)
    assert summary(listing.left_out) == (
        "1 image without an ending (IMG_1: rename it to IMG_1.png), 1 not a file (pipe.png), "
        "2 not readable here (b.HEIC: pip install pillow-heif)"
    )


def test_a_folder_that_may_not_be_read_is_counted(folder, monkeypatch):
    put(folder, "a.png", "closed/b.png")
    scandir = os.scandir

    def refuse(path):  # root may read everything
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = image_folder.scan(folder)
    assert listing.names == ("a.png",)
    want = "1 folder that cannot be read (closed: permission denied)"
    assert summary(listing.left_out) == want


def test_the_output_folder_is_no_input_whatever_leads_to_it(folder, tmp_path):
    put(folder, "a.png", "out/a.png", "out/deep/b.png")
    os.symlink(folder / "out" / "deep", folder / "linked")
    os.symlink(folder / "out", tmp_path / "elsewhere")
    for out in (folder / "out", tmp_path / "elsewhere"):
        listing = image_folder.scan(folder, [out])
        assert listing.names == ("a.png",)
        assert reasons(listing) == dict.fromkeys(("out", "linked"), "output folder")
    assert len(image_folder.scan(folder, [folder / "new"]).names) == 3
    os.symlink(tmp_path / "above" / "beside", folder / "beside")
    put(tmp_path, "above/beside/c.png")
    assert len(image_folder.scan(folder, [folder, folder.parent]).names) == 4


def test_what_our_commands_drew_is_no_input(folder):
    put(folder, "a.png", "a.png.before_after.png", "grid.png", "mine/contact_sheet.png")
    shortened = files.with_ending(folder / f"{'n' * 246}.png", results.COMPARISON).name
    put(folder, shortened)
    put(folder, "made/00000.png", "made/00000.json", "made/grid.png", "made/frames.gif")
    put(folder, "set/dataset.json", "set/train-0.arrayrecord", "set/contact_sheet.png")
    put(folder, "set_aligned/aligned.json", "set_aligned/a.png")
    put(folder, "run/config.json", "run/metrics.jsonl", "run/samples/step_1.png")
    listing = image_folder.scan(folder)
    assert listing.names == ("a.png", "grid.png", "made/00000.png", "mine/contact_sheet.png")
    drawn = ("a.png.before_after.png", shortened, "made/grid.png", "made/frames.gif")
    left_out = (*drawn, "set", "set_aligned", "run")
    assert reasons(listing) == dict.fromkeys(left_out, "made by gen_jax")
    with pytest.raises(UserError, match="is a prepared data set; expected a folder of images"):
        image_folder.scan(folder / "set")


def restored(folder, original, result):
    put(folder, result)
    facts = {"input": f"/some/{original}", "input_sha256": "0", "output": result.split("/")[-1]}
    files.with_ending(folder / result, results.MANIFEST).write_text(json.dumps(facts))


def test_results_of_restore_are_inputs_unless_their_originals_are(folder):
    long = "n" * 246 + ".png"
    put(folder, "a.png", "b.jpg", long)
    restored(folder, "a.png", "out/a.png")
    restored(folder, "b.jpg", "b_restored.jpg")
    restored(folder, long, f"out/{long}")
    restored(folder, "gone.png", "out/gone.png")
    listing = image_folder.scan(folder)
    assert listing.names == ("a.png", "b.jpg", long, "out/gone.png")
    assert set(reasons(listing).values()) == {"made by gen_jax"}
    assert len(image_folder.scan(folder / "out").names) == 3


def test_names_that_are_no_utf_8_get_keys_of_their_own(folder):
    latin = os.fsdecode(b"caf\xe9.png")
    put(folder, latin, "caf%E9.png", "line\nbreak.png")
    listing = image_folder.scan(folder)
    assert set(listing.names) == {latin, "caf%E9.png", "line\nbreak.png"}
    assert sorted(listing.keys) == ["caf%E9.png", "caf%E9.png~2", "line\nbreak.png"]
    "".join(listing.keys).encode("utf-8")
    assert names.printable("line\nbreak.png") == r"line\nbreak.png"
    assert names.printable(folder / latin) == f"{folder}/caf%E9.png"


def test_patterns_take_what_exists_literally(folder):
    put(folder, "dir[1]/a.png", "dir[1]/b.jpg", "dir[1]/.c.png", "dir[1]/sub[2]/a.png", "q?.png")

    def fits(pattern, exclude=()):
        listing = image_folder.scan_pattern(f"{folder}/{pattern}", exclude)
        return [str(path.relative_to(folder)) for path in listing.paths]

    assert fits("dir[1]/*.png") == ["dir[1]/a.png"]
    assert fits("dir[1]/**/*.png") == ["dir[1]/a.png", "dir[1]/sub[2]/a.png"]
    assert fits("d*/sub[2]/*") == ["dir[1]/sub[2]/a.png"]
    assert fits("**", [folder / "dir[1]"]) == ["q?.png"]
    assert fits("*/[a-b].*") == ["dir[1]/a.png", "dir[1]/b.jpg"]
    os.symlink(folder, folder / "dir[1]" / "loop")
    assert fits("**/a.png") == ["dir[1]/a.png", "dir[1]/sub[2]/a.png"]
    put(folder, "run/config.json", "run/metrics.jsonl", "run/samples/step_1.bmp")
    with pytest.raises(UserError, match=r"bmp: no image fits.*left out: 1 hidden .*gen_jax \(run"):
        fits("*/samples/*.bmp")


def test_members_of_archives_are_chosen_by_the_same_rules():
    inside = ["b.png", "a.JPG", "._a.JPG", ".x/c.png", "d.txt", "s/contact_sheet.png"]
    chosen, left_out = image_folder.choose([*inside, "s/dataset.json"])
    assert chosen == ["a.JPG", "b.png"]
    assert [(item.name, item.reason) for item in left_out] == [
        ("._a.JPG", "hidden"),
        (".x/c.png", "hidden"),
        ("s/contact_sheet.png", "made by gen_jax"),
    ]


def test_a_folder_without_images_says_what_it_holds(folder):
    put(folder, "images.zip", "sub/more.tar.gz", ".a.png")
    with pytest.raises(UserError) as caught:
        image_folder.scan(folder)
    message = str(caught.value)
    assert "no image in this folder or below it" in message and ".avif, .avifs, .bmp" in message
    assert "; unpack images.zip and 1 more; left" in message
    assert message.endswith("left out: 1 hidden (.a.png)")
    with pytest.raises(UserError, match="no such folder; expected a folder of images"):
        image_folder.scan(folder / "none")
    with pytest.raises(UserError, match="is a file; expected a folder of images"):
        image_folder.scan(folder / "images.zip")
