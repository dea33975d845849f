"""Whatever goes wrong is one line on stderr and an exit code: 2 if the command was wrong, 1 if it failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from fastnn.backend import BackendUnavailable
from fastnn.data import DataError
from fastnn.training import CheckpointError

# The class of all errors in the way a command is written, wherever this version of Typer keeps it.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """Commands that never show a traceback, unless asked to by ``--debug`` anywhere on the line."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        line = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in line
        line = [word for word in line if word != "--debug"]
        try:
            code = super().main(line, prog_name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            if debug:
                raise
            text, code = _describe(error)
            print(text, file=sys.stderr)
        except KeyboardInterrupt:
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


def _describe(error: Exception) -> tuple[str, int]:
    """The line for an error, and the exit code."""
    if isinstance(error, typer.Abort):
        return "interrupted", 130
    if isinstance(error, _UsageError):
        return f"error: {_one_line(error.format_message())}", 2  # type: ignore[attr-defined]
    if isinstance(error, (DataError, CheckpointError, BackendUnavailable, ImportError, MemoryError)):
        return f"error: {_one_line(error)}", 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"error: {where}{error.strerror or error}", 1
    if isinstance(error, ValueError):
        return f"error: {_one_line(error)}", 2
    return f"error: {type(error).__name__}: {_one_line(error)} (--debug shows where)", 1


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
