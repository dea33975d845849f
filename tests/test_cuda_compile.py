"""kernels/cuda as NVRTC compiles it, which needs no GPU: on no architecture do registers spill to memory.

``cuda/registers.json`` has the registers a thread and the bytes of shared memory a block of every kernel, as
one release of NVRTC gave them; ``python -m tests.test_cuda_compile`` writes it anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cuda import _launch

TABLE = Path(__file__).parent / "cuda" / "registers.json"
REALS = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
STEMS = sorted(path.stem for path in Path(_launch.__file__).parent.glob("*.cu"))
MODULES = [(stem, real) for stem in STEMS for real in REALS if real == "float" or not stem.endswith("_tf32")]
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
ARCHITECTURE = "sm_90"  # here; of the others soak/test_cuda_architectures.py sees to it
Compilations = dict[tuple[str, str, str], "Future[dict[str, Any]]"]
PRODUCTS = re.compile("(forward|grad_input|grad_weight)_(slim|small|medium|narrow|large)")


def most_registers(kernel: str, real: str) -> int:
    """Of 65,536 for 256 threads: so that two blocks fit a multiprocessor; one of a product of double, which
    has twice as many for its sums."""
    return 255 if real == "double" and PRODUCTS.fullmatch(kernel) else 128


def compiled(stem: str, real: str, architecture: str) -> dict[str, Any]:
    """Of each kernel [registers, bytes of shared memory]; AssertionError where one spills."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(_launch.source(stem), f"{stem}.cu", (), ())
    options = [*_launch.options(REALS[real]), f"-arch={architecture}", "--ptxas-options=-v"]
    try:
        nvrtc.compileProgram(program, options)
    except Exception as error:
        raise AssertionError(f"{stem}.cu, {real}, {architecture}:\n{error}") from None
    assert nvrtc.getCUBIN(program)
    found = {}
    for entry in re.split(r"Compiling entry function '", nvrtc.getProgramLog(program))[1:]:
        name = entry[: entry.index("'")]
        spilled = re.findall(r"(\d+) bytes spill", entry)
        assert set(spilled) == {"0"}, f"{stem}.{name} spills, {real}, {architecture}"
        shared = re.search(r"(\d+) bytes smem", entry)
        registers = re.search(r"Used (\d+) registers", entry)
        assert registers, entry
        found[name] = [int(registers[1]), int(shared[1]) if shared else 0]
    return found


@pytest.fixture(scope="module")
def nvrtc() -> tuple[int, int]:
    """The version of NVRTC; a skip where there is none."""
    pytest.importorskip("cupy", reason="CuPy is not installed, through which NVRTC is called")
    try:
        from cupy.cuda import nvrtc

        return nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"NVRTC is not here (pip install nvidia-cuda-nvrtc): {str(error).splitlines()[0]}")


@contextmanager
def compilations(architectures: tuple[str, ...]) -> Iterator[Compilations]:
    """All modules for those architectures, two at a time: NVRTC leaves the GIL."""
    with ThreadPoolExecutor(2) as pool:
        started = {
            (stem, real, architecture): pool.submit(compiled, stem, real, architecture)
            for stem, real in MODULES
            for architecture in architectures
        }
        yield started
        pool.shutdown(cancel_futures=True)


def check(started: Compilations, stem: str, real: str, architecture: str, version: tuple[int, int]) -> None:
    """What the table says came of compiling that module, by NVRTC of that version."""
    table = json.loads(TABLE.read_text())
    found = started[stem, real, architecture].result()
    for name, (registers, _) in found.items():
        assert registers <= most_registers(name, real), name
    expected = table["kernels"][stem][real][architecture]
    assert found.keys() == expected.keys()
    assert {name: shared for name, (_, shared) in found.items()} == {
        name: shared for name, (_, shared) in expected.items()
    }
    if list(version) == table["nvrtc"]:  # another release allocates registers another way
        assert found == expected


@pytest.fixture(scope="module")
def for_one(nvrtc: tuple[int, int]) -> Iterator[Compilations]:
    with compilations((ARCHITECTURE,)) as started:
        yield started


@pytest.mark.parametrize(("stem", "real"), MODULES)
def test_kernels_compile_without_spilling_to_what_the_table_says(
    stem: str, real: str, nvrtc: tuple[int, int], for_one: Compilations
) -> None:
    check(for_one, stem, real, ARCHITECTURE, nvrtc)


if __name__ == "__main__":
    from cupy.cuda import nvrtc as _nvrtc

    kernels: dict[str, dict[str, Any]] = {stem: {} for stem in STEMS}
    for stem, real in MODULES:
        kernels[stem][real] = {sm: compiled(stem, real, sm) for sm in ARCHITECTURES}
    text = json.dumps({"nvrtc": list(_nvrtc.getVersion()), "kernels": kernels}, indent=1)
    TABLE.write_text(re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", text) + "\n")
