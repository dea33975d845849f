"""CIFAR-10's two file formats (A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html).

The Python version is a pickle, and a pickle is a program. These need a few of NumPy's names to rebuild
an array, so the unpickler below knows those few and nothing else. It does not even hand them NumPy's own
functions: those trust their arguments (a crafted state crashes the interpreter), ours compare every claim
with the bytes that are there.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.data.folders import DataError

PIXELS = 3 * 32 * 32
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_MAX_FILE = 2**26  # a batch takes 31 MB

# What a dict of arrays, lists, integers and strings is written with, in protocols 2 to 5.
_OPCODES = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
    EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BYTEARRAY8 SHORT_BINUNICODE BINUNICODE
    BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
""".split()  # noqa: SIM905 (a list of literals would fill a page)


def read_cifar_batch(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch of CIFAR-10, of the Python version or (a name ending in ``.bin``) of the binary one.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    images : (N, 3, 32, 32) ndarray of uint8
        Read-only where it is a view of the file's bytes.
    labels : (N,) ndarray of int64
        0 ... 9, the indices of ``CLASS_NAMES``.

    Raises
    ------
    DataError
        The file is missing, truncated, not a batch of CIFAR-10, or a pickle that asks for anything but an
        array.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_FILE:
            raise DataError(f"it has {size} bytes, a batch about 31 million")
        raw = path.read_bytes()
        return _parse_binary(raw) if path.suffix == ".bin" else _parse_pickle(raw)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # bad pickles raise anything at all
        why = str(error) or type(error).__name__
        raise DataError(f"{path} is not a whole CIFAR-10 batch: {why}") from error


def _parse_binary(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3072 pixels."""
    if not raw or len(raw) % (1 + PIXELS):
        raise DataError(f"its {len(raw)} bytes are not a number of records of {1 + PIXELS}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:].reshape(-1, 3, 32, 32), _labels(records[:, 0])


def _parse_pickle(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A dict of ``data``, (N, 3072) in the order C, H, W, and ``labels``, a list; keys are bytes or text."""
    _check_opcodes(raw)
    batch = _BatchUnpickler(io.BytesIO(raw), encoding="bytes").load()
    if not isinstance(batch, dict):
        raise DataError("it holds no dictionary")
    fields = {_text(key): value for key, value in batch.items() if isinstance(key, str | bytes)}
    data, labels = _plain(fields.get("data")), _plain(fields.get("labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,):
        raise DataError(f"its data are not uint8 of shape (N, {PIXELS})")
    if isinstance(labels, list) and all(type(label) is int and 0 <= label <= 255 for label in labels):
        labels = np.array(labels, np.uint8)
    if not isinstance(labels, np.ndarray) or labels.shape != data.shape[:1]:
        raise DataError(f"its labels are not {len(data)} integers")
    return data.reshape(-1, 3, 32, 32), _labels(labels)


def _labels(labels: np.ndarray) -> np.ndarray:
    if labels.size and not (labels.min() >= 0 and labels.max() < len(CLASS_NAMES)):
        raise DataError(f"it has labels outside 0 ... {len(CLASS_NAMES) - 1}")
    return labels.astype(np.int64)


def _check_opcodes(raw: bytes) -> None:
    """Refuse a pickle that needs more than data does, before any of it runs.

    This also compares every length with the bytes that follow, and every memo index with the number of
    instructions so far: the unpickler makes room for the index as written, so ten bytes could ask for
    gigabytes.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        if opcode.name not in _OPCODES:
            raise DataError(f"it uses the pickle instruction {opcode.name}, which no batch needs")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > count:
            raise DataError(f"it stores memo entry {argument} as its instruction {count}")


class _BatchUnpickler(pickle.Unpickler):
    """Rebuilds arrays of integers; any other name in the file is an error."""

    def find_class(self, module: str, name: str, /) -> Any:
        match module.replace("numpy.core.", "numpy._core."), name:  # NumPy 2 renamed the module
            case "numpy._core.multiarray", "_reconstruct":  # up to protocol 4: filled by BUILD
                return _Rebuild().reconstruct
            case "numpy._core.numeric", "_frombuffer":  # protocol 5: an array at once
                return _Rebuild().frombuffer
            case "_codecs", "encode":  # protocol 2 from Python 3, which has no bytes there
                return _Rebuild().encode
            case "numpy", "dtype":
                return _Rebuild().dtype
            case "numpy", "ndarray":
                return None  # only ever passed to _reconstruct
        raise DataError(f"it asks for {module}.{name}, which no batch needs: open it by no other means")


class _Rebuild:
    """What stands for NumPy's functions.

    A pickle calls them, and gives them attributes, as it likes. They are handed out as bound methods, made
    anew each time: these take no attributes, and nothing that outlives the file can be reached through them.
    """

    def reconstruct(self, subtype: None, shape: object, typecode: object) -> _Array:
        return _Array()

    def frombuffer(self, buffer: object, dtype: object, shape: object, order: str) -> _Array:
        result = _Array()
        result.__setstate__((1, shape, dtype, order == "F", buffer))
        return result

    def encode(self, text: str, encoding: str) -> bytes:
        return text.encode("latin1")

    def dtype(self, code: object, align: object = False, copy: object = False) -> _DType:
        return _DType(_text(code))


class _DType:
    """A NumPy integer type, as a pickle spells it: its code, then the byte order."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def resolve(self) -> np.dtype:
        name = self.order + self.code
        if not re.fullmatch("[|<>=][iu][1248]", name):
            raise DataError(f"it holds an array of type {name[:20]!r}")
        return np.dtype(name)


class _Array:
    """An array as a pickle spells it; `array` is a read-only view of the file's bytes."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _DType):
            raise DataError("it holds an array that is not plain bytes")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise DataError(f"it holds an array of shape {shape!r:.60}")
        self.array = np.frombuffer(raw, dtype.resolve()).reshape(shape, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
