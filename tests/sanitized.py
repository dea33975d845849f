"""Every kernel of kernels/cuda on the CPU, built with sanitizers. ``test_emulation.py`` runs this in a child
process, since a sanitizer ends it.
"""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import fastnn
from fastnn.kernels.cuda import _launch, _products
from tests.drawn import KERNELS, Draw
from tests.emulation import BUILT, Toolkit, emulated
from tests.rooms import CUDA
from tests.step_calls import make_calls

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")
EACH = 3
PAST_THE_END = """
extern "C" __global__ void past_the_end(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x]; }
"""


def build(toolkit: Toolkit) -> None:
    """All files for float, two at a time: g++ takes longer than all the calls."""

    def compiled(path: Path) -> None:
        real = np.dtype(np.float32)
        toolkit.compile(path.stem, _launch.source(path.stem), _launch.options(real))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compiled, Path(_launch.__file__).parent.glob("*.cu")))


def products() -> int:
    """Each product by each tile and in parts, the linear ones on tensor cores too; the number of calls."""
    count, tiles = 0, _products._TILES
    for seed, (precision, tile) in enumerate(itertools.product(("highest", "high"), tiles)):
        fastnn.set_float32_precision(precision)
        _products._TILES, _products._PARTS = (tile,), (1 + seed % 3,)
        _products.plan.cache_clear()
        names = ["linear", "linear_backward"]
        if precision == "highest":
            names += ["conv2d", "conv2d_backward", "conv2d_max_pool2d"]
        for name in names:
            function, operands = KERNELS[name](Draw([seed, 2, *name.encode()], np.float32, CUDA))
            function(*operands)
            count += 1
    return count


def main() -> None:
    with emulated(Toolkit(BUILT / "sanitized", FLAGS)) as toolkit:
        if "--past-the-end" in sys.argv:
            kernel = toolkit.compile("past", PAST_THE_END, ("-DREAL=float",)).get_function("past_the_end")
            kernel((1,), (32,), (np.empty(31, np.float32), np.empty(32, np.float32)))
        build(toolkit)
        count = make_calls(np)
        for name, draw in KERNELS.items():
            for i in range(EACH):
                function, operands = draw(Draw([i, 1, *name.encode()], np.float32, CUDA))
                function(*operands)
                count += 1
        count += products()
        print(f"{count} calls of {len(toolkit.launched)} kernels")


if __name__ == "__main__":
    main()
