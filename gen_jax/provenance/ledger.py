"""An append-only ledger of outputs: a Merkle tree (RFC 6962) in SQLite with signed checkpoints.

Each append is one transaction with its checkpoint. Several processes may append at once, and a
process that is killed leaves the entries of finished appends and nothing else.
"""

import pathlib
import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

from gen_jax.common import outputs
from gen_jax.common.errors import UserError
from gen_jax.provenance import bundles, checkpoints, extra
from gen_jax.provenance.checkpoints import Checkpoint
from gen_jax.provenance.keys import Signer

FILE = "ledger.sqlite"

_KEPT = 4  # leaves of the smallest subtrees whose roots are kept: proofs of a batch share them
_WAIT = 60  # seconds that an append waits for those of other processes
_ORIGIN = "gen_jax.ledger/"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS origin(one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT)",
    "CREATE TABLE IF NOT EXISTS checkpoint(size INTEGER PRIMARY KEY, note TEXT, certificates TEXT)",
)
_INSERT_LEAF = "INSERT INTO leaf(entry, hash) VALUES (?, ?)"
_INSERT_CHECKPOINT = "INSERT INTO checkpoint VALUES (?, ?, ?)"


class Ledger:
    """A ledger that entries are appended to.

    Attributes:
      origin: Name of the ledger, drawn when it is made.
    """

    def __init__(self, folder: str, signer: Signer, name: str = "ledger"):
        """Opens a ledger, or makes it.

        Args:
          folder: Folder of the ledger.
          signer: Signs the checkpoints.
          name: What the folder is called in messages.

        Raises:
          UserError: It cannot be written to, or is damaged.
        """
        pymerkle = extra.load("pymerkle", name)
        place = outputs.check_folder(folder, name)
        place.mkdir(parents=True, exist_ok=True)
        self._signer, self._where = signer, f"{name}={folder}"
        try:
            self._tree = pymerkle.SqliteTree(str(place / FILE), threshold=_KEPT)
            self._tree.con.execute(f"PRAGMA busy_timeout = {1000 * _WAIT}")
            for statement in _TABLES:
                self._tree.con.execute(statement)
            self.origin = self._read_origin()
        except (sqlite3.Error, ValueError) as error:
            raise UserError(f"{self._where}: {FILE} cannot be used ({error})") from None

    def append(self, entries: Sequence[bytes]) -> list[bytes]:
        """Appends entries under one new checkpoint.

        Args:
          entries: Entries as `bundles.entry` makes them.

        Returns:
          The bundle of each. Its entry is on the disk.

        Raises:
          UserError: The ledger cannot be written to; no entry was appended then.
        """
        if not entries:
            return []
        tree, con = self._tree, self._tree.con
        try:
            con.execute("BEGIN IMMEDIATE")
            first = tree.get_size()
            # Not by append_entries, which would commit the entries without their checkpoint.
            con.executemany(_INSERT_LEAF, [(entry, tree.hash_buff(entry)) for entry in entries])
            size = tree.get_size()
            signer, root = self._signer, tree.get_root()
            state = (self.origin, size, root, checkpoints.now(), signer.certificates_sha256)
            note = checkpoints.sign(Checkpoint(*state), signer)
            con.execute(_INSERT_CHECKPOINT, (size, note, signer.certificates))
            made = [self._bundle(entry, first + i, note) for i, entry in enumerate(entries)]
            con.commit()
        except BaseException as error:
            con.rollback()
            tree.cache_clear()  # it may hold the roots of what was rolled back
            if isinstance(error, sqlite3.Error):
                raise UserError(f"{self._where}: cannot be appended to ({error})") from None
            raise
        return made

    def consistency(self, first: int, second: int | None = None) -> dict[str, Any]:
        """Returns the proof that an earlier state is a prefix of a later one, for JSON.

        Args:
          first: Size of the earlier state, from 1.
          second: Size of the later one; None for the newest.
        """
        return self._tree.prove_consistency(first, second).serialize()

    def close(self) -> None:
        """Closes the file."""
        self._tree.close()

    def _bundle(self, entry: bytes, index: int, note: str) -> bytes:
        # pymerkle counts from 1 and puts the leaf itself first.
        path = self._tree.prove_inclusion(index + 1).path[1:]
        return bundles.dumps(entry, index, path, note, self._signer.certificates)

    def _read_origin(self) -> str:
        """Returns the name of the ledger; the first process draws it."""
        con = self._tree.con
        with con:
            name = _ORIGIN + uuid.uuid4().hex[:12]
            con.execute("INSERT OR IGNORE INTO origin VALUES (1, ?)", (name,))
        return con.execute("SELECT name FROM origin").fetchone()


def exists(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a ledger."""
    return (folder / FILE).is_file()
