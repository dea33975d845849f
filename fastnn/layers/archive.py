"""Reading hostile ``.npz`` archives: nothing in them is executed, and nothing allocated on their word.

An archive is a zip file with a ``.npy`` member for each array. It may lie about each length in it, in its
directory and in the members' headers: these are compared with each other, and with the length of the file.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

_MOST_HEADER = 1000  # characters of a Python literal, which is parsed; NumPy writes 118


class Archive:
    """The arrays of an ``.npz`` file, by name.

    Parameters
    ----------
    file : binary file
    compressed : bool
        Take members that are compressed, too. The arrays of an archive without any cannot be larger than the
        file; where there may be some, compare :meth:`header` with what there is room for before reading.

    Raises
    ------
    ValueError, or whatever :mod:`zipfile` makes of a damaged directory
        It is no such file. The same holds for the methods.
    """

    def __init__(self, file: IO[bytes], *, compressed: bool) -> None:
        self._zip = zipfile.ZipFile(file)
        self._members: dict[str, zipfile.ZipInfo] = {}
        kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[: 1 + compressed]
        for member in self._zip.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ValueError(f"it has two members {shown(name)}")
            if member.compress_type not in kinds:
                raise ValueError(f"{shown(name)} is compressed by method {member.compress_type}")
            if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
                raise ValueError(f"{shown(name)} has two lengths")
            self._members[name] = member
        length, size = sum(m.compress_size for m in self._members.values()), file.seek(0, os.SEEK_END)
        if length > size:
            raise ValueError(f"its members would take {length} bytes, it has {size}")

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return list(self._members)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """The shape that an array is said to have, and its dtype, in this machine's byte order."""
        with self._zip.open(self._members[name]) as file:
            return _header(file)

    def array(self, name: str) -> np.ndarray:
        """An array; memory for it is taken only once its header agrees with the bytes of its member."""
        member = self._members[name]
        with self._zip.open(member) as file:
            shape, dtype = _header(file)
            promised, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        # NumPy makes room for texts of no characters as if they had one.
        if promised != there or (dtype.itemsize == 0 and math.prod(shape) > 1):
            raise ValueError(f"the header of {shown(name)} promises {promised} bytes, {there} are there")
        with self._zip.open(member) as file:
            array = npy.read_array(file, allow_pickle=False, max_header_size=_MOST_HEADER)
            if file.read(1):  # reading to the end is what compares the checksum, too
                raise ValueError(f"{shown(name)} is longer than its header says")
        return array.astype(dtype, copy=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], Any]:
    # Version 1.0 only: later ones have headers of up to 4 GB, for dtypes that no weights have.
    if npy.read_magic(file) != (1, 0):
        raise ValueError("the version of its format is not 1.0")
    shape, _, dtype = npy.read_array_header_1_0(file, max_header_size=_MOST_HEADER)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    return shape, dtype.newbyteorder("=")


def shown(text: str, most: int = 80) -> str:
    """A text out of a file, fit for a message: neither long nor able to steer a terminal."""
    short = text if len(text) <= most else text[:most] + "..."
    return short if short.isprintable() else repr(short)
