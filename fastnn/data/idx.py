"""The IDX format of MNIST, plain or gzipped (Y. LeCun, http://yann.lecun.com/exdb/mnist/).

A header of big-endian numbers (two zero bytes, a type byte, the number of dimensions, each size as uint32),
then the elements in C order, big-endian. The header is a claim: an array is made only of bytes that have been
read, and no more are ever read than the file can hold.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastnn.data.folders import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMS = 32  # NumPy 1's limit
_MAX_DEFLATE_RATIO = 1032  # deflate's own bound: 258 bytes cannot take less than two bits (RFC 1951)
_MAX_BYTES = 2**30  # beyond any set in this format (EMNIST's largest file has 547 MB), packed or sparse
_PIECE = 2**20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file, gzipped or not (its first bytes tell, not its name).

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    array : ndarray
        The shape the header gives; uint8, int8, int16, int32, float32 or float64 in this machine's byte
        order.

    Raises
    ------
    DataError
        The file is missing, is not IDX, or is shorter or longer than its header says.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                return _parse(raw, min(size, _MAX_BYTES))
            with gzip.GzipFile(fileobj=raw) as file:
                return _parse(file, min(size * _MAX_DEFLATE_RATIO, _MAX_BYTES))
    except DataError as error:
        raise DataError(f"{path} is not a whole IDX file: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an IDX file: {error}") from error


def _parse(file: BinaryIO | gzip.GzipFile, limit: int) -> np.ndarray:
    """The array in `file`, which can hold no more than `limit` bytes."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES or not 1 <= start[3] <= _MAX_DIMS:
        raise DataError(f"it starts with the bytes {start.hex(' ') or '(none)'}")
    dtype, ndim = np.dtype(_DTYPES[start[2]]), start[3]
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError("it ends inside its header")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, 4 * ndim, 4))
    wanted = math.prod(shape) * dtype.itemsize
    header = 4 + 4 * ndim
    if header + wanted > limit:
        raise DataError(f"its header promises {header + wanted} bytes, but {limit} are the most it may hold")
    buffer = bytearray()
    while len(buffer) < wanted:
        piece = file.read(min(_PIECE, wanted - len(buffer)))
        if not piece:
            raise DataError(f"its header promises {wanted} bytes of data, but it holds {len(buffer)}")
        buffer += piece
    if file.read(1):  # this also makes gzip compare its checksum
        raise DataError(f"it goes on after the {wanted} bytes of data that its header promises")
    try:
        array = np.frombuffer(buffer, dtype).reshape(shape)
    except ValueError as error:  # a size of 0 beside sizes whose product no array may have
        raise DataError(f"its header gives the shape {shape}: {error}") from None
    if not dtype.isnative:  # in place: a copy would hold everything twice
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array
