"""The micro-kernel: a tile of C held in registers while the reduction streams past it. Everything dense
runs through here.

    for i in range(M):                            # rows of C
        for j in range(columns of the panel):     # one to `nv` vectors
            C[i*c_i + j] (+)= bias[j] + sum over s < S, k < K of
                A[rows[i] + offsets[s] + k*a_k] * B[(s*K + k)*b_k + j]

Where a row of C reads in A, and where each part of its reduction begins, are two tables. They make one loop
nest serve every use (f: a filter's row, w: its columns times the channels, both contiguous):

    use               C row          A row         reduction: offsets[s], k    B
    X W               sample         sample        -, feature                  W
    X' dY             feature        feature       -, sample                   dY
    dY W'             sample         sample        -, output                   W', packed
    conv forward      output pixel   input pixel   row f, w (contiguous)       filters (f, w, out)
    conv grad-input   input pixel    dY pixel      row f, w (contiguous)       filters flipped (f, w, in)
    conv grad-weight  (f, w)         (f, w)        output row, output column   dY

so a convolution's im2col rows are addressed, never built. The tile itself (AVX-512, float32, nv = 2):

                  B  [ 16 floats ][ 16 floats ]     <- nv loads a step of k, used by all rows
        A[0] bcast   [ acc 0,0   ][ acc 0,1   ]
        A[1] bcast   [ acc 1,0   ][ acc 1,1   ]     <- mr x nv accumulators, never stored before the last k
          ...           ...          ...
        A[11] bcast  [ acc 11,0  ][ acc 11,1  ]     <- mr broadcasts a step of k, each used nv times

A step of k is mr·nv multiply-adds on mr + nv loads. With two units for each, arithmetic hides the loads as
soon as mr·nv > mr + nv, and the units' latency (4 steps x 2 units) as soon as mr·nv >= 8. Registers bound
it: mr·nv + nv + 1 <= 32 (AVX-512, NEON) or 16. `_SHAPES` lists the heights for each nv. What remains of M
runs through tiles of 8, 4, 2 and 1 rows. Of three vectors or four the last is half as wide where that is
enough; its columns past the edge are masked in every load and store, so no byte outside the operands is
touched.

The multiply-add is ``llvm.fmuladd``: one instruction where the CPU has one, a multiply and an add elsewhere
(``llvm.fma`` would then call a library). Which vectors the CPU has is asked of the compiler itself, see
`_target`.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import JITCPUCodegen
from numba.extending import intrinsic

from ._jit import call_code_for, inline, native
from ._vectors import LINE, Vectors, i64, prefetch

# rows of the main tile for nv = 1, 2, 3, 4 vectors, by the number of vector registers
_SHAPES = {32: (12, 12, 8, 6), 16: (8, 6, 4)}

_AHEAD = 8  # steps of k
# Terms to go through at a time with the widest panel of B: so much of it stays in the L1 cache. CPUs that run
# a 512-bit multiply-add in two halves take twice as long for a step, time enough for B to come from the L2
# cache: there they are more, so that C is read and written less often.
_TERMS, _TERMS_IN_HALVES = 128, 512
_IN_HALVES = ("znver4",)
NOTHING = (0, 0, 0)  # is needed next


@functools.cache
def _target() -> dict[str, Any]:
    """What vectors the code generator will use: learnt by compiling a line and reading the registers it
    names.

    A CPU's name does not say it (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and the host's features interact); the
    assembly does.
    """
    generator = JITCPUCodegen("fastnn.probe")
    vector, integers = (ir.VectorType(kind, 16) for kind in (ir.FloatType(), ir.IntType(32)))
    module = ir.Module()
    pointers = [vector.as_pointer()] * 3 + [integers.as_pointer()] * 2
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), "probe")
    builder = ir.IRBuilder(function.append_basic_block())
    fmuladd = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "llvm.fmuladd.v16f32")
    a, b, c, i, j = (builder.load(p) for p in function.args)
    builder.store(builder.call(fmuladd, [a, b, c]), function.args[0])
    builder.store(builder.add(i, j), function.args[3])
    builder.ret_void()
    module.triple = llvm.get_process_triple()
    parsed = llvm.parse_assembly(str(module))
    text = generator._tm.emit_assembly(parsed)
    if "zmm" in text:
        width, registers = 64, 32
    elif "ymm" in text:
        width, registers = 32, 16
    else:
        width, registers = 16, 32 if "aarch64" in module.triple or "arm64" in module.triple else 16
    return {
        "width": width,
        "registers": registers,
        "fma": "fmadd" in text or "fmla" in text,
        "cheap_masks": width == 64,
        "wide_integers": re.search(r"vpaddd.*[yz]mm", text) is not None,
        "halves": width == 64 and generator._get_host_cpu_name() in _IN_HALVES,
    }


def describe() -> dict[str, Any]:
    """The chosen tile, for people: vector width in bits, whether multiply-add is one instruction, rows x
    columns of each tile."""
    target = _target()
    shapes = {
        name: [
            f"{rows}x{(nv + 1) * target['width'] // size}"
            for nv, rows in enumerate(_SHAPES[target["registers"]])
        ]
        for name, size in (("float32", 4), ("float64", 8))
    }
    return {
        "vector_bits": 8 * target["width"],
        "registers": target["registers"],
        "fma": target["fma"],
        "tiles": shapes,
    }


def lanes(itemsize: int) -> int:
    """Elements in a vector."""
    return _target()["width"] // itemsize


def widest() -> bool:
    """Whether vectors have 512 bits: these can be compressed, and numbers looked up in them."""
    return bool(_target()["width"] == LINE)


def wide_integers() -> bool:
    """Whether integers have vectors of 256 bits at least."""
    return bool(_target()["wide_integers"])


def registers() -> int:
    """How many vector registers the CPU has."""
    return int(_target()["registers"])


def _make_tile(size: int, mr: int, nv: int, last_width: int, masked: bool, asking: bool = False) -> Any:
    """The intrinsic for a tile of `mr` rows and `nv` vectors of floats of `size` bytes, the last of which has
    `last_width` lanes; strides count elements. `asking`: it asks for the rows at `needed`, `stride` bytes
    apart, a row in each part.
    """
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, needed, stride = args
        across = [Vectors(builder, size, width)] * (nv - 1) + [Vectors(builder, size, last_width)]
        real = across[0].real
        pointer = real.as_pointer()
        mask = across[-1].below(last)

        def masks(v):  # only the last vector's
            return mask if masked and v == nv - 1 else None

        def load(base, index, v):
            return across[v].load(builder.gep(base, [index]), masks(v))

        def store(value, base, index, v):
            across[v].store(value, builder.gep(base, [index]), masks(v))

        c, a, b = (builder.inttoptr(x, pointer) for x in (C, A, B))
        rows = range(mr)
        columns = [i64(v * width) for v in range(nv)]
        floor = [vectors.floor(relu) for vectors in across]
        acc = [[cgutils.alloca_once(builder, vectors.vector) for vectors in across] for _ in rows]

        with builder.if_else(builder.icmp_signed("!=", add, i64(0))) as (then, otherwise):
            with then:
                for r in rows:
                    row = builder.mul(c_i, i64(r))
                    for v, column in enumerate(columns):
                        builder.store(load(c, builder.add(row, column), v), acc[r][v])
            with otherwise:
                has_bias = builder.icmp_signed("!=", bias, i64(0))
                start = [cgutils.alloca_once_value(builder, vectors.constant(0)) for vectors in across]
                with builder.if_then(has_bias):
                    for v, column in enumerate(columns):
                        builder.store(load(builder.inttoptr(bias, pointer), column, v), start[v])
                for v in range(nv):
                    value = builder.load(start[v])
                    for r in rows:
                        builder.store(value, acc[r][v])

        # Read from a table, these are unrelated numbers to the optimiser. Seen to be multiples of one
        # stride, the rows' addresses would be computed one from the other, a chain of additions slower than
        # all the arithmetic.
        table = builder.inttoptr(table, i64.as_pointer())
        steps = [builder.load(builder.gep(table, [i64(r)])) for r in rows]
        # Where a step of k is a step to another page (X' dY), no hardware sees a stream: ask for what will be
        # needed some steps later. (A prefetch beyond A is no access, and cannot fault.)
        ahead = builder.add(steps[0], builder.mul(a_k, i64(_AHEAD)))
        b_now = cgutils.alloca_once_value(builder, b)
        with cgutils.for_range(builder, S) as outer:
            offset = builder.load(builder.gep(builder.inttoptr(offsets, i64.as_pointer()), [outer.index]))
            a_start = builder.gep(a, [offset])
            a_now = cgutils.alloca_once_value(builder, a_start)
            row = builder.add(needed, builder.mul(outer.index, stride))
            with cgutils.for_range(builder, K) as inner:
                b_row, a_row = builder.load(b_now), builder.load(a_now)
                right = [load(b_row, column, v) for v, column in enumerate(columns)]
                if asking:
                    line = builder.add(row, builder.mul(inner.index, i64(LINE)))
                    prefetch(builder, builder.inttoptr(line, pointer), level=2)
                else:
                    prefetch(builder, builder.gep(a_row, [ahead]))
                for r in rows:
                    left = builder.load(builder.gep(a_row, [steps[r]]))
                    for v, vectors in enumerate(across):
                        total = vectors.fmuladd(vectors.splat(left), right[v], builder.load(acc[r][v]))
                        builder.store(total, acc[r][v])
                builder.store(builder.gep(b_row, [b_k]), b_now)
                builder.store(builder.gep(a_row, [a_k]), a_now)

        for r in rows:
            row = builder.mul(c_i, i64(r))
            for v, column in enumerate(columns):
                value = across[v].at_least(floor[v], builder.load(acc[r][v]))
                store(value, c, builder.add(row, column), v)
        return context.get_dummy_value()

    @intrinsic
    def tile(typingctx, C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, needed, stride):
        return types.void(*[types.int64] * 16), emit

    return tile


def _make_panel(size: int, nv: int, height: int, last_width: int, masked: bool, small: bool) -> Any:
    """As many tiles of `height` as there are rows for, then `small` ones; returns how many rows are left."""
    main, t8, t4, t2, t1 = (
        _make_tile(size, min(mr, height), nv, last_width, masked) for mr in (height, 8, 4, 2, 1)
    )
    asking = _make_tile(size, height, nv, last_width, masked, asking=True)

    def panel(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, M, last, add, relu, needed, stride, end):
        row = c_i * size
        rest = M
        while rest >= height:
            if needed < end:
                asking(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, needed, stride)
                needed += S * stride
            else:
                main(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, 0, 0)
            rest -= height
            C += height * row
            table += height * 8
        if small:  # or Numba leaves out what follows
            if rest >= 8:
                t8(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, 0, 0)
                rest -= 8
                C += 8 * row
                table += 8 * 8
            if rest >= 4:
                t4(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, 0, 0)
                rest -= 4
                C += 4 * row
                table += 4 * 8
            if rest >= 2:
                t2(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, 0, 0)
                rest -= 2
                C += 2 * row
                table += 2 * 8
            if rest >= 1:
                t1(C, c_i, A, table, a_k, offsets, S, K, B, b_k, bias, last, add, relu, 0, 0)
                rest -= 1
        return rest

    return panel


WORDS = 18  # that a panel takes
_PANEL = types.int64(*[types.int64] * WORDS)


@functools.cache
def panels(itemsize: int) -> np.ndarray:
    """The compiled panels for floats of `itemsize` bytes: a row ``[lanes, widest nv, few, addresses of nv =
    1, 2, ..., the same where the last vector has `few` columns at most, streamed]``, the last being how many
    bytes of a panel of B to go through at a time.

    Where a masked vector costs more than a plain one, the latter are masked. Elsewhere all are, and of the
    latter the widest have a last vector half as wide, which takes some CPUs half the time of a whole one
    (with one vector or two, broadcasts take as long); they leave over what would be small tiles.
    """
    target = _target()
    shapes, width, cheap = _SHAPES[target["registers"]], lanes(itemsize), target["cheap_masks"]
    few = width // 2 if cheap else width - 1
    whole, ragged = [], []
    for nv, rows in enumerate(shapes, 1):
        variant = f"f{8 * itemsize} nv={nv} rows={rows} width={width}"
        panel = _make_panel(itemsize, nv, rows, width, cheap, small=True)
        whole.append(native(_PANEL, panel, variant=f"{variant} masked={cheap}"))
        if cheap and nv <= 2:
            ragged.append(whole[-1])
            continue
        panel = _make_panel(itemsize, nv, rows, few if cheap else width, True, small=not cheap)
        ragged.append(native(_PANEL, panel, variant=f"{variant} last={few}"))
    terms = _TERMS_IN_HALVES if target["halves"] else _TERMS
    streamed = terms * len(shapes) * target["width"]
    return np.array([width, len(shapes), few, *whole, *ragged, streamed], np.int64)


@inline
def multiply(
    panels, C, c_i, A, rows, a_k, offsets, S, K, B, b_k, bias, M, N, add, relu, size, needed=NOTHING
):
    """The formula at the head of this file for any number N of columns; C, A, B, bias are addresses,
    strides and tables count elements. `needed`: memory to ask for meanwhile, ``(address, bytes from row to
    row, address behind the last row)``. Each of the S parts asks for as many cache lines of a row as it has
    terms.

    The columns are cut into panels of nearly equal width, so that no narrow panel is left over where that
    can be helped.
    """
    width, widest, few = panels[0], panels[1], panels[2]
    vectors = (N + width - 1) // width
    count = (vectors + widest - 1) // widest
    done = 0
    for p in range(count):
        coming, stride, end = needed if p == 0 else NOTHING
        nv = (vectors - done + count - p - 1) // (count - p)
        first = done * width
        last = min(N - first - (nv - 1) * width, width)
        at = 2 + nv + (widest if last <= few else 0)
        bias_at = bias + first * size if bias != 0 else bias
        C_at, B_at = C + first * size, B + first * size
        table, parts = rows.ctypes.data, offsets.ctypes.data
        words = (C_at, c_i, A, table, a_k, parts, S, K, B_at, b_k, bias_at, M, last, add, relu, coming,
                 stride, end)  # fmt: skip
        rest = call_code_for(panels[at], words)
        if rest > 0:  # few, left over
            C_at, table = C_at + (M - rest) * c_i * size, table + (M - rest) * 8
            words = (C_at, c_i, A, table, a_k, parts, S, K, B_at, b_k, bias_at, rest, last, add, relu, 0,
                     0, 0)  # fmt: skip
            call_code_for(panels[2 + nv], words)
        done += nv
