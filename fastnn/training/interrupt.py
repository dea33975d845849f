"""Ctrl-C as a request: noted at once, honoured between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class CtrlC:
    """While the ``with`` block runs, the first Ctrl-C sets :attr:`pressed`; a second raises
    KeyboardInterrupt.

    Signals can be handled in the main thread only, and a handler that the program has set itself is left
    alone: in both cases Ctrl-C raises, or does, what it did before.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._replaced: Any = None

    def __enter__(self) -> CtrlC:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._replaced = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._replaced is not None:
            signal.signal(signal.SIGINT, self._replaced)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
