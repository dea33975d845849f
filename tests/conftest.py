"""What all tests share: their order, the Hypothesis profile and the place of the real data."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Files that take longest come first: run last, one of them would be what all other processes wait for.
LONG = (
    "test_emulation",
    "test_gpu_scripts",
    "test_tile",
    "test_experiments",
    "test_cli",
    "test_cuda_compile",
    "test_search",
)
collect_ignore = ["soak"]  # minutes long; `make soak` names it, which collects it all the same

if importlib.util.find_spec("hypothesis"):  # tests/gpu does without
    from hypothesis import HealthCheck, settings

    # A first call compiles: so no example has a deadline, and no draw is blamed for being slow.
    settings.register_profile(
        "fastnn", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("fastnn")


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs behind it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def built() -> Path:
    """A folder for kernels/cuda as g++ builds it, for all tests."""
    from tests.emulation import BUILT

    return BUILT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets, as torchvision has it: FASTNN_DATA, else ../shared/data."""
    root = Path(os.environ.get("FASTNN_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"the real data is not here: no folder {root}; set FASTNN_DATA")
    return root
