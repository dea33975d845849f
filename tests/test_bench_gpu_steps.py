"""What the benchmarks of the GPU time runs where there is none: on a pretended one, and small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastnn
from bench.gpu import fastnn_steps, floors, items
from bench.gpu.clock import Clock, host_clock
from bench.kernels import FAMILIES, Sizes
from bench.networks import FLATTEN, RELU, Conv, Dense, Dropout, Network, Pool
from tests import cases, pretended

pytestmark = pytest.mark.skipif(pretended.WHY_NOT is not None, reason=str(pretended.WHY_NOT))
LAYERS = (Conv(1, 2, 3, 1), RELU, Pool(2), FLATTEN, Dense(8, 5), RELU, Dropout(0.5), Dense(5, 3))
SMALL = Network("small", LAYERS, (3, 1, 4, 4), 3, "softmax_cross_entropy")


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gpu.clock.LEAST", 1)
    monkeypatch.setattr(fastnn_steps, "_DATA", 0)


@pytest.fixture(scope="module")
def gpu(built: Path) -> Iterator[None]:
    with pretended.pretended(built), fastnn.use_backend("cupy"):
        yield


def once(call: Callable[[], Any], clock: Clock, seconds: float) -> dict[str, float]:
    """In the place of ``timed``: what is timed takes long here."""
    first = clock.mark()
    call()
    return {"median": clock.between(first, clock.mark())}


def test_a_small_network_is_compared_with_pytorch(gpu: None) -> None:
    pytest.importorskip("torch")
    variants = ("eager", "graph", "no such way")
    found = items.compared(SMALL, "highest", variants, 0.0, host_clock(), device="cpu")
    for who in ("fastnn, captured", "fastnn, ordinary", "fastnn, Trainer", "PyTorch, eager"):
        assert found[who]["median"] > 0, found
    assert "failed" in found["PyTorch, graph"]  # there is no CUDA for it


def test_pytorch_that_computes_something_else_is_not_timed(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from bench.gpu import torch_steps

    monkeypatch.setattr(torch_steps, "LR", 0.5)
    found = items.compared(SMALL, "highest", ("eager",), 0.0, host_clock(), device="cpu")
    assert "Unequal" in found["PyTorch, eager"]["failed"]


def test_limits_and_kernels_of_every_family_are_timed(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    conv = cases.Conv("conv", (2, 3, 6, 6), (4, 3, 3, 3), padding=(1, 1))
    monkeypatch.setattr(cases, "LINEAR_REAL", [cases.Linear("small hidden", 5, 7, 9)])
    monkeypatch.setattr(cases, "CONV_REAL", [conv])
    monkeypatch.setattr(cases, "CONV_POOL_REAL", [cases.ConvPool("pooled", conv)])
    monkeypatch.setattr(floors, "_REPEATS", 1)
    monkeypatch.setattr(floors, "timed", once)
    clock = host_clock()
    assert floors.copy_rate(clock, 1 << 16, 0.0) > 0
    assert floors.multiply_add_rate(clock, 0.0, blocks=2, steps=3) > 0
    for family in FAMILIES:
        entries = list(floors.kernel_times(clock, family, Sizes(1 << 16, batches=2, side=8), 0.0))
        assert entries
        for entry in entries:
            assert entry["traffic"] > 0
            assert entry["seconds"] > 0 or "grad-input" in entry["name"]
