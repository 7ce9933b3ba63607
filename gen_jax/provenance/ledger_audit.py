"""Verification of a whole ledger, and of outputs against it. Needs no pymerkle."""

import dataclasses
import json
import pathlib
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from gen_jax.common.errors import UserError
from gen_jax.provenance import checkpoints, keys, ledger, merkle
from gen_jax.provenance.bundles import Bundle
from gen_jax.provenance.checkpoints import Checkpoint, CheckpointError
from gen_jax.provenance.verdict import Check, Outcome, Verdict

_NEAR = 6  # bits of 64 in which perceptual hashes of one image differ after compression
_DAMAGED = (sqlite3.Error, CheckpointError, ValueError, KeyError, TypeError)


class LedgerError(ValueError):
    """A ledger is damaged; the message is one phrase."""


@dataclasses.dataclass(frozen=True)
class AuditedLedger:
    """A ledger whose entries and checkpoints were all verified.

    Attributes:
      entries: The entries, in their order.
      texts: The same as they stand in the ledger.
      roots: Size -> root of the tree, at every size from 0.
      note: The newest signed checkpoint; "" if there is none.
      chains: PEM of the certificate chains that signed checkpoints.
      by_digest: SHA-256 of a finished file -> index of its newest entry.
    """

    entries: list[Mapping[str, Any]]
    texts: list[bytes]
    roots: list[bytes]
    note: str
    chains: tuple[str, ...]
    by_digest: Mapping[str, int]

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.entries)

    def fault_of(self, bundle: Bundle) -> str:
        """Returns why a bundle does not belong to this ledger, "" if it does."""
        if bundle.checkpoint.size > self.size:
            return (
                f"the ledger has {self.size} entries, fewer than the {bundle.checkpoint.size} of "
                "the bundle's checkpoint"
            )
        return self.fault_of_checkpoint(bundle.checkpoint) or (
            "" if self.texts[bundle.index] == bundle.text else "the entry in the ledger is another"
        )

    def fault_of_checkpoint(self, checkpoint: Checkpoint) -> str:
        """Returns why a checkpoint is no earlier state of this ledger, "" if it is one."""
        if checkpoint.size > self.size:
            return f"the ledger has {self.size} entries, the checkpoint {checkpoint.size}"
        if self.roots[checkpoint.size] != checkpoint.root:
            return f"the ledger had another history at {checkpoint.size} entries"
        return ""

    def resembling(self, pixels_sha256: str, phash: Callable[[], str]) -> str:
        """Returns a phrase on the entry whose image is the same or resembles it, "" for none.

        Args:
          pixels_sha256: Digest of the pixels.
          phash: Returns the perceptual hash; called if no entry has the same pixels.
        """
        for index, entry in enumerate(self.entries):
            if entry["pixels_sha256"] == pixels_sha256:
                return f"its pixels are those of entry {index}"
        own = int(phash(), 16)
        gaps = [(int(e["phash"], 16) ^ own).bit_count() for e in self.entries]
        if gaps and min(gaps) <= _NEAR:
            return f"it resembles entry {gaps.index(min(gaps))} (perceptual hash)"
        return ""


def read(folder: str, trusted: str = "", name: str = "ledger") -> AuditedLedger:
    """Reads a ledger and verifies every entry and every checkpoint.

    Args:
      folder: Folder of the ledger.
      trusted: PEM of trusted root certificates, which the signers must lead to; "" for any.
      name: What the folder is called in messages.

    Raises:
      UserError: There is no ledger.
      LedgerError: It is damaged.
    """
    place = pathlib.Path(folder)
    if not ledger.exists(place):
        raise UserError(f"{name}={folder}: no {ledger.FILE} there; name the folder of a ledger")
    try:
        leaves, signed, origin = _rows(place / ledger.FILE)
        frontier, roots, entries = merkle.Frontier(), [merkle.EMPTY], []
        for index, (number, text, digest) in enumerate(leaves):
            if number != index + 1 or merkle.leaf(text) != digest:
                raise LedgerError(f"entry {index} was changed")
            frontier.append(digest)
            roots.append(frontier.root())
            entries.append(json.loads(text))
        _check_signed(signed, origin, roots, trusted)
    except _DAMAGED as error:
        if isinstance(error, LedgerError):
            raise
        raise LedgerError(f"{type(error).__name__}: {error}") from None
    by_digest = {entry["sha256"]: index for index, entry in enumerate(entries)}
    note, chains = signed[-1][1] if signed else "", tuple(dict.fromkeys(row[2] for row in signed))
    texts = [text for _, text, _ in leaves]
    return AuditedLedger(entries, texts, roots, note, chains, by_digest)


