"""Which split an example belongs to: a pure function of its content.

Nothing else in the data set matters, so images added later never move earlier
ones, and the same picture can never lie in two splits.
"""

TRAIN, VAL, TEST = "train", "val", "test"


def split_of(sha256: str, val_fraction: float, test_fraction: float) -> str:
    """The split of a content digest.

    Args:
      sha256: hex digest of the content.
      val_fraction: share of "val", in [0, 1).
      test_fraction: share of "test", in [0, 1); the rest is "train".
    """
    # The last 13 digits: keys and shard order use the first ones.
    place = int(sha256[-13:], 16) / 16**13
    if place < test_fraction:
        return TEST
    # Counted from the other end, so that changing one fraction leaves the other split alone.
    if place >= 1.0 - val_fraction:
        return VAL
    return TRAIN
