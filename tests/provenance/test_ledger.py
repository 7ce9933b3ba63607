"""The ledger: proofs, several writers, sudden ends, and every change noticed."""

import hashlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import string
import subprocess
import sys
import time

import pytest

from gen_jax.common.errors import UserError
from gen_jax.provenance import bundles, checkpoints, keys, ledger, ledger_audit, merkle
from gen_jax.provenance.checkpoints import CheckpointError
from gen_jax.provenance.ledger import Ledger
from tests.processes import ROOT
from tests.provenance import signed

pymerkle = pytest.importorskip("pymerkle", reason="needs the extra provenance")

WRITER = """
import sys
from gen_jax.provenance import bundles, keys, ledger
from tests.provenance.test_ledger import entry
log = ledger.Ledger(sys.argv[1], keys.load(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[4])):
    (bundle,) = log.append([entry(f"{sys.argv[3]} {i}")])
    bundles.loads(bundle)
    print(i, flush=True)
"""


def entry(name):
    """An entry of an output called `name`."""
    facts = {"created": "2026-12-01T00:00:00Z", "kind": "restore", "signature": {}}
    facts["signature"]["pixels_sha256"] = hashlib.sha256(name.encode()).hexdigest()
    return bundles.entry(name.encode(), b"{}", facts, "8e55683b55559a2e")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return (*signed.key(folder), folder / "key.pem")


@pytest.fixture
def log(key, tmp_path):
    made = Ledger(str(tmp_path / "log"), key[0])
    yield made
    made.close()


def start(tmp_path, key, name, count):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "log"), str(key[2]), name, str(count)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    writer = subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_proofs_are_those_of_rfc_6962():
    tree, frontier = pymerkle.InmemoryTree(), merkle.Frontier()
    for size in range(1, 40):
        tree.append_entry(str(size).encode())
        frontier.append(merkle.leaf(str(size).encode()))
        root = tree.get_root()
        assert frontier.root() == root and frontier.size == size
        for index in range(size):
            leaf, *path = tree.prove_inclusion(index + 1).path
            assert merkle.root_by_path(leaf, index, size, path) == root
            assert merkle.root_by_path(leaf, index, size + 64, path) is None
            if path:
                assert merkle.root_by_path(leaf, index, size, path[:-1]) != root
                assert merkle.root_by_path(leaf, index ^ 1, size, path) != root
    assert merkle.Frontier().root() == merkle.EMPTY == pymerkle.InmemoryTree().get_root()


def test_each_entry_has_a_proof_and_a_ledger_grows_by_its_end(key, log, tmp_path):
    first = log.append([entry("a")])
    began = time.perf_counter()
    made = first + log.append([entry(str(i)) for i in range(2000)])
    assert time.perf_counter() - began < 5  # about 0.6 s, on a busy machine more
    assert log.append([]) == []
    entered = ledger_audit.read(str(tmp_path / "log"), key[1])
    assert entered.size == 2001
    for index in (0, 1, 777, 2000):
        bundle = bundles.loads(made[index])
        assert bundle.index == index and entered.fault_of(bundle) == ""
        assert entered.by_digest[bundle.entry["sha256"]] == index
    old = json.loads(first[0])["checkpoint"]
    for note, words in (
        (old, "an earlier state"),
        (entered.note, "an earlier state"),
        (old.replace("\n1\n", "\n2\n"), "signature of the checkpoint is not valid"),
        ("no checkpoint", "is damaged"),
    ):
        verdict, _ = ledger_audit.verified(str(tmp_path / "log"), key[1], note)
        assert words in verdict.checks[1].detail
    proof = pymerkle.ConsistencyProof.deserialize(log.consistency(1))
    proof.verify(entered.roots[1], entered.roots[2001], prior_size=1, later_size=2001)
    # Bits that base64 ignores are noticed, too.
    letters = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    other = letters[letters.index(old[-3]) ^ 1]
    with pytest.raises(CheckpointError, match="a signature of the checkpoint is damaged"):
        checkpoints.verify(f"{old[:-3]}{other}=\n", key[0].certificates)
    # A witness may sign as well.
    assert checkpoints.verify(old + "\u2014 witness AAAAAAAA\n", key[0].certificates).size == 1


