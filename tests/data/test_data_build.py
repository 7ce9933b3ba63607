import os

import pytest

from gen_jax.common import folder_lock
from gen_jax.common.errors import UserError
from gen_jax.data import dataset
from gen_jax.data.prepare import build, packing, plan


def _options(out, **changes):
    values = dict(source="shapes", out=str(out), num=140, size=16, shard_records=25, workers=1)
    return build.Options(**(values | changes))


def _bytes(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_the_number_of_workers_changes_no_byte(tmp_path):
    build.prepare(_options(tmp_path / "one"))
    build.prepare(_options(tmp_path / "two", workers=2))
    one, two = _bytes(tmp_path / "one"), _bytes(tmp_path / "two")
    assert one == two
    assert sorted(one)[:2] == ["contact_sheet.png", "dataset.json"]
    assert len([name for name in one if name.startswith("train-")]) == 5


def test_a_finished_set_is_checked_and_left_alone(tmp_path):
    out = tmp_path / "set"
    first = build.prepare(_options(out))
    times = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert build.prepare(_options(out)) == first
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == times
    assert not (out / build.WORK).exists()


def test_a_damaged_or_missing_shard_alone_is_written_again(tmp_path):
    out = tmp_path / "set"
    build.prepare(_options(out))
    expected = _bytes(out)
    times = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    cut, gone = "train-00001-of-00005.arrayrecord", "train-00003-of-00005.arrayrecord"
    (out / cut).write_bytes(expected[cut][:-100])
    (out / gone).unlink()
    build.prepare(_options(out))
    assert _bytes(out) == expected
    kept = [name for name in times if name.startswith(("train-00000", "train-00002", "val"))]
    assert all((out / name).stat().st_mtime_ns == times[name] for name in kept)


def test_interruption_is_taken_up_where_it_was(tmp_path, monkeypatch):
    build.prepare(_options(tmp_path / "straight"))
    out, real, calls = tmp_path / "set", packing.write_task, []

    def failing(context, task):
        calls.append(task.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(context, task)

    monkeypatch.setattr(packing, "write_task", failing)
    with pytest.raises(KeyboardInterrupt):
        build.prepare(_options(out))
    assert not (out / dataset.FILE).exists()
    # What kill -9 leaves behind.
    (out / build.WORK / "train-00002-of-00005.arrayrecord.tmp").write_text("half")
    (out / ".dataset.json.0123abcd.tmp").write_text("half")
    del calls[:]
    monkeypatch.setattr(packing, "write_task", lambda c, t: (calls.append(t.name), real(c, t))[1])
    build.prepare(_options(out))
    assert len(calls) == len(list(out.glob("*.arrayrecord"))) - 2
    assert _bytes(out) == _bytes(tmp_path / "straight")


def test_another_data_set_is_refused(tmp_path):
    out = tmp_path / "set"
    build.prepare(_options(out))
    before = _bytes(out)
    for change in ({"num": 121}, {"seed": 1}, {"rules": plan.Rules(val_fraction=0.2)}):
        with pytest.raises(UserError, match="already holds another data set"):
            build.prepare(_options(out, **change))
    assert _bytes(out) == before
    # What does not influence the bytes may change.
    build.prepare(_options(out, workers=2, rules=plan.Rules(max_bad=7)))


def test_unfinished_work_of_another_job_and_foreign_shards_are_refused(tmp_path):
    out = tmp_path / "set"
    (out / build.WORK).mkdir(parents=True)
    (out / build.WORK / "job.json").write_text('{"fingerprint": "x"}')
    with pytest.raises(UserError, match="holds an unfinished data set of another source"):
        build.prepare(_options(out))
    other = tmp_path / "foreign"
    other.mkdir()
    (other / "train-00000-of-00001.arrayrecord").write_text("x")
    with pytest.raises(UserError, match=r"holds shards but no dataset\.json"):
        build.prepare(_options(other))


def test_two_at_once_are_kept_apart(tmp_path):
    out = tmp_path / "set"
    (out / build.WORK).mkdir(parents=True)
    match = r"set is being written by pid \d+ .* another out"
    with folder_lock.held(out, out / build.WORK / "lock"), pytest.raises(UserError, match=match):
        build.prepare(_options(out))


def test_out_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make this folder"):
        build.prepare(_options(tmp_path / "file" / "set"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"quality": 0}, "quality=0: expected a whole number from 1 to 100"),
        ({"format": "gif"}, "format=gif: expected one of jpeg, png, webp"),
        ({"size": -1}, "size=-1"),
        ({"workers": -2}, "workers=-2"),
        ({"rules": plan.Rules(val_fraction=1.0)}, "val_fraction=1.0"),
        ({"rules": plan.Rules(val_fraction=0.6, test_fraction=0.5)}, "nothing to train on"),
    ],
)
def test_senseless_options_are_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        build.prepare(_options(tmp_path / "set", **changes))
    assert not os.path.exists(tmp_path / "set")


def test_statistics_are_those_of_the_pixels(shapes_dir):
    import numpy as np

    from gen_jax.data import images, schema

    info, records = dataset.open_split(shapes_dir, "train")
    stack = np.stack(
        [images.decode_fast(schema.unpack(records[i]).image) for i in range(len(records))]
    )
    stats = info.statistics["train"]
    flat = stack.reshape(-1, 3) / 255
    np.testing.assert_allclose(stats["channel_mean"], flat.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["channel_std"], flat.std(0), atol=1e-5)
    assert stats["height"] == {"min": 16, "mean": 16.0, "max": 16}
    assert stats["records"] == stats["captioned"] == len(records)
