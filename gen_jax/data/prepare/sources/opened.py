"""What sources share that read a data set through its own library."""

from typing import Any


class OpenedSource:
    """Base of sources whose library gives rows by their index.

    A subclass sets `_split`, `_version`, `_columns` and `_opened` in `_open`, and calls it first
    when it is made. The opened data set is not pickled: each worker opens it again.
    """

    _opened: Any = None
    _split: str
    _version: str
    _columns: Any

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_opened": None}

    def _open(self) -> None:
        raise NotImplementedError

    @property
    def _rows(self) -> Any:
        if self._opened is None:  # pickled on the way to a worker
            self._open()
        return self._opened

    def __len__(self) -> int:
        return len(self._rows)

    def identity(self) -> dict:
        return {"split": self._split, "version": self._version, "records": len(self)}

    def label_names(self) -> list[str]:
        return list(self._columns.label_names)
