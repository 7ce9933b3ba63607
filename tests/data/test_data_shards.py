import pickle
import resource
import signal

import pytest

from gen_jax.common.errors import UserError
from gen_jax.data import dataset, shards

PAYLOADS = [bytes([i]) * (100 + i) for i in range(10)]


def _write(folder, groups):
    paths, counts = [], []
    for number, group in enumerate(groups):
        path = folder / shards.shard_name("train", number, len(groups))
        counts.append(shards.write_shard(path, group).records)
        paths.append(path)
    return shards.ShardedRecords(paths, counts)


def test_records_come_back_in_order_across_shards(tmp_path):
    records = _write(tmp_path, [PAYLOADS[:4], PAYLOADS[4:5], PAYLOADS[5:]])
    assert [records[i] for i in range(len(records))] == PAYLOADS
    assert pickle.loads(pickle.dumps(records))[7] == PAYLOADS[7]
    path, place = records.locate(5)
    assert (path.name, place) == ("train-00002-of-00003.arrayrecord", 0)
    with pytest.raises(IndexError):
        records[10]


def test_equal_records_give_equal_files(tmp_path):
    one = shards.write_shard(tmp_path / "a", PAYLOADS)
    two = shards.write_shard(tmp_path / "b", PAYLOADS)
    assert one == two
    assert one.bytes == (tmp_path / "a").stat().st_size


def test_a_failure_leaves_nothing_behind_and_the_old_shard_alone(tmp_path):
    path = tmp_path / "x.arrayrecord"
    shards.write_shard(path, PAYLOADS)
    before = path.read_bytes()

    def broken():
        yield b"1"
        raise UserError("source went away")

    with pytest.raises(UserError, match="went away"):
        shards.write_shard(path, broken())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.arrayrecord"]


def test_unwritable_place_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot write this shard .*No such file"):
        shards.write_shard(tmp_path / "no" / "x", PAYLOADS)


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    # A limit on the size of files fails in write() as a full disk does.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        with pytest.raises(UserError, match=r"x: cannot write this shard .*free some space"):
            shards.write_shard(tmp_path / "x", [b"a" * 10_000] * 50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def _first_shard(folder):
    return folder / dataset.load(folder).splits["train"][0].file


def test_missing_shard_is_named(own_shapes_dir):
    path = _first_shard(own_shapes_dir)
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name}: this shard is missing"):
        dataset.open_split(own_shapes_dir, "train")


def test_truncated_shard_is_named(own_shapes_dir):
    path = _first_shard(own_shapes_dir)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=rf"{path.name}: truncated, \d+ bytes where \d+"):
        dataset.open_split(own_shapes_dir, "train")
    # Unverified it is noticed by its number of records when it is first read from.
    _, records = dataset.open_split(own_shapes_dir, "train", verify="none")
    with pytest.raises(UserError, match=rf"{path.name}: holds 0 records where 30"):
        records[0]


def test_altered_shard_is_named_when_digests_are_asked_for(own_shapes_dir):
    path = _first_shard(own_shapes_dir)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    dataset.open_split(own_shapes_dir, "train")
    with pytest.raises(UserError, match=rf"{path.name}: its SHA-256 is not the one"):
        dataset.open_split(own_shapes_dir, "train", verify="digest")


def test_wrong_schema_version_and_wrong_folders_are_one_line(own_shapes_dir, tmp_path):
    with pytest.raises(UserError, match=r"no dataset\.json here; prepare the data first"):
        dataset.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no split 'dev'; it has train, val, test, heldout"):
        dataset.open_split(own_shapes_dir, "dev")
    with pytest.raises(UserError, match="verify='all': expected one of"):
        dataset.open_split(own_shapes_dir, "train", verify="all")
    path = own_shapes_dir / dataset.FILE
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    with pytest.raises(UserError, match="schema version 7, this code reads 1"):
        dataset.load(own_shapes_dir)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        dataset.load(own_shapes_dir)
    path.write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match="not a data set's description"):
        dataset.load(own_shapes_dir)
