"""Hearing of kernels that are being compiled, to show it: a first step with nothing on disk takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastnn.backend import get_backend

_ROOM = "fastnn.kernels.cpu."


@contextmanager
def compiling_shown(show: Callable[[str], object]) -> Iterator[None]:
    """While the context lasts, call ``show(text)`` whenever Numba begins to compile a function of a kernel.

    What it finds on disk it does not compile. On another backend than ``"numba"`` nothing is shown.
    """
    if get_backend().name != "numba":
        yield
        return
    from numba.core import event

    class Heard(event.Listener):
        functions = 0

        def on_start(self, started: event.Event) -> None:
            module = started.data["dispatcher"].py_func.__module__
            if module.startswith(_ROOM):  # others are Numba's own, or somebody else's
                self.functions += 1
                stem = module.removeprefix(_ROOM).strip("_")
                show(f"compiling kernels (once): {stem}, function {self.functions}")

        def on_end(self, ended: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Heard()):
        yield
