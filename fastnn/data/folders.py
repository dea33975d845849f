"""Where the sets lie: one root folder in torchvision's layout, so that sets it has downloaded are found too.

``<root>/MNIST/raw/*-ubyte[.gz]``, ``<root>/cifar-10-batches-py/*``, ``<root>/cifar-10-batches-bin/*.bin``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path


class DataError(ValueError):
    """A data file is missing, truncated, foreign or corrupt, or cannot be fetched; the message names it."""


class DataNotFound(DataError, FileNotFoundError):
    """A set is not on this machine; the message says where it was looked for and how to get it."""


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the sets.

    `root` if given, else the environment's ``FASTNN_DATA``, else ``fastnn`` in the user's cache folder:
    ``$XDG_CACHE_HOME`` or ``~/.cache`` (XDG Base Directory Specification), ``~/Library/Caches`` on macOS,
    ``%LOCALAPPDATA%`` on Windows. The folder need not exist.
    """
    chosen = root if root is not None else os.environ.get("FASTNN_DATA")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local")
    elif sys.platform == "darwin":
        cache = Path("~/Library/Caches")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        if not cache.is_absolute():  # the XDG specification: a relative value is invalid and to be ignored
            cache = Path("~/.cache")
    return cache.expanduser() / "fastnn"


def first_complete(name: str, candidates: Iterable[list[Path]]) -> list[Path]:
    """The first list of files that all exist.

    Raises
    ------
    DataNotFound
        There is none; the message names what is missing of each list.
    """
    looked = []
    for files in candidates:
        missing = [file for file in files if not file.is_file()]
        if not missing:
            return files
        also = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        looked.append(f"{missing[0]}{also}")
    raise DataNotFound(
        f"{name} is not here: found no {', nor '.join(looked)}. `fastnn data get {name}` fetches it; "
        "where it already lies elsewhere, set FASTNN_DATA to the folder that holds it"
    )
