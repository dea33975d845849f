"""Calls as those of ``drawn.py``, only for the CPU: of parts of its kernels, masked by hand; and
of kernels with operands so large, or of such shapes, that they take another way."""

from __future__ import annotations

from functools import cache, partial
from unittest.mock import patch

import numpy as np

from fastnn.kernels.cpu import step
from fastnn.kernels.cpu._jit import EXACT, from_python, jit
from fastnn.kernels.cpu._rows import (
    KINDS,
    LABELS,
    TOTALS,
    add_columns,
    group_of,
    make_minus,
    make_peaks,
    make_softmax,
)
from fastnn.kernels.cpu._turn import turn_part
from fastnn.kernels.cpu._windows import passes
from fastnn.kernels.cpu.tile import NOTHING, WORDS, panels
from fastnn.kernels.cpu.tile import lanes as lanes_of
from tests.drawn import Calls, Draw, Drawn, conv_pool_both_ways, max_pool_both_ways


def run_panel(panel, last, a, transposed, b, bias, c, table, offsets, add, relu, asking):
    rows, terms = c.shape[0], b.shape[0] // max(len(offsets), 1)
    bias_at = bias.ctypes.data if bias is not None else 0
    a_k = rows if transposed else 1
    needed = (a.ctypes.data, a.strides[0], a.ctypes.data + a.nbytes) if asking else NOTHING
    call = from_python(int(panels(c.itemsize)[panel]), WORDS)
    call(c.ctypes.data, c.shape[1], a.ctypes.data, table.ctypes.data, a_k, offsets.ctypes.data, len(offsets),
          terms, b.ctypes.data, b.shape[1], bias_at, rows, last, add, relu, *needed)  # fmt: skip
    return c


def draw_panel(d: Draw) -> Drawn:
    lanes, widest, few = (int(n) for n in panels(d.dtype().itemsize)[:3])
    nv, last, M, S, K = d.whole(1, widest), d.whole(1, lanes), d.whole(1, 40), d.whole(1, 3), d.whole(1, 7)
    N, transposed = (nv - 1) * lanes + last, d.flag()
    a, b, bias, c = (np.ones(n, d.dtype) for n in (M * S * K, (S * K, N), N, (M, N)))
    table = np.arange(M) * (1 if transposed else S * K)
    offsets = np.arange(S) * (M * K if transposed else K)
    return run_panel, (
        2 + nv + (widest if last <= few else 0),
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
        d.flag(),
    )


