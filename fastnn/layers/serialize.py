"""Weights files: arrays by name, as ``.npz`` (without pickle) or ``.safetensors``.

A file is hostile until its names, shapes and dtypes have been read and found to be what the model expects:
only then are its arrays read, so that neither an object array nor a header that promises terabytes gets
anywhere.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastnn.layers.archive import Archive, shown
from fastnn.layers.atomic import write_atomically

_MOST_FAULTS = 20  # that a message lists: a hostile file has any number
Found = dict[str, tuple[tuple[int, ...], Any]]


def save(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` to `path`, in the format of its suffix.

    Raises
    ------
    ValueError
        The suffix is neither ``.npz`` nor ``.safetensors``.
    ImportError
        It is ``.safetensors`` and that package is not installed.
    OSError
        It cannot be written; see :func:`fastnn.layers.atomic.write_atomically`.
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
    OSError
        The file cannot be read; FileNotFoundError where there is none.
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
    faults += [f"unknown {shown(name)}" for name in found if name not in own]
    for name in own.keys() & found.keys():
        shape, dtype = found[name]
        if tuple(shape) != own[name].shape:
            faults.append(f"{name} has shape {tuple(shape)}, need {own[name].shape}")
        elif dtype not in (np.float32, np.float64):
            faults.append(f"{name} has dtype {dtype}, need float32 or float64")
    if faults:
        listed = sorted(faults)[:_MOST_FAULTS]
        more = f"; and {len(faults) - len(listed)} more" if len(faults) > len(listed) else ""
        raise ValueError(f"{where} does not fit the model: {'; '.join(listed)}{more}")


def _suffix(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"a weights file ends in .npz or .safetensors, got {str(path)!r}")
    return path.suffix


@contextlib.contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """One clear error in the place of whatever a parser makes of a hostile file."""
    try:
        yield
    except Exception as error:
        why = shown(f"{type(error).__name__}: {error}", 200)
        raise ValueError(f"{path} is not a weights file, or is damaged ({why})") from error


def _load_npz(path: Path, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        with _parsing(path):
            archive = Archive(file, compressed=True)
            found = {name: archive.header(name) if name in expected else ((), None) for name in archive.names}
        check(expected, found, str(path))
        with _parsing(path):
            return {name: archive.array(name) for name in expected}


def _load_safetensors(path: Path, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    safe_open = _safetensors().safe_open
    with open(path, "rb"):  # so that a missing file is a FileNotFoundError here as well
        pass
    with _parsing(path):
        # It maps the file, and compares the header with itself and with the file's length.
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