def test_another_history_and_other_keys_are_noticed(key, log, tmp_path):
    made = log.append([entry("a"), entry("b")])
    other = Ledger(str(tmp_path / "other"), key[0])
    other.append([entry("a"), entry("c"), entry("d")])
    entered = ledger_audit.read(str(tmp_path / "other"))
    assert "another history" in entered.fault_of(bundles.loads(made[0]))
    other.close()
    (tmp_path / "short").mkdir()
    short = Ledger(str(tmp_path / "short"), key[0])
    short.append([entry("a")])
    short.close()
    entered = ledger_audit.read(str(tmp_path / "short"))
    assert "fewer than the 2" in entered.fault_of(bundles.loads(made[1]))
    stranger = keys.make(tmp_path / "stranger.pem").read_text()
    with pytest.raises(ledger_audit.LedgerError, match="a key without trust"):
        ledger_audit.read(str(tmp_path / "log"), stranger)
    with pytest.raises(CheckpointError, match="other certificates"):
        checkpoints.verify(json.loads(made[0])["checkpoint"], stranger)
    with pytest.raises(UserError, match=r"no ledger\.sqlite there"):
        ledger_audit.read(str(tmp_path))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ledger.FILE).write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"ledger=.*: ledger.sqlite cannot be used"):
        Ledger(str(tmp_path / "bad"), key[0])
    assert "DatabaseError" in ledger_audit.verified(str(tmp_path / "bad"))[0].line()


def test_every_changed_row_is_noticed(key, log, tmp_path):
    for i in range(5):
        log.append([entry(f"{i} {j}") for j in range(3)])
    path = tmp_path / "log" / ledger.FILE
    columns = [("leaf", c, "id") for c in ("entry", "hash", "id")]
    columns += [("checkpoint", c, "size") for c in ("note", "certificates", "size")]
    columns.append(("origin", "name", "one"))
    rng, whole = random.Random(0), path.read_bytes()
    for number in range(70):
        table, column, by = columns[number % len(columns)]
        con = sqlite3.connect(path)
        with con:
            for trigger in ("leaf_no_update", "leaf_no_delete"):
                con.execute(f"DROP TRIGGER {trigger}")
            rows = con.execute(f"SELECT {by}, {column} FROM {table}").fetchall()
            row, value = rng.choice(rows)
            con.execute(
                f"UPDATE {table} SET {column} = ? WHERE {by} = ?", (changed(value, rng), row)
            )
        con.close()
        verdict, entered = ledger_audit.verified(str(tmp_path / "log"))
        assert entered is None, (table, column, verdict.line())
        path.write_bytes(whole)
    assert ledger_audit.verified(str(tmp_path / "log"))[1].size == 15
    for table, where in (("leaf", "id = 15"), ("leaf", "id = 7"), ("checkpoint", "size = 15")):
        con = sqlite3.connect(path)
        with con:
            con.execute("DROP TRIGGER leaf_no_delete")
            con.execute(f"DELETE FROM {table} WHERE {where}")
        con.close()
        assert ledger_audit.verified(str(tmp_path / "log"))[1] is None
        path.write_bytes(whole)


def changed(value, rng):
    """A value with one bit flipped."""
    if isinstance(value, int):
        return value + 100
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(7)
    return data.decode("utf-8", errors="replace") if isinstance(value, str) else bytes(data)


def test_two_processes_append_and_one_is_killed(key, tmp_path):
    writers = [start(tmp_path, key, name, 20) for name in "ab"]
    for writer in writers:  # at the same time
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert ledger_audit.read(str(tmp_path / "log"), key[1]).size == 40
    finished = kill_in_an_append(tmp_path, key, "c", random.Random(0))
    entered = ledger_audit.read(str(tmp_path / "log"), key[1])
    assert 40 + finished <= entered.size <= 41 + finished


@pytest.mark.nightly
def test_no_finished_entry_is_lost_in_50_sudden_ends(key, tmp_path):
    rng, total = random.Random(1), 0
    for number in range(50):
        total += kill_in_an_append(tmp_path, key, str(number), rng)
        entered = ledger_audit.read(str(tmp_path / "log"), key[1])
        assert total <= entered.size <= total + number + 1


def kill_in_an_append(tmp_path, key, name, rng):
    """Kills a process while it appends; returns how many appends it had finished."""
    writer = start(tmp_path, key, name, 100_000)
    writer.stdin.write("\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "0\n"
    time.sleep(rng.uniform(0.0, 0.2))
    writer.send_signal(signal.SIGKILL)
    lines = writer.stdout.read().splitlines()
    writer.wait(timeout=60)
    whole = [line for line in lines if line.isdigit()]
    assert pathlib.Path(tmp_path / "log" / ledger.FILE).exists()
    return 1 + len(whole)
