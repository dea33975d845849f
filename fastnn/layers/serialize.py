"""Weights files: arrays by name, as ``.npz`` (without pickle) or ``.safetensors``.

A file is hostile until its names, shapes and dtypes have been read and found to be what the model expects:
only then are its arrays read, so that neither an object array nor a header that promises terabytes gets
anywhere.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

Found = dict[str, tuple[tuple[int, ...], Any]]


def save(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` to `path`, in the format of its suffix.

    Raises
    ------
    ValueError
        The suffix is neither ``.npz`` nor ``.safetensors``.
    ImportError
        It is ``.safetensors`` and that package is not installed.
    """
    path = Path(path)
    if _suffix(path) == ".npz":
        write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    else:
        content = _safetensors().numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
        write_atomically(path, lambda file: file.write(content))


def load(path: str | os.PathLike[str], expected: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays in `path`, which must have the names and shapes of those in `expected` and be float32 or
    float64.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The suffix is unknown; the file is damaged or something else; names, shapes or dtypes are not those
        expected.
    ImportError
        It is ``.safetensors`` and that package is not installed.
    """
    path = Path(path)
    if _suffix(path) == ".npz":
        return _load_npz(path, expected)
    return _load_safetensors(path, expected)


def check(own: dict[str, Any], found: Found, where: str) -> None:
    """Hold `found`, names with shapes and dtypes, against the arrays in `own`; one ValueError names all that
    differs.
    """
    faults = [f"missing {name}" for name in own if name not in found]
    faults += [f"unknown {name}" for name in found if name not in own]
    for name in own.keys() & found.keys():
        shape, dtype = found[name]
        if tuple(shape) != own[name].shape:
            faults.append(f"{name} has shape {tuple(shape)}, need {own[name].shape}")
        elif dtype not in (np.float32, np.float64):
            faults.append(f"{name} has dtype {dtype}, need float32 or float64")
    if faults:
        raise ValueError(f"{where} does not fit the model: {'; '.join(sorted(faults))}")


def _suffix(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"a weights file ends in .npz or .safetensors, got {str(path)!r}")
    return path.suffix


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Call ``write(file)`` on a temporary file beside `path`, flush it, and rename it to `path`.

    Whoever reads `path` finds all of the old file or all of the new one.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself lives in the folder's data
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """One clear error in the place of whatever a parser makes of a hostile file."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path} is not a weights file, or is damaged ({error})") from error


def _load_npz(path: Path, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        with _parsing(path):
            archive = zipfile.ZipFile(file)
            members = {member.removesuffix(".npy"): member for member in archive.namelist()}
            found = {name: _npy_header(archive, member) for name, member in members.items()}
        check(expected, found, str(path))
        with _parsing(path):
            return {name: _npy_array(archive, members[name]) for name in expected}


def _npy_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], Any]:
    with archive.open(member) as file:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, _, dtype = read(file)
    return shape, dtype


def _npy_array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with archive.open(member) as file:
        array = npy.read_array(file, allow_pickle=False)
        if file.read(1):  # reading to the end is what checks the checksum, too
            raise ValueError(f"{member} is longer than its header says")
    return array


def _load_safetensors(path: Path, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    safe_open = _safetensors().safe_open
    with open(path, "rb"):  # so that a missing file is a FileNotFoundError here as well
        pass
    with _parsing(path):
        file = safe_open(path, framework="np").__enter__()
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found = {
            name: (tuple(s.get_shape()), _DTYPES.get(s.get_dtype(), s.get_dtype()))
            for name, s in slices.items()
        }
    check(expected, found, str(path))
    with _parsing(path):
        return {name: file.get_tensor(name) for name in expected}


_DTYPES = {"F32": np.dtype(np.float32), "F64": np.dtype(np.float64)}


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            ".safetensors files need the package safetensors: pip install safetensors"
        ) from error
    return safetensors
