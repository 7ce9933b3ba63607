"""State dicts out of files of torch.save, without torch and without running what they hold.

A pickle is a program that may call anything it can name. Here it can name what
`torch.load(weights_only=True)` lets a plain state dict name, and nothing else. Tensors are only
described while it runs; their bytes are read, and held to the file's size, afterwards.

Both layouts are read: the zip archive of PyTorch 1.6 and later (data.pkl, one entry a storage),
and the older one, five pickles and then the storages, each after its length.
"""

import dataclasses
import os
import pickle
import struct
import zipfile
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from gen_jax.common.errors import UserError

_STORAGES = {
    "DoubleStorage": np.dtype("float64"),
    "FloatStorage": np.dtype("float32"),
    "HalfStorage": np.dtype("float16"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("int64"),
    "IntStorage": np.dtype("int32"),
    "ShortStorage": np.dtype("int16"),
    "CharStorage": np.dtype("int8"),
    "ByteStorage": np.dtype("uint8"),
    "BoolStorage": np.dtype("bool"),
}
_ZIP = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what the older layout begins with
_NESTED = ("state_dict", "model")  # where training scripts put the weights
_GET_AGAIN = "the file is cut short, damaged or not of torch.save: get it again"


def load_torch_pickle(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Name -> array, in the stored types (bfloat16 as `ml_dtypes.bfloat16`), read-only.

    Args:
      path: a state dict that torch.save wrote, whole or under "state_dict" or "model"; entries
        that are no tensors are left out.

    Raises:
      UserError: the pickle names what no state dict needs and so may run code; or the file is
        missing, cut short, damaged, or holds no state dict.
    """
    try:
        with open(path, "rb") as file:
            read = _read_zip if file.read(len(_ZIP)) == _ZIP else _read_legacy
            file.seek(0)
            return read(file, path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: expected a file of torch.save") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder: name the file of torch.save in it") from None
    except Exception as error:  # a damaged pickle makes Python raise nearly anything
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: cannot be read ({text}): {_GET_AGAIN}") from None


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor as described in the pickle: elements of a storage."""

    key: str
    dtype: np.dtype
    length: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, data: bytes, big_endian: bool = False) -> np.ndarray:
        """The elements out of the storage's bytes."""
        if len(data) != self.length * self.dtype.itemsize:
            raise ValueError(f"storage {self.key} has {len(data)} bytes")
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        raw = np.frombuffer(data, np.uint8)
        if big_endian:
            raw = np.ascontiguousarray(raw.reshape(self.length, -1)[:, ::-1]).reshape(-1)
        values = raw.view(self.dtype)[self.offset :]
        strides = tuple(s * self.dtype.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it alters a tensor")


class _Dict(dict):
    """What stands for an OrderedDict; the module versions that torch hangs on it are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Name:
    """A name that a pickle may use. Without attributes, so that no pickle can alter it."""

    __slots__ = ("_call", "dtype")

    def __init__(self, call: Any = None, dtype: np.dtype | None = None):
        self._call, self.dtype = call, dtype

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it alters a function")


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if not all(type(n) is int and n >= 0 for n in numbers) or len(shape) != len(strides):
        raise ValueError("a tensor with impossible sizes")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if 0 not in shape and last >= storage.length:
        raise ValueError("a tensor that reaches beyond its storage")
    return dataclasses.replace(storage, offset=offset, shape=shape, strides=strides)


def _names() -> dict[tuple[str, str], _Name]:
    rebuild = _Name(_rebuild_tensor)
    names = {
        ("collections", "OrderedDict"): _Name(_Dict),
        ("torch", "Size"): _Name(tuple),
        ("torch._utils", "_rebuild_tensor"): rebuild,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild,
        ("torch._utils", "_rebuild_parameter"): _Name(lambda tensor, *_: tensor),
    }
    for name, dtype in _STORAGES.items():
        for module in ("torch", "torch.cuda"):
            names[module, name] = _Name(dtype=dtype)
    return names


class _Unpickler(pickle.Unpickler):
    """Runs a pickle that may name `_names` only.

    Attributes:
      dtypes: key of a storage -> the type of its elements, as far as the pickle has run.
    """

    def __init__(self, file: Any, path: str | os.PathLike):
        super().__init__(file, encoding="utf-8")  # of strings that Python 2 wrote
        self._path, self._names = path, _names()
        self.dtypes: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str) -> _Name:
        found = self._names.get((module, name))
        if found is None:
            raise UserError(
                f"{self._path}: names {module}.{name}, which no state dict needs: such a file may "
                "run code when it is opened, and was not read; get one that holds weights alone"
            )
        return found

    def persistent_load(self, pid: Any) -> _Tensor:
        kind, storage, key, _device, length, *view = pid
        if kind != "storage" or type(length) is not int or length < 0 or any(view):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        self.dtypes[str(key)] = storage.dtype
        return _Tensor(str(key), storage.dtype, length, 0, (length,), (1,))


def _read_zip(file: BinaryIO, path: str | os.PathLike) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        # A compressed entry could unpack to any size, and torch.save writes none.
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise UserError(f"{path}: a zip with compressed entries: expected a file of torch.save")
        programs = [name for name in names if name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise UserError(f"{path}: a zip without data.pkl: expected a file of torch.save")
        top = programs[0].removesuffix("data.pkl")
        big_endian = top + "byteorder" in names and archive.read(top + "byteorder") == b"big"
        with archive.open(programs[0]) as program:
            tensors = _tensors(_Unpickler(program, path).load(), path)
        keys = {tensor.key for tensor in tensors.values()}
        storages = {key: archive.read(f"{top}data/{key}") for key in keys}
    return {name: t.array(storages[t.key], big_endian) for name, t in tensors.items()}


def _read_legacy(file: BinaryIO, path: str | os.PathLike) -> dict[str, np.ndarray]:
    if any(_Unpickler(file, path).load() != number for number in (_MAGIC, _PROTOCOL)):
        raise UserError(f"{path}: a pickle, but none of torch.save: expected a state dict")
    _Unpickler(file, path).load()  # facts of the machine; storages are little endian on any
    program = _Unpickler(file, path)
    tensors = _tensors(program.load(), path)
    storages = {}
    for key in _Unpickler(file, path).load():
        (length,) = struct.unpack("<q", file.read(8))
        size = length * program.dtypes[key].itemsize
        if not 0 <= size <= os.fstat(file.fileno()).st_size - file.tell():
            raise ValueError(f"storage {key} ends after the file")
        storages[key] = file.read(size)
    return {name: t.array(storages[t.key]) for name, t in tensors.items()}


def _tensors(loaded: Any, path: str | os.PathLike) -> dict[str, _Tensor]:
    """The tensors of a state dict, or of the one inside."""
    if isinstance(loaded, dict):
        nested = [loaded[name] for name in _NESTED if isinstance(loaded.get(name), dict)]
        state = nested[0] if nested else loaded
        tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, _Tensor)}
        if tensors:
            return tensors
        holds = ", ".join(str(k)[:40] for k in list(loaded)[:6] if isinstance(k, str))
    else:
        holds = type(loaded).__name__.strip("_")
    raise UserError(
        f"{path}: holds no tensors by name, but {holds or 'nothing'}: expected a state dict, whole "
        f"or under {' or '.join(map(repr, _NESTED))}"
    )
