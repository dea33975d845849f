"""How helpers are compiled, and what is shown meanwhile."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numba
import pytest
from llvmlite import ir
from numba import types
from numba.core import errors
from numba.extending import intrinsic

import fastnn
from fastnn.kernels.cpu import _jit
from fastnn.training.compiling import compiling_shown
from fastnn.training.progress import Bar


def compiled_once(module):
    """A function that Numba compiles, of a module of that name."""

    def plus_one(x):
        return x + 1

    plus_one.__module__ = module
    return numba.njit(plus_one)


def test_kernels_being_compiled_are_shown_and_nothing_else_is():
    shown = []
    with fastnn.use_backend("numba"), compiling_shown(shown.append):
        kernel = compiled_once("fastnn.kernels.cpu.linear")
        assert kernel(1) == kernel(2) - 1
        assert compiled_once("somebody.elses")(1) == 2
        assert compiled_once("fastnn.kernels.cpu._math")(1) == 2
    assert [text.split(": ")[1] for text in shown] == ["linear, function 1", "math, function 2"]
    assert compiled_once("fastnn.kernels.cpu.linear")(1) == 2  # after the context
    with fastnn.use_backend("numpy"), compiling_shown(shown.append):
        assert compiled_once("fastnn.kernels.cpu.linear")(1) == 2
    assert len(shown) == 2


def test_bar_says_that_kernels_are_being_compiled(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = Bar()
    with fastnn.use_backend("numba"):
        bar.begin(1, 1, 10, 0)
        compiled_once("fastnn.kernels.cpu.linear")(1)
        bar.close()
    compiled_once("fastnn.kernels.cpu.pool")(1)
    shown = capsys.readouterr().err
    assert "compiling kernels (once): linear, function 1" in shown
    assert "pool" not in shown


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("typed", [True, False])
def test_collector_waits_for_a_kernel_and_is_then_as_it_was(collecting, typed):
    seen = []

    @intrinsic
    def one(typingctx):
        seen.append(gc.isenabled())
        return (types.int64(), lambda *_: ir.IntType(64)(1)) if typed else None

    kernel = numba.njit(lambda: one(), pipeline_class=_jit._Uncollected)
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        if typed:
            assert kernel() == 1
        else:
            with pytest.raises(errors.TypingError):
                kernel()
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert seen
    assert not any(seen)


UNKNOWN = """
import numba
numba.version_info = numba.version_info._replace(short=(0, 99))
import numpy as np
import fastnn.functional as F
from fastnn.kernels.cpu import _jit
assert "pipeline_class" not in _jit._HELPER
print(F.tanh(np.ones(3, np.float32)))
"""


def test_a_numba_that_nobody_has_tried_compiles_helpers_its_own_way(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "FASTNN_BACKEND": "numba"}
    done = subprocess.run(
        [sys.executable, "-c", UNKNOWN], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.startswith("[0.7615942"), done.stderr
    assert "pipeline_class" in _jit._HELPER, "this one is known: see _jit.py, and try the new version"
