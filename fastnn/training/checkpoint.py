"""Checkpoints: the whole state of a run in one ``.npz`` file, without pickle, either complete or not there.

A state is a tree of dicts, lists, arrays and JSON values. Its arrays become members of the archive; the tree
itself, with each array replaced by its member's name, becomes one more member of JSON text. The file is
written under a temporary name in the same folder, flushed to the disk and renamed over the old one, so a run
killed at any instant leaves the previous checkpoint or the new one, never a part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastnn.backend import is_device_array
from fastnn.layers import atomic
from fastnn.layers.archive import Archive, shown

_FORMAT = "fastnn checkpoint 1"
_ARRAY = "__array__"


class CheckpointError(ValueError):
    """The file is not a checkpoint, is damaged, or belongs to another run; the message says which."""


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """:func:`fastnn.layers.atomic.write_atomically`, into a folder that it makes where there is none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(path, write)


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state`, a tree of dicts (with string keys), lists, arrays and JSON values, to `path`."""
    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps({"format": _FORMAT, "state": _detach(state, "", arrays)})
    members: dict[str, Any] = {**arrays, _ARRAY: np.array(tree)}
    write_atomically(path, lambda file: np.savez(file, **members))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save` wrote; arrays come back as NumPy arrays, tuples as lists.

    Raises
    ------
    OSError
        The file cannot be read; FileNotFoundError where there is none.
    CheckpointError
        The file is truncated, damaged, or something else than a checkpoint.
    """
    with open(path, "rb") as file:
        try:
            archive = Archive(file, compressed=False)
            arrays = {name: archive.array(name) for name in archive.names}
            tree = json.loads(str(arrays.pop(_ARRAY)))
            if tree["format"] != _FORMAT:
                raise ValueError(f"its format is {tree['format']!r:.60}, not {_FORMAT!r}")
            return _attach(tree["state"], arrays)
        except Exception as error:  # damaged files raise anything at all
            why = shown(f"{type(error).__name__}: {error}", 200)
            what = f"is not a fastnn checkpoint, or is damaged ({why}): delete it to begin again"
            raise CheckpointError(f"{os.fspath(path)} {what}") from error


def _detach(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            raise ValueError(f"a checkpoint's dict cannot have the key {_ARRAY!r}")
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"a checkpoint's dicts need string keys, got {list(value)!r}")
        return {key: _detach(item, f"{name}/{key}" if name else key, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_detach(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    if is_device_array(value):
        value = value.get()
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {_ARRAY: name}
    return value.item() if isinstance(value, np.generic) else value


def _attach(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays.pop(value[_ARRAY])  # each once
        return {key: _attach(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_attach(item, arrays) for item in value]
    return value
