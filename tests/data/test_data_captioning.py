"""Captions by a model in another process: protocol, filters, resumption and what is stored."""

import json
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, schema
from gen_jax.data.prepare import build, caption_filter, captioning
from gen_jax.data.text import captions

TEXTS = (
    "a ship in a storm", "a horse and its rider", "", "two two two men", "a black and white sea",
    "an engraving depicting a dog", "a tree by a river\nand more", "birds",
)  # fmt: skip
REASONS = {2: "empty", 3: "loop", 4: "stock phrase", 5: "echo of the prefix", 7: "too short"}


@pytest.fixture
def scans(tmp_path):
    """Eight images whose first pixel is their number; the first has a caption already."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(len(TEXTS)):
        pixels = np.random.default_rng(number).integers(0, 256, (24 + number, 500, 3), np.uint8)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(folder / f"{number}.png")
    line = {"file": "0.png", "caption": "a known ship"}
    (folder / captions.FILE).write_text(json.dumps(line) + "\n")
    return folder


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder with the answers of the fake captioner."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "texts.txt").write_text("\n".join(text.replace("\n", " . ") for text in TEXTS))
    fake = captioning.Captioner("tests.fake_captioner", "none", ())
    monkeypatch.setitem(captioning.CAPTIONERS, "fake", fake)
    return folder


def options(scans, model, out, **changes):
    settings = captioning.Settings(f"fake:{model}", batch_size=2)
    values = dict(source=str(scans), out=str(out), workers=1, captioner=settings)
    return build.Options(**(values | changes))


def records(out):
    info = dataset.load(out)
    return {
        record.key: record
        for split in info.splits
        for record in map(schema.unpack, dataset.records_of(out, info, split))
    }


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def seen(model):
    path = model / "log.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_captions_are_written_filtered_and_reported(scans, model, tmp_path, capfd):
    out = tmp_path / "set"
    info = build.prepare(options(scans, model, out))
    assert capfd.readouterr().out == ""  # what the process prints does not reach the protocol
    stored = records(out)
    assert {key: record.captions for key, record in stored.items()} == {
        "0.png": ("a known ship",),
        "1.png": ("An engraving depicting a horse and its rider",),
        "6.png": ("An engraving depicting a tree by a river. and more",),
    }
    assert stored["1.png"].attributes["prefix"] == captioning.DEFAULT_PREFIX
    written = {line["file"]: line for line in lines(out / captions.FILE)}
    assert {k: v.get("rejected") for k, v in written.items()} == {
        f"{n}.png": REASONS.get(n) for n in range(1, 8)
    }
    assert written["1.png"]["model"] == str(model)
    report = info.quality["captions"]
    assert report["written"] == 7 and report["reject_rate"] == round(5 / 7, 4)
    assert report["rejected"] == {reason: 1 for reason in sorted(REASONS.values())}
    assert info.quality["accepted"] == 3 and info.quality["rejected"] == {"rejected caption": 5}
    details = [entry["detail"] for entry in info.quality["files"]["rejected caption"]]
    assert "too short: An engraving depicting birds" in details
    assert "5 rejected (71.4%): 1 echo of the prefix" in captioning.summary(info.quality)

    shown = sorted((model / "log.txt").read_text().splitlines())
    assert [line.split()[1] for line in shown] == [f"{24 + n}x500" for n in range(1, 8)]

    # A finished data set is left alone, and other arguments are another data set.
    calls = seen(model)
    assert build.prepare(options(scans, model, out)) == info and seen(model) == calls
    with pytest.raises(UserError, match="another data set"):
        build.prepare(options(scans, model, out, captioner=None))
    other = captioning.Settings(f"fake:{model}", prefix="A woodcut of")
    with pytest.raises(UserError, match="another data set"):
        build.prepare(options(scans, model, out, captioner=other))


def test_what_was_written_can_be_corrected_and_used_as_a_source(scans, model, tmp_path):
    build.prepare(options(scans, model, tmp_path / "set"))
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for path in sorted(scans.glob("*.png")):
            archive.write(path, path.name)
        archive.write(tmp_path / "set" / captions.FILE, captions.FILE)
    build.prepare(options(tmp_path / "scans.zip", model, tmp_path / "again", captioner=None))
    again, first = records(tmp_path / "again"), records(tmp_path / "set")
    assert len(again) == 8 and again["2.png"].captions == ()
    assert again["6.png"] == first["6.png"]


def test_a_crash_costs_no_finished_caption(scans, model, tmp_path):
    straight, out = tmp_path / "straight", tmp_path / "set"
    build.prepare(options(scans, model, straight))
    order = seen(model)
    (model / "log.txt").unlink()
    (model / "die.txt").write_text(order[4])
    with pytest.raises(UserError, match=r"exit code 7.*are kept"):
        build.prepare(options(scans, model, out))
    finished = lines(out / captions.FILE)
    assert len(finished) == 4 and not (out / dataset.FILE).exists()
    (model / "die.txt").unlink()
    (model / "log.txt").unlink()
    # The parent was killed in the middle of the fourth line.
    text = (out / captions.FILE).read_bytes()
    (out / captions.FILE).write_bytes(text[:-9])
    build.prepare(options(scans, model, out))
    assert seen(model) == order[3:]
    for name in (captions.FILE, "index.jsonl"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()
    assert records(out) == records(straight)


def test_a_batch_is_on_disk_before_the_next_one_begins(scans, model, tmp_path, monkeypatch):
    out, counts = tmp_path / "set", []
    describe = captioning.CaptionProcess.describe

    def counted(self, images, seeds):
        counts.append((out / captions.FILE).read_bytes().count(b"\n"))
        return describe(self, images, seeds)

    monkeypatch.setattr(captioning.CaptionProcess, "describe", counted)
    build.prepare(options(scans, model, out))
    assert counts == [0, 2, 4, 6]


def test_captions_of_other_models_and_pixels_are_not_taken(scans, model, tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    settings = captioning.Settings(f"fake:{model}")
    entry = captioning.Written("1.png", "x", str(model), settings.prefix, "00")
    other = captioning.Written("2.png", "x", "another", settings.prefix, "00")
    noise = b'[1]\n{"file": "3.png"}\nnot JSON\n'
    (out / captions.FILE).write_bytes(entry.line() + other.line() + noise)
    assert captioning.read_written(out / captions.FILE, settings) == {("1.png", "00"): entry}
    build.prepare(options(scans, model, out))
    assert records(out)["1.png"].captions == ("An engraving depicting a horse and its rider",)


def test_mistakes_are_one_line_before_any_work(scans, model, tmp_path, monkeypatch):
    def refused(caption, **settings):
        with pytest.raises(UserError) as error:
            build.prepare(
                options(
                    scans, model, tmp_path / "o",
                    captioner=captioning.Settings(caption, **settings),
                )
            )  # fmt: skip
        assert not (tmp_path / "o").exists() and "\n" not in str(error.value)
        return str(error.value)

    assert "expected one of blip2" in refused("clip")
    assert "no such folder" in refused(f"fake:{tmp_path}/none")
    assert "no config.json" in refused(f"fake:{scans}")
    assert "caption_top_p" in refused(f"fake:{model}", top_p=1.5)
    assert "caption_batch" in refused(f"fake:{model}", batch_size=0)
    monkeypatch.setattr(captioning.importlib.util, "find_spec", lambda name: None)
    message = refused("blip2")
    assert "torch and transformers not installed" in message and "gen_jax[caption]" in message


def test_errors_of_the_process_reach_the_user(scans, model, tmp_path):
    (model / "texts.txt").unlink()
    with pytest.raises(UserError, match=r"captioning: .*: no texts$"):
        build.prepare(options(scans, model, tmp_path / "a"))
    (model / "texts.txt").write_text("one line alone")
    with pytest.raises(UserError, match="captioning: IndexError"):
        build.prepare(options(scans, model, tmp_path / "b"))


def test_a_set_without_a_usable_caption_is_refused(scans, model, tmp_path):
    (scans / captions.FILE).unlink()
    (model / "texts.txt").write_text("\n" * 8)
    with pytest.raises(UserError, match=r"no usable image is left .8 rejected caption"):
        build.prepare(options(scans, model, tmp_path / "set"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a castle above the sea", ""),
        ("the man and the dog and the horse", ""),
        (" .,; ", "empty"),
        ("castle", "too short"),
        (" ".join(f"word{n}" for n in range(31)), "too long"),
        ("a man on a horse with a man on a cow", "loop"),
        ("a very very very old house", "loop"),
        ("men, who know an engraving depicting them", "echo of the prefix"),
        ("an image of the king", "stock phrase"),
        ("a horse, royalty-free", "stock phrase"),
        ("a drawing of a drawing", "stock phrase"),
        ("an imaginary picture gallery", ""),
    ],
)
def test_filters(text, reason):
    continuation = caption_filter.clean(text)
    assert caption_filter.rejection("An engraving depicting", continuation) == reason


def test_phrases_of_the_prefix_are_the_users_choice():
    prefix = "A black and white engraving of"
    assert caption_filter.rejection(prefix, "an old man") == ""
    assert caption_filter.rejection(prefix, "an engraving of the sea") == "stock phrase"
    assert caption_filter.rejection("", "an old man") == ""
    assert caption_filter.clean(' "a man , and\n his dog" ') == "a man, and"
    assert caption_filter.joined("", "a man") == "a man"


def test_the_index_has_a_row_per_record(tmp_path):
    out = tmp_path / "set"
    build.prepare(build.Options("shapes", str(out), num=40, size=16, shard_records=9, workers=1))
    index = lines(out / "index.jsonl")
    stored = records(out)
    assert [row["key"] for row in index] == list(stored)
    for row in index:
        record = stored[row["key"]]
        assert (row["width"], row["height"]) == (record.width, record.height)
        assert tuple(row["captions"]) == record.captions and row["shard"].startswith(row["split"])
    # Rows of shards that an earlier run finished are read from the shards.
    expected = (out / "index.jsonl").read_bytes()
    next(out.glob("train-00001-*")).unlink()
    (out / "index.jsonl").unlink()
    build.prepare(build.Options("shapes", str(out), num=40, size=16, shard_records=9, workers=1))
    assert (out / "index.jsonl").read_bytes() == expected


def test_the_parent_imports_no_pytorch(scans, model, tmp_path):
    before = {name for name in sys.modules if name.split(".")[0] in ("torch", "transformers")}
    build.prepare(options(scans, model, tmp_path / "set"))
    after = {name for name in sys.modules if name.split(".")[0] in ("torch", "transformers")}
    assert after == before and os.environ.get("TRANSFORMERS_VERBOSITY") is None
