"""CIFAR-10's two file formats (A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html).

The Python version is a pickle; ``unpickle.py`` reads it without running it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastnn.data import unpickle
from fastnn.data.folders import DataError

PIXELS = 3 * 32 * 32
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_MAX_FILE = 2**26  # a batch takes 31 MB


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
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_FILE:
                raise DataError(f"it has {size} bytes, a batch about 31 million")
            raw = file.read(size)  # of a device, which never ends, nothing
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
    batch = unpickle.load(raw)
    if not isinstance(batch, dict):
        raise DataError("it holds no dictionary")
    fields = {unpickle.text(key): unpickle.plain(value) for key, value in batch.items()}
    data, labels = fields.get("data"), fields.get("labels")
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
