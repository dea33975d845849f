"""Files that are either whole or not there, however the writing of them ends."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Call ``write(file)`` on a temporary file beside `path`, flush it, and rename it to `path`.

    Whoever reads `path` finds all of the old file or all of the new one. What a process that was killed here
    has left behind is removed by the next that writes the same file.

    Raises
    ------
    OSError
        It cannot be written: no room, no permission, no folder, a folder in its place. The message names
        `path`, and what was there before is as it was.
    """
    path = Path(path)
    try:
        _remove_abandoned(path)
        file = _create_beside(path)
        try:
            with file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # which renames no open file; elsewhere this would lose the lock
                    file.close()
                os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    except OSError as error:  # of a full disk it would name no file, of another fault the temporary one
        reason = error.strerror or str(error)
        what = f"cannot be written ({reason}); what was there, if anything, is unchanged"
        raise OSError(error.errno, what, str(path)) from error
    if os.name == "posix":  # the rename itself lives in the folder's data
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _create_beside(path: Path) -> IO[bytes]:
    """A new temporary file for `path`, locked for as long as it is open."""
    while True:
        file = open(path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"), "xb")  # noqa: SIM115
        if sys.platform == "win32":
            return file
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # before it was locked, another process has taken it for an abandoned one


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files for `path` that no process holds a lock on: killed ones do not."""
    if sys.platform == "win32":
        return
    temporary = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError):  # a folder that may not be listed
        for name in filter(temporary.fullmatch, os.listdir(path.parent)):
            _remove_unless_locked(path.parent / name)


def _remove_unless_locked(temporary: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    except OSError:  # it is another process's, or there are no locks here
        pass
    finally:
        os.close(descriptor)
