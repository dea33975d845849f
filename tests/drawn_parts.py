"""Calls as those of ``drawn.py``, of parts of the CPU kernels: those masked by hand, lane for lane."""

from __future__ import annotations

import ctypes

import numpy as np

from fastnn.kernels.cpu._jit import jit
from fastnn.kernels.cpu._turn import turn_all
from fastnn.kernels.cpu._windows import passes
from fastnn.kernels.cpu.tile import panels
from tests.drawn import Calls, Draw, Drawn


def run_panel(at, nv, last, a, transposed, b, bias, c, table, offsets, add, relu):
    rows, terms = c.shape[0], b.shape[0] // max(len(offsets), 1)
    bias_at = bias.ctypes.data if bias is not None else 0
    a_k = rows if transposed else 1
    panel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 15)(int(panels(c.itemsize)[at + nv]))
    panel(c.ctypes.data, c.shape[1], a.ctypes.data, table.ctypes.data, a_k, offsets.ctypes.data, len(offsets),
          terms, b.ctypes.data, b.shape[1], bias_at, rows, last, add, relu)  # fmt: skip
    return c


def draw_panel(d: Draw) -> Drawn:
    lanes, widest = (int(n) for n in panels(d.dtype().itemsize)[:2])
    nv, last, M, S, K = d.whole(1, widest), d.whole(1, lanes), d.whole(1, 40), d.whole(1, 3), d.whole(1, 7)
    both = len(panels(d.dtype().itemsize)) > 2 + widest
    at = 1 + (widest if both and last < lanes else 0)
    N, transposed = (nv - 1) * lanes + last, d.flag()
    a, b, bias, c = (np.ones(n, d.dtype) for n in (M * S * K, (S * K, N), N, (M, N)))
    table = np.arange(M) * (1 if transposed else S * K)
    offsets = np.arange(S) * (M * K if transposed else K)
    return run_panel, (
        at,
        nv,
        last,
        a,
        transposed,
        b,
        bias if d.flag() else None,
        c,
        table,
        offsets,
        d.flag(),
        d.flag(),
    )


def run_window(w, image, begins, places, values, count, add, scatter):
    """All passes over the window `w` (runs, length) and `image`, from its first element on."""
    window = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 9)
    size, (runs, length) = w.itemsize, w.shape
    for code, run, first, last in passes(size, runs, length, scatter).tolist():
        window(code)(
            w.ctypes.data + (run * length + first) * size, length, image.ctypes.data + first * size,
            begins[run:].ctypes.data, places.ctypes.data, values.ctypes.data, count, last, add,
        )  # fmt: skip
    return image if scatter else w


def draw_window(d: Draw) -> Drawn:
    runs, length, count, scatter = d.whole(1, 5), d.whole(1, 70), d.whole(0, 9), d.flag()
    begins = (length + d.whole(0, 3)) * np.arange(runs)
    places = d.rng.integers(0, 10, count).astype(np.int32)
    if count:
        places -= places.min()
    last = int(places.max(initial=0))
    add = scatter or d.flag()
    w = (np.ones if add else np.empty)((runs, length), d.dtype)
    image, values = np.ones(last + int(begins[-1]) + length, d.dtype), np.ones(count, d.dtype)
    return run_window, (w, image, begins, places, values, count, add, scatter)


@jit
def run_turn(x, out):
    turn_all(x, out, x.dtype.type(0))
    return out


def draw_turn(d: Draw) -> Drawn:
    rows, columns = d.size(), d.size()
    return run_turn, (
        d.rng.uniform(0.1, 1, (rows, columns)).astype(d.dtype),
        np.empty((columns, rows), d.dtype),
    )


PARTS: Calls = {"panel": draw_panel, "window": draw_window, "turn": draw_turn}