def verified(
    folder: str, trusted: str = "", earlier: str = ""
) -> tuple[Verdict, AuditedLedger | None]:
    """Verifies a ledger.

    Args:
      folder: Folder of the ledger.
      trusted: As of `read`.
      earlier: A checkpoint that was published before, which must be a state of this ledger; ""
        for none.

    Returns:
      The verdict, and the ledger, None if it is damaged.

    Raises:
      UserError: There is no ledger, or an optional package is missing.
    """
    path = pathlib.Path(folder) / ledger.FILE
    try:
        entered = read(folder, trusted)
    except LedgerError as error:
        return Verdict(path, (Check("ledger", Outcome.FAILED, str(error)),)), None
    checks = [Check("ledger", Outcome.OK, f"{entered.size} entries, all as signed")]
    if earlier:
        fault = _fault_of_note(entered, earlier)
        outcome = Outcome.FAILED if fault else Outcome.OK
        checks.append(Check("checkpoint", outcome, fault or "an earlier state of this ledger"))
    return Verdict(path, tuple(checks)), entered


def _fault_of_note(entered: AuditedLedger, note: str) -> str:
    """Returns why a signed note is no earlier state of a ledger, "" if it is one."""
    fault = "the ledger has no signed checkpoint"
    for chain in entered.chains:
        try:
            return entered.fault_of_checkpoint(checkpoints.verify(note, chain))
        except CheckpointError as error:
            fault = str(error)
    return fault


def _rows(path: pathlib.Path) -> tuple[list[Any], list[Any], str]:
    """Returns the entries, the checkpoints and the origin of one moment."""
    for mode in ("ro", "rw"):  # after a crash, the first reader must undo what was not finished
        con = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
        try:
            con.execute("BEGIN")
            leaves = con.execute("SELECT id, entry, hash FROM leaf ORDER BY id").fetchall()
            query = "SELECT size, note, certificates FROM checkpoint ORDER BY size"
            signed = con.execute(query).fetchall()
            (origin,) = con.execute("SELECT name FROM origin").fetchone()
            return leaves, signed, origin
        except sqlite3.OperationalError:
            if mode == "rw":
                raise
        finally:
            con.close()
    raise AssertionError


def _check_signed(
    signed: list[tuple[int, str, str]], origin: str, roots: list[bytes], trusted: str
) -> None:
    """Verifies all checkpoints of a ledger; the last one must hold all entries."""
    known: dict[str, bool] = {}
    for size, note, certificates in signed:
        checkpoint = checkpoints.verify(note, certificates)
        if trusted and not known.setdefault(certificates, keys.is_issued_by(certificates, trusted)):
            raise LedgerError(f"the checkpoint of size {size} is signed by a key without trust")
        if (checkpoint.size, checkpoint.origin) != (size, origin) or size >= len(roots):
            raise LedgerError(f"the checkpoint of size {size} was changed")
        if roots[size] != checkpoint.root:
            raise LedgerError(f"the entries are not those of the checkpoint of size {size}")
    if (signed[-1][0] if signed else 0) != len(roots) - 1:
        raise LedgerError("there are entries that no checkpoint holds")
