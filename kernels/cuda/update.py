"""Parameter updates on a GPU: ``update.cu``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.kernels.reference._shared import check_companions

from ._launch import address, launch, xp
from ._memory import memory_order
from ._recording import current

_CHUNK = 4096  # elements of a block


class Table:
    """The addresses of all parameters with their companions, and how they are cut into blocks, on the GPU."""

    __slots__ = ("addresses", "arrays", "blocks", "chunks", "columns", "dtype")

    def __init__(self, columns: tuple) -> None:
        self.arrays = columns  # alive as long as their addresses are in use
        params = columns[0]
        self.columns = len(columns)
        self.dtype = params[0].dtype if params else np.dtype(np.float32)
        rows = [[address(a) for a in row] for row in zip(*columns, strict=True)]
        chunks = [
            (p, begin, min(begin + _CHUNK, a.size))
            for p, a in enumerate(params)
            for begin in range(0, a.size, _CHUNK)
        ]
        self.blocks = len(chunks)
        self.addresses = xp().asarray(np.array(rows, np.int64).reshape(len(params), len(columns)))
        self.chunks = xp().asarray(np.array(chunks, np.int64).reshape(-1, 3))


def bind(params, *lists):
    check_companions(params, lists, lambda a: a.transpose(memory_order(a)).flags.c_contiguous)
    return Table((params, *lists))


def _run(name: str, table: Table, changing: tuple[float, ...], *fixed: Any) -> None:
    """One update. The numbers that may differ from step to step, a recorded step reads from device memory."""
    recording = current()
    rates = position = None
    if recording is not None:
        rates, position = recording.next_rates(), recording.position
    numbers = *map(float, changing), *fixed, rates, position
    tables = table.addresses, table.chunks, table.columns
    launch("update", name, table.dtype, table.blocks, *tables, *numbers, grid=(table.blocks,))


def sgd(table, lr, momentum, dampening, weight_decay, nesterov, first):
    fixed = float(momentum), 1.0 - dampening, float(weight_decay), int(nesterov), int(first)
    _run("sgd", table, (lr,), *fixed)


def adam_rates(
    lr: float, betas: tuple[float, float], weight_decay: float, decoupled: bool, step: int
) -> tuple[float, float, float]:
    """What the kernel is told of the number of the step and of the learning rate: rate, root, shrink."""
    beta1, beta2 = betas
    shrink = 1 - lr * weight_decay if decoupled else 1.0
    return lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step), shrink


def adam(table, lr, beta1, beta2, eps, weight_decay, decoupled, step):
    rates = adam_rates(lr, (beta1, beta2), weight_decay, decoupled, step)
    fixed = beta1, beta2, 1 - beta1, 1 - beta2, eps, 0.0 if decoupled else weight_decay
    _run("adam", table, rates, *map(float, fixed))


def rmsprop(table, lr, alpha, eps, weight_decay, momentum):
    _run("rmsprop", table, (lr,), *map(float, (alpha, 1 - alpha, eps, weight_decay, momentum)))


def l2_penalty(table, factor):
    parts, sum_ = xp().empty(table.blocks, np.float64), xp().empty((), np.float64)
    tables = table.addresses, table.chunks, table.columns
    real, blocks = table.dtype, table.blocks
    launch("update", "l2_penalty", real, blocks, *tables, 2.0 * factor, parts, grid=(blocks,))
    launch("loss", "total", real, 1, parts, sum_, blocks, float(factor), grid=(1,))
    return sum_
