"""A watch over what reading a file does besides: whatever it runs, sends or writes is noted."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

# Events that CPython announces (https://docs.python.org/3/library/audit_events.html).
_FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn"),
    *("pickle.find_class", "code.__new__", "ctypes.dlopen", "socket.__new__", "urllib.Request"),
    *("os.remove", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"),
    *("shutil.rmtree", "shutil.move", "tempfile.mkstemp"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_seen: list[str] | None = None
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event in _FORBIDDEN:
        _seen.append(f"{event} {arguments!r:.200}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        _seen.append(f"open {arguments!r:.200}")


@contextlib.contextmanager
def nothing_but_reading() -> Iterator[None]:
    """An AssertionError at the end of the block if anything of the above happened in it, in any thread."""
    global _seen, _hooked
    if not _hooked:  # a hook cannot be taken off again
        sys.addaudithook(_hook)
        _hooked = True
    _seen = seen = []
    try:
        yield
    finally:
        _seen = None
    assert not seen, seen
