"""Every kernel of kernels/cuda on the CPU, built with sanitizers. ``test_emulation.py`` runs this in a child
process, since a sanitizer ends it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from tests import drawn
from tests.emulation import Toolkit, emulated
from tests.test_cuda_emulated import CALLS, room

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
        for stem, module in room("cuda").items():
            setattr(drawn, stem, module)
        count = 0
        for name, draw in CALLS.items():
            for i in range(EACH):
                function, operands = draw(drawn.Draw([i, 1, *name.encode()], np.float32))
                function(*operands)
                count += 1
        print(f"{count} calls of {len(toolkit.launched)} kernels")


if __name__ == "__main__":
    main()
