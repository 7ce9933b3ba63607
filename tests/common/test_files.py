"""Files that are written whole or not at all."""

import os
import resource
import signal

import numpy as np
import pytest

from gen_jax.common import files, pictures
from gen_jax.common.app import place_error

NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)


@pytest.fixture
def full_disk():
    """A limit on the size of files: write() fails in the middle, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def names(folder):
    return sorted(os.listdir(folder))


def test_written_files_are_what_was_given(tmp_path):
    files.write_text(tmp_path / "new" / "a.txt", "é\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é\n".encode()
    files.write_bytes(str(tmp_path / "new" / "a.txt"), b"\0shorter")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\0shorter"
    assert names(tmp_path / "new") == ["a.txt"]


def test_nothing_is_seen_before_the_end(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path and temporary.name.startswith(".a.")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_the_temporary_place_can_be_chosen(tmp_path):
    (tmp_path / "work").mkdir()
    grows = tmp_path / "work" / "a.tmp"
    with files.replacing(tmp_path / "a", grows) as temporary:
        assert temporary == grows
        temporary.write_text("x")
    assert (tmp_path / "a").read_text() == "x"
    assert names(tmp_path / "work") == []


def test_long_names_are_shortened_and_stay_apart(tmp_path):
    first, second = (tmp_path / ("é" * 120 + letter * 15) for letter in "ab")
    files.write_text(first, "a")
    files.write_once(second, b"b")
    assert first.read_text() + second.read_text() == "ab" and len(names(tmp_path)) == 2
    beside = [files.with_ending(path, ".json") for path in (first, second)]
    assert beside[0] != beside[1] and all(p.name.endswith(".json") for p in beside)
    for path in beside:
        files.write_text(path, "")
        assert 250 < len(os.fsencode(path.name)) <= 255
    assert files.with_ending(tmp_path / "a.png", ".json") == tmp_path / "a.png.json"


def test_two_writers_do_not_write_into_each_others_file(tmp_path):
    with files.replacing(tmp_path / "a") as one, files.replacing(tmp_path / "a") as two:
        one.write_text("one")
        two.write_text("two, longer")
    assert (tmp_path / "a").read_text() == "one"  # the outer one ends last
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [None, "old"])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error, before):
    path = tmp_path / "a"
    if before:
        path.write_text(before)
    with pytest.raises(error), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["a"] if before else [])
    assert not before or path.read_text() == before


def test_an_exception_before_the_first_byte(tmp_path):
    with pytest.raises(ValueError), files.replacing(tmp_path / "a"):
        raise ValueError
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_bytes(path, bytes(200_000)),
        lambda path: pictures.save(path, NOISE),
    ],
    ids=["bytes", "picture"],
)
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, full_disk, write):
    with pytest.raises(OSError) as caught:
        write(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")
    assert names(tmp_path) == []


def test_an_unwritable_folder_is_put_into_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        files.write_text(tmp_path / "file" / "a", "x")
    message = str(place_error(caught.value))
    assert message.startswith(f"{tmp_path / 'file' / 'a'}: part of this path is a file")


def test_errors_about_other_files_keep_their_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.replacing(tmp_path / "a"):
        (tmp_path / "source").read_text()
    assert caught.value.filename == str(tmp_path / "source")
