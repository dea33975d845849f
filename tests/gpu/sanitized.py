"""``python -m tests.gpu.sanitized [MISTAKE]``: some calls of every kernel, for compute-sanitizer to watch.

With the name of a mistake, a kernel that makes it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import fastnn
from fastnn.kernels.cuda import _launch
from tests.drawn import KERNELS
from tests.gpu.moving import to_gpu
from tests.rooms import CUDA, made

EACH = 3
MISTAKES = {
    "past-the-end": """
extern "C" __global__ void mistake(float* x) { x[threadIdx.x] = 1; }
""",
    "race": """
extern "C" __global__ void mistake(float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = threadIdx.x;
    x[threadIdx.x % 48] = tile[63 - threadIdx.x];
}
""",
}


def launched() -> list[str]:
    """The list that gets the name of each kernel that is launched from now on."""
    names: list[str] = []
    find = _launch._function

    def noting(toolkit: Any, stem: str, name: str, real: Any) -> Any:
        names.append(f"{stem}.{name}")
        return find(toolkit, stem, name, real)

    _launch._function = noting
    return names


def main() -> None:
    fastnn.set_backend("cupy")
    cupy = fastnn.get_backend().xp
    # Each array gets memory of its own from the driver: in a pool's, what lies past one belongs to another
    cupy.cuda.set_allocator(None)
    if len(sys.argv) > 1:
        kernel = cupy.RawModule(code=MISTAKES[sys.argv[1]]).get_function("mistake")
        kernel((1,), (64,), (cupy.empty(48, np.float32),))
        cupy.cuda.Device().synchronize()
        return
    names, count = launched(), 0
    for name in KERNELS:
        for i in range(EACH):
            made(CUDA, name, [i, 1, *name.encode()], np.float32, to_gpu)
            count += 1
    cupy.cuda.Device().synchronize()
    print(f"{count} calls of {len(set(names))} kernels, none of them left")


if __name__ == "__main__":
    main()
