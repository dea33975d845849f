"""Every kernel of kernels/cuda on the CPU, built with sanitizers. ``test_emulation.py`` runs this in a child
process, since a sanitizer ends it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.drawn import KERNELS, Draw
from tests.emulation import Toolkit, emulated
from tests.rooms import CUDA
from tests.step_calls import make_calls

FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer")
EACH = 3
PAST_THE_END = """
extern "C" __global__ void past_the_end(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x]; }
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, emulated(Toolkit(Path(folder), FLAGS)) as toolkit:
        if "--past-the-end" in sys.argv:
            kernel = toolkit.compile("past", PAST_THE_END, ("-DREAL=float",)).get_function("past_the_end")
            kernel((1,), (32,), (np.empty(31, np.float32), np.empty(32, np.float32)))
        count = make_calls(np)
        for name, draw in KERNELS.items():
            for i in range(EACH):
                function, operands = draw(Draw([i, 1, *name.encode()], np.float32, CUDA))
                function(*operands)
                count += 1
        print(f"{count} calls of {len(toolkit.launched)} kernels")


if __name__ == "__main__":
    main()
