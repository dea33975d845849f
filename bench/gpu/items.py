"""What there is to measure, cut into items that each take seconds, in the order of their worth.

An item is named ``part/name``: the parts are

    limits       what the device can do
    networks     fastnn's training step in three ways, PyTorch's eager and as a CUDA graph
    networks-tf32   the same on tensor cores, for the networks large enough to profit
    kernels      each kernel's time, at the batch sizes of the networks and at twenty times those
    kernels-tf32    products and convolutions on tensor cores
    compile      PyTorch's step compiled, without and with a CUDA graph
    compile-tf32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import fastnn
from bench.gpu import fastnn_steps, floors
from bench.gpu.clock import Clock, cupy_clock, timed
from bench.kernels import FAMILIES, Sizes
from bench.networks import NETWORKS, Network, by_name

CHECKED = 6  # steps whose losses are compared
TOLERANCE = {"highest": 1e-3, "high": 1e-2}  # of losses, relative
ARRAY = 1 << 25  # elements of the arrays that memory-bound kernels work on: 128 MiB, more than caches hold
LARGE = [("mnist-lenet", 4096), ("cifar10-cnn", 1024), ("cifar10-cnn", 8192)]


def _sized(name: str, batch: int) -> Network:
    network = by_name[name]
    return replace(network, name=f"{name}, batch {batch}", x=(batch, *network.x[1:]))


PUBLISHED = {network.name: network for network in NETWORKS}
LARGER = {network.name: network for network in (_sized(*pair) for pair in LARGE)}
WORKLOADS = {**LARGER, **PUBLISHED}
ON_TENSOR_CORES = [*LARGER, "cifar10-sigmoid, full batch", "cifar10-cnn"]
KERNEL_SIZES = {"published": Sizes(ARRAY), "20 batches": Sizes(ARRAY, batches=20, side=4096)}
_BY_BATCH = ("linear", "conv", "conv_pool")  # families whose size is that of a batch

PARTS: dict[str, list[str]] = {
    "limits": ["limits"],
    "networks": list(WORKLOADS),
    "networks-tf32": ON_TENSOR_CORES,
    "kernels": [
        *(f"{family}, {size}" for size in KERNEL_SIZES for family in _BY_BATCH),
        *(family for family in FAMILIES if family not in _BY_BATCH),
    ],
    "kernels-tf32": ["linear, 20 batches", "conv, 20 batches"],
    "compile": list(WORKLOADS),
    "compile-tf32": ON_TENSOR_CORES,
}


class Unequal(AssertionError):
    """Two contenders do not compute the same, so their times say nothing."""


def names(parts: list[str] | None = None, only: list[str] | None = None) -> list[str]:
    """The items of those parts that have one of `only` in their name; all, where either is None."""
    listed = [f"{part}/{name}" for part in PARTS if parts is None or part in parts for name in PARTS[part]]
    return [item for item in listed if only is None or any(text in item for text in only)]


def do(item: str, seconds: float, clock: Clock | None = None, device: str = "cuda") -> Any:
    """Measure an item, each time in it for so many seconds.

    Returns
    -------
    dict or list
        For ``limits`` rates by name, for ``kernels`` a list of entries, for the others
        ``{contender: {"median": s, ...} or {"failed": why}}``.
    """
    part, _, name = item.partition("/")
    clock = cupy_clock() if clock is None else clock
    if part == "limits":
        return floors.limits(clock, ARRAY, seconds)
    precision = "high" if part.endswith("tf32") else "highest"
    with float32_precision(precision):
        if part.startswith("kernels"):
            family, _, size = name.partition(", ")
            return list(floors.kernel_times(clock, family, KERNEL_SIZES[size or "published"], seconds))
        variants = ("compile", "compile + graph") if part.startswith("compile") else ("eager", "graph")
        return compared(WORKLOADS[name], precision, variants, seconds, clock, device)


@contextmanager
def float32_precision(precision: str) -> Iterator[None]:
    before = fastnn.get_float32_precision()
    fastnn.set_float32_precision(precision)
    try:
        yield
    finally:
        fastnn.set_float32_precision(before)


def compared(
    network: Network,
    precision: str,
    variants: tuple[str, ...],
    seconds: float,
    clock: Clock,
    device: str = "cuda",
) -> dict[str, Any]:
    """fastnn's step, in the precision in force, and PyTorch's, after their first losses were found to agree.

    A contender that cannot run, or computes something else, is in the result with the reason.
    """
    results: dict[str, Any] = {}
    losses = fastnn_steps.first_losses(network.without_dropout(), CHECKED)

    def captured() -> dict[str, Any]:
        agree(losses["captured"], losses["ordinary"], precision)
        return timed(fastnn_steps.captured(network), clock, seconds)

    ways: dict[str, Callable[[], dict[str, Any]]] = {"captured": captured}
    if "eager" in variants:
        ways["ordinary"] = lambda: timed(fastnn_steps.ordinary(network), clock, seconds)
        ways["Trainer"] = lambda: fastnn_steps.by_the_trainer(network)
    for name, way in ways.items():
        results[f"fastnn, {name}"] = tried(way)
    for variant in variants:
        way = partial(_torch, network, precision, variant, losses["ordinary"], seconds, device)
        results[f"PyTorch, {variant}"] = tried(way)
    return results


def agree(found: list[float | None], expected: list[float], precision: str) -> None:
    """Raise :class:`Unequal` unless those losses that were read are the expected ones, up to rounding."""
    bound = TOLERANCE[precision] * max(map(abs, expected))
    for theirs, ours in zip(found, expected, strict=True):
        if theirs is not None and not abs(ours - theirs) <= bound:  # a NaN is near nothing
            raise Unequal(f"its first losses are {found}, those of fastnn's ordinary steps {expected}")


def tried(way: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `way` gives, or why it failed."""
    try:
        return way()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:2000]}


def _torch(
    network: Network, precision: str, variant: str, expected: list[float], seconds: float, device: str
) -> dict[str, Any]:
    from bench.gpu import torch_steps
    from bench.gpu.clock import host_clock, torch_clock

    torch_steps.set_precision(precision)
    agree(torch_steps.first_losses(network.without_dropout(), variant, CHECKED, device), expected, precision)
    clock = torch_clock() if device == "cuda" else host_clock()
    return timed(torch_steps.training(network, variant, device), clock, seconds)
