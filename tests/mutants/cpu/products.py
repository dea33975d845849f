"""The three products of a linear layer, and the register tile."""

from __future__ import annotations

from tests.mutants import Mutant, of

PARITY = "tests/test_parity_{}.py"

MUTANTS: list[Mutant] = [
    *of(
        "kernels/cpu/linear.py",
        PARITY.format("linear"),
        ("rows = min(block, M - first)\n", "rows = min(block, M - first - 1)\n"),
        ("bias_here = bias_at + j * size if bias_at and k == 0 else 0", "bias_here = 0"),
        (
            "(k * M + first if transposed else first * K + k) * size\n",
            "(k * M + first if transposed else first * N + k) * size\n",
        ),
        ("    column_sums(summed, sums_of_b)\n", "    column_sums(summed[1:], sums_of_b)\n"),
        ("packed.ctypes.data + k * edges[count] * size", "packed.ctypes.data + k * count * size"),
        ("panels_at + j * depth * size", "panels_at + j * size"),
        (
            "copy(a[k + i, first : first + rows], near[i, :rows])",
            "copy(a[i, first : first + rows], near[i, :rows])",
        ),
        ("offsets = lines * a_k * np.arange(turns)", "offsets = lines * np.arange(turns)"),
        ("S, terms = (turns, lines) if", "S, terms = (turns - 1, lines) if"),
        ("relu = code == RELU and k + depth >= K and not len(sums)", "relu = code == RELU and not len(sums)"),
        (
            "parallel_for(pool, (len(matrix) + _STRIPE - 1) // _STRIPE, _turn_rows",
            "parallel_for(pool, len(matrix) // _STRIPE, _turn_rows",
        ),
    ),
    *of(
        "kernels/cpu/_parts.py",
        PARITY.format("linear"),
        ("        for j in range(bias.size):\n            row[j] += bias[j]\n", ""),
        ("for part in range(1, parts):", "for part in range(1, parts - 1):"),
        ("first, end = t * _ADDED_ROWS,", "first, end = t * _ADDED_ROWS + 1,"),
        ("    apply(c[first:end].reshape((end - first) * N), code)\n", ""),
    ),
    *of(
        "kernels/cpu/_packing.py",
        PARITY.format("linear"),
        ("at = j * depth + k * (edges[panel + 1] - j)", "at = j * depth + k * columns"),
        ("edges[p] = p * vectors // count * lanes", "edges[p] = p * (vectors // count) * lanes"),
        ("copy(b[first + k, j : j + columns]", "copy(b[k, j : j + columns]"),
        ("min(most, (part + 1) * terms // parts - first)", "most"),
        ("begin, end = piece * depth // _PIECES,", "begin, end = (piece * depth + 1) // _PIECES,"),
        ("first = part * terms // parts + block * most", "first = block * most"),
        ("column_sums(b[first + begin : first + end]", "column_sums(b[first : first + end]"),
        (
            "    blocks = ((len(b) + parts - 1) // parts + most - 1) // most",
            "    blocks = len(b) // parts // most",
        ),
    ),
    *of(
        "kernels/cpu/_linear_narrow.py",
        PARITY.format("linear"),
        ("add(whole, vectors.below(builder.sub(terms, whole)))", "pass"),
        ("turned[:, K:] = 0", "turned[:, K - 1 :] = 0"),
        ("                out[i, j] += bias[j]\n", "                out[i, j] += 0\n"),
        ("Y + (r * N + j) * size, N, 0)", "Y + j * size, N, 0)"),
        ("rows, Y = min(block, bottom - i),", "rows, Y = min(block, bottom - i - 1),"),
        ("for part in range(1, parts):", "for part in range(1, parts - 1):"),
        ("X, W = x.ctypes.data + (i * K + k) * size,", "X, W = x.ctypes.data + (i * N + k) * size,"),
        ("sums[part].ctypes.data + k * size", "sums[part].ctypes.data"),
    ),
    *of(
        "kernels/cpu/_mostly_zeros.py",
        "tests/test_mostly_zeros.py",
        ("if call_code_for(codes[0, 0], words) > _SHARE * terms:", "if False:"),
        ("a[s * (rows - FOUR) // (_SAMPLES - 1)]", "a[s]"),
        ("total += own[i] * zero", "total += zero"),
        ("for piece in finite:\n        if not piece:", "for piece in finite[1:]:\n        if not piece:"),
        (
            "held[v])\n        with builder.if_then(builder.not_(begins)):",
            "held[0])\n        with builder.if_then(builder.not_(begins)):",
        ),
        ("with builder.if_then(builder.not_(begins)):", "if False:"),
        ("bias + j if bias else 0,", "bias,"),
        ("if bias.size and not len(sums) and k == 0 else 0", "if bias.size and k == 0 else 0"),
        ("out = sums[part] if len(sums)", "out = sums[0] if len(sums)"),
        ("tasks = (tasks + parts - 1) // parts\n", "tasks = tasks // parts\n"),
        ("        add_up_parts(pool, bias, c, sums, code)\n", "        pass\n"),
        ("1 if k > begin else 0", "1 if k > 0 else 0"),
        ("(bits.ctypes.data, 15 << r, depth, list_at)", "(bits.ctypes.data, 7 << r, depth, list_at)"),
        ("min(FOUR, rows - r)", "FOUR"),
        ("        apply(c[first:end].reshape((end - first) * N), code)\n", "        pass\n"),
    ),
    *of(
        "kernels/cpu/_nonzeros.py",
        "tests/test_mostly_zeros.py",
        ("append(whole, vectors.below(builder.sub(terms, whole)))", "pass"),
        ("builder.store(builder.add(length, vectors.count(mask)), count)", "pass"),
        (
            "vectors.splat(builder.trunc(k, i32)))\n        vectors.store",
            "vectors.splat(i32(0)))\n        vectors.store",
        ),
        ("return functools.reduce(builder.or_, some)", "return some[0]"),
        ("go([vectors.below(builder.sub(columns, i64(first)))", "go([vectors.below(i64(0))"),
        ("builder.shl(vectors.bits(vectors.nonzero(value)), i64(first))", "i64(0)"),
        ("i64(r), last)\n        addresses", "i64(0), last)\n        addresses"),
    ),
    *of(
        "kernels/cpu/_linear_narrow.py",
        "tests/test_memory_edges.py",
        ("panel([vectors.below(builder.sub(left, i64(v * width)))", "panel([vectors.below(left)"),
    ),
    *of(
        "kernels/cpu/tile.py",
        "tests/test_tile.py -k panel",
        (
            "builder.store(load(builder.inttoptr(bias, pointer), column, v), start[v])",
            "builder.store(across[v].constant(0), start[v])",
        ),
        ("table += 4 * 8", "table += 2 * 8"),
        ("C += 8 * row", "C += 4 * row"),
        ("if rest >= 2:", "if rest > 2:"),
        ("a_start = builder.gep(a, [offset])", "a_start = a"),
    ),
    *of(
        "kernels/cpu/tile.py",
        "tests/test_tile.py -k exact",
        (
            "last = min(N - first - (nv - 1) * width, width)",
            "last = min(N - first - (nv - 1) * width + 1, width)",
        ),
        ("bias_at = bias + first * size if bias != 0 else bias", "bias_at = bias"),
        ("first = done * width\n", "first = done * width - (done > 0)\n"),
        ("table + (M - rest) * 8\n", "table\n"),
    ),
]
