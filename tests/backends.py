"""The backends of the host, and the fixture that runs a test under each of them.

The list is made without ``fastnn.available_backends()``, which would start CUDA in a process that later tests
fork.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

import fastnn

BACKENDS = ["numpy"] + (["numba"] if importlib.util.find_spec("numba") else [])


@pytest.fixture(params=BACKENDS, name="backend")
def on_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the backend in force; import this function, and ask for the fixture ``backend``."""
    with fastnn.use_backend(request.param):
        fastnn.seed(0)
        yield request.param
