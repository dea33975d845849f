"""Every kernel called once in each precision, so that Numba compiles it now and finds it on disk later.

A kernel is compiled for the types it is called with: arrays as the layers hand them over, images both as they come from
a file (C, H, W in memory) and as the convolutions return them (channels-last).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn import optim
from fastnn.layers import Parameter


def calls() -> list[tuple[str, Callable[[], Any]]]:
    """The calls, each under a title; run them under the backend to be warmed."""
    return [
        (f"{title} {np.dtype(dtype).name}", call)
        for dtype in (np.float32, np.float64)
        for title, call in _calls(dtype)
    ]


def _calls(dtype: Any) -> list[tuple[str, Callable[[], Any]]]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def nhwc(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    x, weight, bias = draw(9, 20), draw(20, 10), draw(10)
    scores, labels, shares = draw(9, 10), np.arange(9) % 10, np.full((9, 10), 0.1, dtype)
    images = draw(2, 4, 8, 8)
    filters, mixed = nhwc(draw(6, 4, 3, 3)), draw(6, 2, 3, 3)
    return []
