"""A child process that calls kernels on arrays of more than 2³¹ numbers, in almost no memory.

Every large array is a stretch of addresses between two forbidden pages. Its two ends are memory of their own,
and all between is one small piece of it, mapped over and over. What a kernel computes at the ends is compared
with what it computes for the ends alone: an index that had 32 bits would read and write elsewhere.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.cpu import activation, conv, conv_pool, linear, loss, norm, pool, random, update
from tests.guarded import Allocator

BEYOND = 2**31
PIECE = 1 << 21  # bytes of each of the two ends, and of what is between
LARGE = 1 << 28  # bytes of an array, from which on it is mapped so
ONE, NONE = (1, 1), (0, 0)
_FIXED, _NO_RESERVE = 0x10, 0x4000  # Linux's MAP_FIXED and MAP_NORESERVE


class Repeating(Allocator):
    """As its parent, flush at the end, for large arrays; small ones are left to the C library."""

    def __init__(self) -> None:
        super().__init__()
        self._libc.malloc.restype = self._libc.calloc.restype = self._libc.realloc.restype = ctypes.c_void_p
        self._libc.malloc.argtypes = [ctypes.c_size_t]
        self._libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        self._libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc.free.argtypes = [ctypes.c_void_p]

    def malloc(self, _: Any, size: int) -> int:
        if size < LARGE:
            return self._libc.malloc(max(size, 1))
        count = -(-size // PIECE)
        length = count * PIECE + 2 * mmap.PAGESIZE
        private, both = (
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE,
            mmap.PROT_READ | mmap.PROT_WRITE,
        )
        mapping = self._libc.mmap(None, length, 0, private, -1, 0)
        first = mapping + mmap.PAGESIZE
        file = os.memfd_create("between")
        os.ftruncate(file, PIECE)
        for i in range(count):
            between = 1 < i < count - 2  # the ends need not fill their first and last piece
            how, which = (mmap.MAP_SHARED, file) if between else (private, -1)
            address = first + i * PIECE
            if self._libc.mmap(address, PIECE, both, how | _FIXED, which, 0) != address:
                raise MemoryError(os.strerror(ctypes.get_errno()))
        os.close(file)
        address = first + count * PIECE - size
        self._blocks[address] = mapping, length, size
        return address

    def calloc(self, _: Any, count: int, size: int) -> int:
        return self.malloc(None, count * size) if count * size >= LARGE else self._libc.calloc(count, size)

    def realloc(self, _: Any, old: int | None, size: int) -> int:
        if size >= LARGE or old in self._blocks:
            raise MemoryError("a large array does not grow")
        return self._libc.realloc(old, size)

    def free(self, _: Any, address: int | None, size: int) -> None:
        if address in self._blocks:
            super().free(None, address, size)
        else:
            self._libc.free(address)


def filled(*shape: int, ends: int) -> np.ndarray:
    """An array whose first and last `ends` rows hold numbers of their own."""
    array, rng = np.empty(shape, np.float32), np.random.default_rng([*shape])
    assert array.size > BEYOND
    assert ends * array[0].nbytes < PIECE, "the ends are no longer than the memory they have"
    for rows in (np.s_[:ends], np.s_[-ends:]):
        array[rows] = rng.uniform(0.1, 1, array[rows].shape)
    return array


def near(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def same_ends(call: Callable[..., Any], *arrays: np.ndarray, ends: int) -> None:
    """``call(*arrays)`` has at both ends of its first axis what it has for these rows alone."""
    result = call(*arrays)
    for rows in (np.s_[:ends], np.s_[-ends:]):
        near(result[rows], call(*(array[rows].copy() for array in arrays)))


def a_map() -> None:
    same_ends(activation.relu, filled(BEYOND + 77, ends=1000), ends=1000)


def a_map_backward() -> None:
    x = filled(BEYOND // 16 + 5, 16, ends=100)
    same_ends(activation.tanh_backward, x, x, ends=100)


def softmax_of_short_rows() -> None:
    same_ends(lambda x: activation.softmax(x, 1), filled(BEYOND // 8 + 5, 8, ends=100), ends=100)


def log_softmax_of_long_rows() -> None:
    same_ends(lambda x: activation.log_softmax(x, 1), filled(BEYOND // 128 + 5, 128, ends=50), ends=50)


def softmax_cross_entropy() -> None:
    x, labels = filled(BEYOND // 8 + 5, 8, ends=100), np.zeros(BEYOND // 8 + 5, np.int8)
    same_ends(lambda x: loss.softmax_cross_entropy(x, labels[: len(x)], 0.5)[1], x, ends=100)


def sigmoid_cross_entropy() -> None:
    x = filled(BEYOND + 77, ends=1000)
    same_ends(lambda x, z: loss.sigmoid_cross_entropy(x, z, 0.5)[1], x, x, ends=1000)


def mse() -> None:
    x = filled(BEYOND + 77, ends=1000)
    same_ends(lambda x, z: loss.mse(x, z, 0.5)[1], x, x, ends=1000)


def linear_forward() -> None:
    x, weight = filled(BEYOND // 1024 + 5, 1024, ends=20), np.full((1024, 2), 0.5, np.float32)
    same_ends(lambda x: linear.linear(x, weight, None, "relu"), x, ends=20)


def linear_to_a_large_result() -> None:
    x, weight = np.ones((BEYOND // 4096 + 5, 2), np.float32), np.full((2, 4096), 0.5, np.float32)
    x[-3:] = 2
    out = linear.linear(x, weight, None, None)
    near(out[:3], 1)
    near(out[-3:], 2)


def linear_backward() -> None:
    rows = BEYOND // 1024 + 5
    x, grad, weight = (
        filled(rows, 1024, ends=3),
        np.zeros((rows, 1), np.float32),
        np.ones((1024, 1), np.float32),
    )
    grad[:3], grad[-3:] = 2, 3
    grad_x, grad_weight, _ = linear.linear_backward(grad, x, weight, True)
    near(grad_x[:3], 2)
    near(grad_x[-3:], 3)
    near(grad_weight[:, 0], 2 * x[:3].sum(0) + 3 * x[-3:].sum(0))


def channels_last(n: int, channels: int, size: int) -> np.ndarray:
    """Images with numbers of their own in the first pixels of the first and the last pixels of the last."""
    memory = np.empty((n, size, size, channels), np.float32)
    assert memory.size > BEYOND
    pixels = memory.reshape(n * size * size, channels)
    pixels[:9], pixels[-9:] = 2, 3
    return memory.transpose(0, 3, 1, 2)


def far_apart(n: int, channels: int, steps: int) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    """Images, a weight and the geometry of windows of one pixel, so far apart that few pages are touched."""
    x, weight = channels_last(n, channels, 61 * steps + 1), np.full((2, channels, 1, 1), 0.5, np.float32)
    return x, weight, ((steps, steps), NONE, ONE, 1)


def convolution(n: int, channels: int, steps: int) -> None:
    x, weight, geometry = far_apart(n, channels, steps)
    out = conv.conv2d(x, weight, None, *geometry, None)
    near(out[0, :, 0, 0], channels)
    near(out[-1, :, -1, -1], 1.5 * channels)


def convolution_of_one_image() -> None:
    convolution(1, 128, 68)


def convolution_of_several_images() -> None:
    convolution(3, 64, 55)


def convolution_backward() -> None:
    x, weight, geometry = far_apart(3, 64, 55)
    grad = np.ones((3, 2, 62, 62), np.float32)
    grad[0, :, 0, 0], grad[-1, :, -1, -1] = 2, 3
    grad_x, grad_weight, _ = conv.conv2d_backward(grad, x, weight, *geometry, True)
    near(grad_x[0, :, 0, 0], 2)
    near(grad_x[-1, :, -1, -1], 3)
    near(grad_weight, 2 * 2 + 3 * 3)  # elsewhere, where nobody wrote, the images are zero


POOLED = ((13, 13), NONE, ONE, 1), ((2, 2), (2, 2), NONE, ONE, False)


def pooled_convolution() -> None:
    """One image of more numbers than 2³¹, but fewer pixels: pixels are what indices count."""
    x, weight = channels_last(1, 33, 8192), np.full((2, 33, 1, 1), 0.5, np.float32)
    out, indices = conv_pool.conv2d_max_pool2d(x, weight, None, *POOLED, "relu")
    near(out[0, :, 0, 0], 33)
    assert indices[0, 0, 0, 0] == 0


def pooled_convolution_backward() -> None:
    x, weight = channels_last(1, 33, 8192), np.full((2, 33, 1, 1), 0.5, np.float32)
    grad, indices = np.zeros((1, 2, 315, 315), np.float32), np.zeros((1, 2, 315, 315), np.int32)
    grad[0, :, 0, 0] = 2
    grad_x, grad_weight, _ = conv_pool.conv2d_max_pool2d_backward(grad, indices, x, weight, POOLED[0], True)
    near(grad_x[0, :, 0, 0], 2)
    near(grad_weight, 4)


def max_pooling() -> None:
    out, indices = pool.max_pool2d(channels_last(1, 33, 8192), (2, 2), (63, 63), NONE, ONE, False)
    near(out[0, :, 0, 0], 2)
    near(out[0, :, -1, -1], 3)
    assert (indices[0, :, -1, -1] == 8191 * 8192 + 8190).all()


def max_pooling_backward() -> None:
    grad, indices = np.ones((1, 33, 9, 9), np.float32), np.full((1, 33, 9, 9), 8192 * 8192 - 1, np.int32)
    grad_x = pool.max_pool2d_backward(grad, indices, (1, 33, 8192, 8192))
    near(grad_x[0, :, -1, -1], 81)


MEANS = ((1, 1), (55, 55), NONE, False, True)


def average_pooling() -> None:
    out = pool.avg_pool2d(channels_last(3, 64, 61 * 55 + 1), *MEANS)
    near(out[0, :, 0, 0], 2)
    near(out[-1, :, -1, -1], 3)


def average_pooling_backward() -> None:
    grad = np.ones((3, 64, 62, 62), np.float32)
    grad[-1, :, -1, -1] = 3
    grad_x = pool.avg_pool2d_backward(grad, (3, 64, 61 * 55 + 1, 61 * 55 + 1), *MEANS)
    near(grad_x[0, :, 0, 0], 1)
    near(grad_x[-1, :, -1, -1], 3)


def columns() -> None:
    image = np.ones((1, 1, 790, 790), np.float32)
    image[..., -1, -1] = 3
    geometry = (64, 64), ONE, NONE, ONE
    cols = conv.im2col(image, *geometry)
    assert cols.size > BEYOND
    near(cols[0, 0, 0], 1)
    near(cols[0, -1, -1], 3)
    cols[0, -1, -1] = 7
    back = conv.col2im(cols, (790, 790), *geometry)
    near(back[0, 0, -1, -1], 7)


def dropout() -> None:
    x = filled(BEYOND + 77, ends=1000)
    out = random.dropout(x, 0.5, 1, 2)
    kept = out[-1000:] != 0
    assert 400 < kept.sum() < 600
    near(out[-1000:], np.where(kept, 2 * x[-1000:], 0))


def updates() -> None:
    w = filled(BEYOND + 77, ends=1000)
    before = w[-1000:].copy(), w[:1000].copy()
    update.sgd(update.bind([w], [w]), 0.5, 0.0, 0.0, 0.0, False, True)
    near(w[-1000:], before[0] / 2)
    near(w[:1000], before[1] / 2)
    # with weights, gradients and moments in one place, only the address is looked at
    update.adam(update.bind([w], [w], [w], [w]), 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3)
    update.rmsprop(update.bind([w], [w], [w], [w]), 0.1, 0.9, 1e-8, 0.1, 0.9)
    update.l2_penalty(update.bind([w], [w]), 0.1)


def batch_norm() -> None:
    x = filled(BEYOND // 64 + 5, 64, ends=50)
    ones = [np.ones(64, np.float32) for _ in range(4)]
    out, mean, inv_std = norm.batch_norm(x, *ones, True, 0.1, 1e-5)
    near(out[-50:], (x[-50:] - mean) * inv_std + 1)
    grad_x = norm.batch_norm_backward(x, x, ones[0], mean, inv_std, False, True)[0]
    near(grad_x[-50:], x[-50:] * inv_std)


def flatten() -> None:
    x = channels_last(3, 64, 3400)
    out = linear.flatten(x)
    near(out[-1, -9:], 3)


CALLS = {
    function.__name__: function
    for function in (
        *(a_map, a_map_backward, softmax_of_short_rows, log_softmax_of_long_rows, dropout),
        *(softmax_cross_entropy, sigmoid_cross_entropy, mse, updates, batch_norm, flatten, columns),
        *(linear_forward, linear_to_a_large_result, linear_backward),
        *(max_pooling, max_pooling_backward, average_pooling, average_pooling_backward),
        *(convolution_of_one_image, convolution_of_several_images, convolution_backward),
        *(pooled_convolution, pooled_convolution_backward),
    )
}


def main(names: list[str]) -> None:
    allocator = Repeating()  # it lives as long as this function
    allocator.install()
    for name in names:
        begin = time.perf_counter()
        print(name, end=" ", flush=True)
        CALLS[name]()
        print(f"{time.perf_counter() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    status = 1
    try:
        main(sys.argv[1:])
        status = 0
    except Exception:
        traceback.print_exc()
    finally:  # at once, as in edges.py
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
