"""kernels/cuda without a GPU: its ``.cu`` files, built by g++ around ``cuda/emulate.h``, on NumPy arrays.

:class:`Toolkit` takes the place of CuPy in ``kernels/cuda/_launch.py``; all the launch code is the real one.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.kernels.cuda import _launch

HEADER = Path(__file__).parent / "cuda" / "emulate.h"
# Where tests let it be built: once for all of their processes, and again only when its source changes.
BUILT = Path(__file__).resolve().parents[1] / "out" / "emulated"
COMPILER = shutil.which("g++")
WHY_NOT = None if COMPILER and os.name == "posix" else "there is no g++ to build kernels/cuda for the CPU"
# Not optimised, and with little for a debugger: to build takes longer than to run.
WARNINGS = ("-Wall", "-Wno-unknown-pragmas", "-Wno-unused-variable")
COMMAND = ("-std=c++17", "-O0", "-g1", "-fPIC", "-shared", *WARNINGS)


class Toolkit:
    """What the launch code asks of CuPy, on the CPU.

    Parameters
    ----------
    folder : Path
        For what is built.
    flags : tuple of str
        More for the compiler: sanitizers.
    """

    xp = np

    def __init__(self, folder: Path, flags: tuple[str, ...] = ()) -> None:
        self._folder, self._flags = folder, flags
        self.seed = 0  # of the order in which blocks and threads run: each launch gets the next
        self.launched: set[str] = set()

    def compile(self, stem: str, source: str, options: tuple[str, ...]) -> _Module:
        name = f"{stem}-{options[0].rpartition('=')[2]}"
        kernels = re.findall(r'extern "C" __global__ void (\w+)\(', source)
        kernels += re.findall(r"^(?:MAP|MAP_BACKWARD|GATHER|PRODUCT)\((\w+),", source, re.M)
        kernels = [kernel for kernel in kernels if kernel != "name"]
        defined = [option for option in options if option.startswith("-D")]
        command = [str(COMPILER), *COMMAND, *self._flags, *defined]
        header = HEADER.read_text().replace("#pragma once\n", "")
        parts = [
            f"// {' '.join(command)}",
            f'#line 1 "{HEADER.name}"',
            header,
            f'#line 1 "{stem}.cu"',
            source,
        ]
        text = "\n".join([*parts, *(f"EXPORT({kernel})" for kernel in kernels), ""])
        self._folder.mkdir(parents=True, exist_ok=True)
        library = self._folder / f"{name}.so"
        with _alone(self._folder / f"{name}.lock"):  # other processes may want the same
            built = library.with_suffix(".cpp")
            if not (library.exists() and built.exists() and built.read_text() == text):
                _build(command, text, library)
            return _Module(ctypes.CDLL(str(library)), stem, self)

    @staticmethod
    def address(array: np.ndarray) -> int:
        return array.__array_interface__["data"][0]

    def do(self, action: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
        """Launch a kernel, which `action` does."""
        action()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process or thread is in here with that lock."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(command: list[str], text: str, library: Path) -> None:
    """Leave `library`, and beside it the source it is of, which is written last."""
    source, made = library.with_suffix(".new.cpp"), library.with_suffix(".new")
    source.write_text(text)
    done = subprocess.run([*command, "-o", made, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"g++ does not take {library.stem}:\n{done.stderr}")
    made.replace(library)  # in the place of a file that a process may still run
    source.replace(library.with_suffix(".cpp"))


class _Module:
    def __init__(self, library: ctypes.CDLL, stem: str, toolkit: Toolkit) -> None:
        self._library, self._stem, self._toolkit = library, stem, toolkit

    def get_function(self, name: str) -> Any:
        run = self._library[f"run_{name}"]
        run.restype = ctypes.c_char_p

        def kernel(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            self._toolkit.do(lambda: now(grid, block, arguments), arguments)

        def now(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            shape = np.array([*grid, *[1] * (3 - len(grid)), *block, *[1] * (3 - len(block))], np.uint32)
            values = [_value(argument) for argument in arguments]
            addresses = np.array([value.ctypes.data for value in values], np.uintp)
            self._toolkit.seed += 1
            self._toolkit.launched.add(f"{self._stem}.{name}")
            error = run(
                ctypes.c_void_p(shape.ctypes.data),
                ctypes.c_void_p(addresses.ctypes.data),
                ctypes.c_size_t(len(values)),
                ctypes.c_uint(self._toolkit.seed),
            )
            if error:
                raise RuntimeError(f"{self._stem}.{name}: {error.decode()}")

        return kernel


def _value(argument: Any) -> np.ndarray:
    """What a launch hands over: of an array its address, else the number."""
    if isinstance(argument, np.ndarray):
        return np.array([Toolkit.address(argument)], np.uintp)
    return np.array([argument])


@contextmanager
def emulated(toolkit: Toolkit) -> Iterator[Toolkit]:
    """Let kernels/cuda run on the CPU."""
    before, _launch.toolkit = _launch.toolkit, toolkit
    try:
        yield toolkit
    finally:
        _launch.toolkit = before
