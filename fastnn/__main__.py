"""``python -m fastnn``: the command line where the ``fastnn`` script is not on the path."""

from fastnn.cli import main

main()
