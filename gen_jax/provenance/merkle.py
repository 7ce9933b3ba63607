"""Verification of Merkle trees (RFC 6962), with hashes alone.

pymerkle writes the ledger. Whoever verifies needs none of it: this is the algorithm of RFC 9162,
section 2.1.3.2, and a test compares both.
"""

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()


def leaf(entry: bytes) -> bytes:
    """Returns the hash of an entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Returns the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_by_path(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Returns the root that an audit path leads to.

    Args:
      leaf_hash: Hash of the leaf.
      index: Index of the leaf, from 0.
      size: Number of leaves of the tree.
      path: Hashes of the siblings, from the leaf upward.

    Returns:
      The root, or None if a path of this length belongs to another index or size.
    """
    if not 0 <= index < size:
        return None
    at, last, root = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            root = node(sibling, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = node(root, sibling)
        at, last = at >> 1, last >> 1
    return root if last == 0 else None


class Frontier:
    """The roots of the complete subtrees of a growing tree, which give its root at every size.

    Attributes:
      size: Number of leaves.
    """

    def __init__(self):
        self.size = 0
        self._subroots: list[bytes] = []

    def append(self, leaf_hash: bytes) -> None:
        """Adds a leaf."""
        self._subroots.append(leaf_hash)
        self.size += 1
        merged = self.size
        while merged % 2 == 0:
            right, left = self._subroots.pop(), self._subroots.pop()
            self._subroots.append(node(left, right))
            merged //= 2

    def root(self) -> bytes:
        """Returns the root of the tree so far."""
        if not self._subroots:
            return EMPTY
        root = self._subroots[-1]
        for left in self._subroots[-2::-1]:
            root = node(left, root)
        return root
