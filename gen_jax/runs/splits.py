"""What is known of a prepared data set before its examples are read."""

import pathlib

from gen_jax.data import dataset


class DataSplits:
    """The splits of a prepared data set.

    Args:
      folder: A folder that `gen_jax.prepare` wrote.
      verify: How shards are checked: "size", "digest" or "none".

    Raises:
      UserError: The folder is no prepared data.
    """

    def __init__(self, folder: pathlib.Path, verify: str = "size"):
        self.folder, self._verify = folder, verify
        self.info = dataset.load(folder)
        self.checked: set[str] = set()

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are."""
        return tuple(self.info.splits)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each class."""
        return tuple(self.info.label_names)

    @property
    def source(self) -> str:
        """Name of what the data was prepared from."""
        return self.info.name

    def num_records(self, split: str) -> int:
        """Returns how many records a split has, 0 if there is no such split."""
        return self.info.num_records(split) if split in self.info.splits else 0

    def num_without_caption(self, split: str) -> int:
        """Returns how many records of a split have no caption."""
        statistics = self.info.statistics.get(split)
        return statistics["records"] - statistics["captioned"] if statistics else 0

    def check_split(self, split: str) -> None:
        """Compares the shards of a split with the data set's description, once.

        Raises:
          UserError: One is missing, cut short or altered; the message names it.
        """
        if split not in self.checked:
            dataset.open_split(self.folder, split, self._verify)
            self.checked.add(split)
