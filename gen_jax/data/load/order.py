"""The order of examples, as a pure function of (seed, position).

A position counts examples from the beginning of training over all processes and
epochs: the batch of global step s is positions [s * B, (s + 1) * B). Because no
state is involved, a run resumes at any step, with any number of processes, and
sees what it would have seen. Every epoch is a permutation of its own, computed
point by point (a Feistel network on the bits, walked until it lands inside), so
nothing grows with the data set.
"""

import numpy as np
from jaxtyping import Int64

_ROUNDS = 6
_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


def _mix(x: np.ndarray) -> np.ndarray:
    """A good hash of 64-bit words (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _round_keys(seed: int, epochs: np.ndarray) -> list[np.ndarray]:
    """One key a round for each epoch in `epochs`."""
    base = _mix(np.array([seed & int(_MASK)], np.uint64) + _STEP)
    key = _mix(epochs.astype(np.uint64) ^ base)
    keys = []
    for number in range(_ROUNDS):
        key = _mix(key + _STEP + np.uint64(number))
        keys.append(key)
    return keys


def permute(
    offsets: Int64[np.ndarray, " n"], size: int, seed: int, epochs: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Maps each offset in [0, size) by the permutation of (seed, epoch).

    Args:
      offsets: places in the epoch.
      size: examples an epoch.
      seed: any integer.
      epochs: the epoch of each offset.
    """
    half = max(1, (max(1, size - 1).bit_length() + 1) // 2)
    shift, low = np.uint64(half), np.uint64((1 << half) - 1)
    with np.errstate(over="ignore"):
        keys = _round_keys(seed, epochs)
        result = offsets.astype(np.uint64)
        walking = np.arange(len(result))
        while walking.size:
            left, right = result[walking] >> shift, result[walking] & low
            for key in keys:
                left, right = right, left ^ (_mix(right + key[walking]) & low)
            result[walking] = (left << shift) | right
            # The network permutes a power of four; what falls outside goes round again.
            walking = walking[result[walking] >= np.uint64(size)]
    return result.astype(np.int64)


def example_order(
    positions: Int64[np.ndarray, " n"], size: int, seed: int, shuffle: bool = True
) -> Int64[np.ndarray, " n"]:
    """Record indices at global positions of the endless sequence.

    Args:
      positions: from 0, in any order.
      size: records of the split.
      seed: of the shuffle.
      shuffle: a new permutation every epoch; otherwise 0, 1, 2, ... over and over.
    """
    offsets, epochs = positions % size, positions // size
    return permute(offsets, size, seed, epochs) if shuffle else offsets


def rows_of_process(
    step: int, batch_size: int, process_index: int, process_count: int
) -> Int64[np.ndarray, " n"]:
    """Global positions that one process reads at a step: its contiguous part of the batch."""
    local = batch_size // process_count
    start = step * batch_size + process_index * local
    return np.arange(start, start + local, dtype=np.int64)


def augmentation_rng(seed: int, position: int) -> np.random.Generator:
    """The random numbers for the example at a position: the same on every machine and topology."""
    key = ((seed & int(_MASK)) << 64) | (position & int(_MASK))
    return np.random.Generator(np.random.Philox(key=key))