def run_window(w, image, begins, places, values, count, add, scatter, back):
    """All passes over the window `w` (runs, length) and `image`, from its first element on; `back`: over the
    list from its last entry to its first."""
    size, (runs, length) = w.itemsize, w.shape
    first_entry, step = (max(count - 1, 0), -1) if back else (0, 1)
    for code, run, first, last in passes(size, runs, length, scatter).tolist():
        from_python(code, 10)(
            w.ctypes.data + (run * length + first) * size, length, image.ctypes.data + first * size,
            begins[run:].ctypes.data, places[first_entry:].ctypes.data, values[first_entry:].ctypes.data,
            count, step, last, add,
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
    return run_window, (w, image, begins, places, values, count, add, scatter, d.flag())


@jit
def run_turn(x, out):
    rows, columns = x.shape
    turn_part(x.dtype.type(0), x.ctypes.data, columns, rows, columns, out.ctypes.data, rows)
    return out


def draw_turn(d: Draw) -> Drawn:
    rows, columns = d.size(), d.size()
    return run_turn, (
        d.rng.uniform(0.1, 1, (rows, columns)).astype(d.dtype),
        np.empty((columns, rows), d.dtype),
    )


@cache
def rows_runner(itemsize, vectors):
    """The kernel for a group of rows of so many vectors: ``softmax(x)``, the same less one at the label, and
    ``log softmax(x)``; the numbers of each row before and `after` the gradient. `x` and the results have room
    for whole vectors, `taken` for a row's lanes before and behind its middle."""
    find_peaks = make_peaks(itemsize, vectors)
    softmax, gradient, sums = (
        make_softmax(itemsize, vectors, result) for result in ("shares", "gradient", "sums")
    )
    middle, integer = vectors * lanes_of(itemsize) - 1, np.int32 if itemsize == 4 else np.int64
    minus = make_minus(itemsize, vectors)

    @partial(jit, fastmath=EXACT, variant=f"{lanes_of(itemsize)} lanes, {vectors} vectors")
    def run_rows(x, columns, out, grad, logs, labels, numbers, after, taken):
        scale, source, at, last = x.dtype.type(1), x.ctypes.data, numbers.ctypes.data, after.ctypes.data
        apart = numbers.shape[1] * itemsize
        numbers[LABELS].view(integer)[:] = labels
        find_peaks(scale, source, columns, at)
        sums(scale, source, columns, at, apart, 0, 0)
        softmax(scale, source, columns, at, apart, 0, out.ctypes.data)
        after[:] = numbers
        after[TOTALS] = np.log(numbers[TOTALS])
        minus(scale, source, columns, last, apart, 0, logs.ctypes.data)
        taken[:] = 0
        taken[middle] = -scale
        gradient(scale, source, columns, last, apart, taken.ctypes.data + middle * itemsize, grad.ctypes.data)
        return out

    return run_rows


def room_for_rows(dtype, columns):
    """The kernel for a group of rows of so many columns, how many rows that are, how many floats their
    vectors reach, and for how many `taken` has room."""
    size = dtype().itemsize
    vectors, rows = -(-columns // lanes_of(size)), group_of(size)
    lanes = vectors * lanes_of(size)
    return rows_runner(size, vectors), rows, (rows - 1) * columns + lanes, 2 * lanes - 1


def draw_rows(d: Draw) -> Drawn:
    columns = d.whole(1, 40)
    run, rows, reach, more = room_for_rows(d.dtype, columns)
    out, grad, logs = (np.empty(reach, d.dtype) for _ in range(3))
    numbers, after = (np.empty((len(KINDS), rows), d.dtype) for _ in range(2))
    x, labels = d.rng.uniform(0.1, 1, reach).astype(d.dtype), d.rng.integers(0, columns, rows)
    return run, (x, columns, out, grad, logs, labels, numbers, after, np.empty(more, d.dtype))


@jit
def run_columns(x, sums):
    """The columns of `x` added to `sums`."""
    rows, columns = x.shape
    add_columns(x.dtype.type(0), x.ctypes.data, columns, rows, columns, sums.ctypes.data)
    return sums


def draw_columns(d: Draw) -> Drawn:
    x = d.rng.uniform(0.1, 1, (d.whole(1, 140), d.whole(1, 70))).astype(d.dtype)
    return run_columns, (x, np.zeros(x.shape[1], d.dtype))


def draw_gather(d: Draw) -> Drawn:
    n, count, size = d.whole(1, 40), d.size(), d.size()
    rows, out = d.rng.random((n, size)).astype(d.dtype), np.empty((count, size), d.dtype)
    return run_gather, (rows, d.rng.integers(-2, n + 2, size=count), out)


def run_gather(rows, order, out):
    step.gather(rows, order, out)
    return out


PARTS: Calls = {
    "panel": draw_panel,
    "window": draw_window,
    "turn": draw_turn,
    "rows": draw_rows,
    "columns": draw_columns,
    "gather": draw_gather,
}


def large_product(d: Draw) -> tuple[int, int, int]:
    """Rows, terms and columns of a product that may be packed, copied or cut, as ``linear.py`` says."""
    kind = d.whole(0, 3)
    rows = (d.whole(60, 150), d.whole(256, 400), d.whole(768, 900), d.whole(384, 400))[kind]
    columns = (d.whole(30, 60), d.whole(60, 250), 256, d.whole(257, 300))[d.whole(0, 3)]
    terms = d.whole(1600, 1700) if kind == 3 else d.whole(150, 400) if d.flag() else d.whole(900, 1500)
    return rows, terms, columns


def draw_large_linear(d: Draw) -> Drawn:
    rows, terms, columns = large_product(d)
    operands = (d.array(rows, terms), d.array(terms, columns), d.array(columns) if d.flag() else None)
    return d.backend.linear.linear, (*operands, (None, "relu", "tanh")[d.whole(0, 2)])


def draw_large_linear_backward(d: Draw) -> Drawn:
    """Either of the gradients is the large product."""
    rows, terms, columns = large_product(d)
    n, k, m = (terms, rows, columns) if d.flag() else (rows, columns, terms)
    operands = (d.array(n, m), d.array(n, k), d.array(k, m))
    return d.backend.linear.linear_backward, (*operands, True)


HALVING = ((2, 2), (2, 2), (0, 0), (1, 1), False)


def draw_few_taps(d: Draw) -> Drawn:
    """A first convolution of many filters with few taps, and windows of 2 x 2 behind it, for which
    ``_few_taps.py`` is."""
    kernel, stride = (d.whole(1, 3), d.whole(1, 3)), (d.whole(1, 2), d.whole(1, 2))
    padding = tuple(d.whole(0, k // 2) for k in kernel)
    size = tuple(
        s * (2 * d.whole(1, 5) - 1) + k - 2 * p + d.whole(0, 2)
        for k, s, p in zip(kernel, stride, padding, strict=True)
    )
    x = d.image(d.whole(1, 9), d.whole(1, 3), *size)
    weight = d.array(d.whole(17, 40), x.shape[1], *kernel)
    pooling = (2, 2), (2, 2), (0, 0), (1, 1), d.flag()
    return partial(conv_pool_both_ways, d.backend.conv_pool), (
        x,
        weight,
        None,
        (stride, padding, (1, 1), 1),
        pooling,
        None,
        False,
        None,
        True,
    )


def draw_few_taps_everywhere(d: Draw) -> Drawn:
    """A convolution without a pooling behind it whose filters have few taps, the other for which
    ``_few_taps.py`` is."""
    kernel, stride, padding = ((d.whole(a, b), d.whole(a, b)) for a, b in ((2, 3), (1, 2), (0, 2)))
    size = tuple(d.whole(k, 9) for k in kernel)
    results = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))
    x = d.image(d.whole(1, 9), d.whole(2, 3), *size)
    weight = d.array(d.whole(1, 40), x.shape[1], *kernel)
    grad = d.image(len(x), len(weight), *results)
    return d.backend.conv.conv2d_backward, (grad, x, weight, stride, padding, (1, 1), 1, False)


def draw_conv_few_channels(d: Draw) -> Drawn:
    """A first convolution wide enough for ``_few_channels.py``."""
    kernel, stride, padding = ((d.whole(a, b), d.whole(a, b)) for a, b in ((1, 3), (1, 2), (0, 1)))
    results = d.whole(1, 5), d.whole(8, 20)
    size = ((n - 1) * s + k - 2 * p for n, k, s, p in zip(results, kernel, stride, padding, strict=True))
    x = d.image(d.whole(1, 9), d.whole(1, 3), *(max(1, n) for n in size))
    weight = d.array(d.whole(1, 40), x.shape[1], *kernel)
    bias = d.array(len(weight)) if d.flag() else None
    activation = (None, "relu", "tanh")[d.whole(0, 2)]
    return d.backend.conv.conv2d, (x, weight, bias, stride, padding, (1, 1), 1, activation)


def draw_by_pixels(d: Draw) -> Drawn:
    """Filters that reach few enough pixels for ``_pixels.py``, and windows of 2 x 2 behind them."""
    kernel = d.whole(1, 3), d.whole(1, 3)
    padding = tuple(d.whole(0, k // 2) for k in kernel)
    size = tuple(
        2 * d.whole(1, 4) + k - 1 - 2 * p + d.whole(0, 1) for k, p in zip(kernel, padding, strict=True)
    )
    x = d.image(d.whole(1, 5), d.whole(1, 40), *(max(1, n) for n in size))
    weight = d.array(d.whole(1, 9) if d.flag() else d.whole(60, 70), x.shape[1], *kernel)
    geometry = (1, 1), padding, (1, 1), 1
    return partial(conv_pool_both_ways, d.backend.conv_pool), (
        x,
        weight,
        None,
        geometry,
        HALVING,
        (None, "relu")[d.whole(0, 1)],
        True,
        None,
        True,
    )


def draw_narrow_linear(d: Draw) -> Drawn:
    """A weight of few columns, for which ``_linear_narrow.py`` is: whole vectors of terms or not."""
    terms = 32 * d.whole(7, 15) if d.flag() else d.whole(200, 500)
    columns = (1, 7, 12)[d.whole(0, 2)]  # one group and two; each number is a kernel of its own to compile
    rows = d.whole(530, 560) if d.flag() else d.whole(2048, 2060)
    bias = d.array(columns) if d.flag() else None
    operands = (d.array(rows, terms), d.array(terms, columns), bias)
    return d.backend.linear.linear, (*operands, (None, "relu", "tanh")[d.whole(0, 2)])


def draw_narrow_linear_backward(d: Draw) -> Drawn:
    _, (x, weight, _, _) = draw_narrow_linear(d)
    grad = d.array(len(x), weight.shape[1])
    return d.backend.linear.linear_backward, (grad, x, weight, d.flag())


def draw_zeros_linear(d: Draw) -> Drawn:
    """A batch of which so much is zero that ``_mostly_zeros.py`` leaves it out: terms in whole vectors, parts
    and blocks or not."""
    rows, columns = d.whole(48, 70), d.whole(512, 560) if d.flag() else d.whole(1100, 1300)
    outputs = (16, 33, 64, 101)[d.whole(0, 3)]  # one panel and several, whole vectors or not
    x = d.array(rows, columns) * (d.rng.random((rows, columns)) < 0.1).astype(d.dtype)
    operands = x, d.array(columns, outputs), d.array(outputs) if d.flag() else None
    return d.backend.linear.linear, (*operands, (None, "relu", "tanh")[d.whole(0, 2)])


def draw_zeros_linear_backward(d: Draw) -> Drawn:
    _, (x, weight, _, _) = draw_zeros_linear(d)
    return d.backend.linear.linear_backward, (d.array(len(x), weight.shape[1]), x, weight, d.flag())


def draw_3x3(d: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Images of whole vectors of channels, with enough tiles for ``_winograd.py``; half of them with enough
    channels for ``_winograd_weight.py``."""
    inputs, outputs = (48, 48) if d.flag() else (lanes_of(4) * d.whole(1, 2) for _ in "IO")
    height, width = (4 * d.whole(1, 4) - d.whole(0, 1) for _ in "HW")
    tiles = -(-height // 4) * -(-width // 4)
    x = d.image(-(-64 // tiles) + d.whole(0, 2), inputs, height, width)
    return x, d.array(outputs, inputs, 3, 3), d.array(outputs) if d.flag() else None


PLAIN = ((1, 1), (1, 1), (1, 1), 1)  # stride, padding, dilation, groups: images keep their size


def draw_conv_3x3(d: Draw) -> Drawn:
    return d.backend.conv.conv2d, (*draw_3x3(d), *PLAIN, (None, "relu", "tanh")[d.whole(0, 2)])


def draw_conv_3x3_backward(d: Draw) -> Drawn:
    x, weight, _ = draw_3x3(d)
    grad = d.image(len(x), len(weight), *x.shape[2:])
    return d.backend.conv.conv2d_backward, (grad, x, weight, *PLAIN, True)


def draw_conv_pool_3x3(d: Draw) -> Drawn:
    """Forward, and with places in bytes back too."""
    operands = *draw_3x3(d), PLAIN, HALVING, (None, "relu")[d.whole(0, 1)]
    if d.flag():
        return d.backend.conv_pool.conv2d_max_pool2d, operands
    return partial(conv_pool_both_ways, d.backend.conv_pool), (*operands, True, None, True, True)


def draw_conv_pool_by_rows(d: Draw) -> Drawn:
    """Images of few channels and filters of three columns, for which ``_winograd_rows.py`` is."""
    channels, columns = d.whole(1, 4), (3, 5)[d.whole(0, 1)]
    rows = d.whole(3, 4) if channels == 1 else d.whole(2, 3)
    padding = d.whole(0, rows // 2), d.whole(0, columns // 2)
    results = d.whole(2, 11), d.whole(4, 20)
    size = (n + k - 1 - 2 * p for n, k, p in zip(results, (rows, columns), padding, strict=True))
    images = -(-128 // (results[0] // 2 * (results[1] // 2))) + d.whole(0, 2)
    x = d.image(images, channels, *(max(1, n) for n in size))
    weight = d.array(lanes_of(4) * d.whole(1, 2), channels, rows, columns)
    bias, geometry = d.array(len(weight)) if d.flag() else None, ((1, 1), padding, (1, 1), 1)
    operands = x, weight, bias, geometry, HALVING, (None, "relu")[d.whole(0, 1)]
    if d.flag():
        return d.backend.conv_pool.conv2d_max_pool2d, operands
    return partial(conv_pool_both_ways, d.backend.conv_pool), (*operands, d.flag(), None, True, True)


def draw_conv_few_channels_backward(d: Draw) -> Drawn:
    """A first convolution whose input's gradient is asked for, for which ``_few_outputs.py`` is."""
    kernel = d.whole(1, 3), d.whole(1, 3)
    padding = tuple(d.whole(0, k) for k in kernel)
    size = d.whole(3, 9), d.whole(lanes_of(d.dtype().itemsize), 20)
    x = d.image(d.whole(1, 9), d.whole(1, 4), *size)
    weight = d.array(lanes_of(4) + d.whole(0, 9), x.shape[1], *kernel)
    results = (n + 2 * p - k + 1 for n, p, k in zip(size, padding, kernel, strict=True))
    grad = d.image(len(x), len(weight), *results)
    return d.backend.conv.conv2d_backward, (grad, x, weight, (1, 1), padding, (1, 1), 1, True)


def far_max_pool(pool, x):
    """Pooling and its gradient, which goes past the caches as one of many megabytes would."""
    with patch.object(pool, "_FAR", 0, create=True):
        return max_pool_both_ways(pool, x, (2, 2), (2, 2), (0, 0), (1, 1), False)


def draw_far_max_pool2d(d: Draw) -> Drawn:
    height, width = (2 * d.whole(1, 6) for _ in "HW")
    lanes = lanes_of(d.dtype().itemsize)
    return partial(far_max_pool, d.backend.pool), (
        d.image(d.whole(1, 3), lanes * d.whole(1, 3), height, width),
    )


WAYS: Calls = {
    "max_pool2d, far": draw_far_max_pool2d,
    "conv2d_max_pool2d, few taps": draw_few_taps,
    "conv2d_backward, few taps": draw_few_taps_everywhere,
    "conv2d, few channels": draw_conv_few_channels,
    "conv2d_max_pool2d, by pixels": draw_by_pixels,
    "linear, large": draw_large_linear,
    "linear_backward, large": draw_large_linear_backward,
    "linear, mostly zeros": draw_zeros_linear,
    "linear_backward, mostly zeros": draw_zeros_linear_backward,
    "linear, few columns": draw_narrow_linear,
    "linear_backward, few columns": draw_narrow_linear_backward,
    "conv2d, 3 x 3": draw_conv_3x3,
    "conv2d_backward, 3 x 3": draw_conv_3x3_backward,
    "conv2d_max_pool2d, 3 x 3": draw_conv_pool_3x3,
    "conv2d_max_pool2d, few channels": draw_conv_pool_by_rows,
    "conv2d_backward, few channels": draw_conv_few_channels_backward,
}
