"""The command ``fastnn``. Only this file is read where the ``cli`` extra is missing: it says so and ends.

``app`` holds the commands; ``errors`` turns whatever goes wrong into one line on stderr.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``fastnn`` command."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        print("the fastnn command needs its extra: pip install 'fastnn-kernels[cli]'", file=sys.stderr)
        raise SystemExit(2) from None
    from fastnn.cli.app import app

    app()
