"""Convolutions."""

from __future__ import annotations

from tests.mutants import PARITY, Mutant, of

MUTANTS: list[Mutant] = [
    *of(
        "kernels/cpu/conv.py",
        PARITY.format("conv"),
        (
            "first, end = b * OH // blocks, (b + 1) * OH // blocks\n        start = lay_out",
            "first, end = b * OH // blocks, max((b + 1) * OH // blocks - 1, 0)\n        start = lay_out",
        ),
        ("offsets[y] = y * sh * Wp * C", "offsets[y] = y * Wp * C"),
        (
            "table[i] = tap // KW * dh * Wp * C + tap % KW * dw * C + i % Cg",
            "table[i] = tap // KW * dh * Wp * C + tap % KW * C + i % Cg",
        ),
        ("O, OH * OW, O, sums.ctypes.data)", "O, OH * OW - 1, O, sums.ctypes.data)"),
        ("weight[KH - 1 - f, KW - 1 - q,", "weight[f, KW - 1 - q,"),
        ("1 if n > begin else 0, 0, size, needed", "0, 0, size, needed"),
        (
            "corner = (dilation[0] * (KH - 1) - padding[0],",
            "corner = (dilation[0] * (KH - 1) - padding[0] + 1,",
        ),
        ("A, B = start + g * Cg * size, grad", "A, B = start, grad"),
    ),
    *of(
        "kernels/cpu/_conv_rows.py",
        PARITY.format("conv"),
        ("total[i] += parts[t, i]", "total[i] = parts[t, i]"),
        ("min(max(left + W, begin), columns)", "min(max(left + W - 1, begin), columns)"),
        ("pixels + (begin - left) * pixel", "pixels + begin * pixel"),
        ("clear(row + end * pixel, (columns - end) * pixel)", "clear(row + end * pixel, 0)"),
        ("offsets[f * KW + q] = f * row + q * column", "offsets[f * KW + q] = f * row + q"),
        (
            "bias_at = bias.ctypes.data + g * Og * size if bias.size else 0",
            "bias_at = bias.ctypes.data if bias.size else 0",
        ),
        ("direct = corner == (0, 0) and step", "direct = step"),
        ("(n * H + first * sh) * W * C * x.itemsize", "(n * H + first) * W * C * x.itemsize"),
        ("y % row_step != 0 or y // row_step >= H", "y // row_step >= H"),
        ("if 0 <= column < columns:", "if 0 < column < columns:"),
    ),
    *of(
        "kernels/cpu/_conv_columns.py",
        PARITY.format("conv"),
        ("min(run, W - column)", "min(run, W - column - 1)"),
        ("row = y * sh - ph + f * dh", "row = y - ph + f * dh"),
        ("            if row < 0 or row >= H:", "            if row < 0 or row >= H - 1:"),
        ("out[o, f, q, c] = weight[f, q, c, o]", "out[o, q % KH, f % KW, c] = weight[f, q, c, o]"),
    ),
    *of(
        "kernels/cpu/_columns.py",
        PARITY.format("conv") + " -k im2col",
        ("(size - 1 + padding - tap) // stride + 1)", "(size - 1 + padding - tap) // stride)"),
        ("source[z * sw - pw + q * dw]", "source[z - pw + q * dw]"),
        ("target[z * sw - pw + q * dw] += row[z]", "target[z * sw - pw + q * dw] = row[z]"),
        ("        out[:y0] = 0\n", "        out[:y0] = 1\n"),
    ),
    *of(
        "kernels/cpu/_winograd.py",
        "tests/test_winograd.py",
        ("rows == side and columns == side", "rows == side"),
        (
            "min(side, height - top), min(side, wide - left)",
            "min(side, height - top - 1), min(side, wide - left)",
        ),
        ("corner[0], 1, corner[1], 1)", "corner[0], 1, corner[0], 1)"),
        ("again[n] |= doubt[n - begin, lane] != 0", "again[n] |= False"),
        (
            "shift = products.ctypes.data + (i * O + o) * size, bias.ctypes.data + o * size",
            "shift = products.ctypes.data + (i * O + o) * size, bias.ctypes.data",
        ),
        ("weight.ctypes.data + (c * O + o) * size\n", "weight.ctypes.data + o * size\n"),
        ("            if n != placed:", "            if placed < 0:"),
        ("count = (turn + 1) * total // turns - s", "count = (turn + 1) * total // turns - s - 1"),
    ),
    *of(
        "kernels/cpu/_desks.py",
        "tests/test_desks.py",
        ("if take(free.ctypes.data, desk * APART):", "if desk >= 0:"),
        ("min(tasks, get_num_threads())", "get_num_threads()"),
        ("get_num_threads()), APART)", "get_num_threads()), 1)"),
    ),
    *of(
        "kernels/cpu/_transforms.py",
        "tests/test_winograd.py",
        ("Fraction(-3, 2))", "Fraction(-5, 2))"),  # right, but rounds more
        ("[a**j / d for j in range(taps)]", "[a**j * d for j in range(taps)]"),
        (
            "builder.fadd(same, opposite), builder.fsub(same, opposite)",
            "builder.fsub(same, opposite), builder.fadd(same, opposite)",
        ),
        (
            "y = [[builder.fadd(value, shift) for value in line] for line in y]",
            "y = [list(line) for line in y]",
        ),
        ("for a, b in ((0, 1), (1, 0), (1, 1)):", "for a, b in ((0, 1), (1, 0)):"),
    ),
    *of(
        "kernels/cpu/_conv_rows.py",
        PARITY.format("conv_pool"),
        ("KH, dtype=np.int64) * dilation[0] * row * C", "KH, dtype=np.int64) * row * C"),
    ),
    *of(
        "kernels/cpu/_few_channels.py",
        PARITY.format("conv"),
        ("builder.mul(first, i64(column))", "first"),
        ("builder.mul(f.index, i64(length))", "f.index"),
        ("range((pixels - 1) * column + length)", "range((pixels - 1) * column + length - 1)"),
        ("(y - first) * row * size, out", "(y - first) * size, out"),
        ("bias.ctypes.data + o * size", "bias.ctypes.data"),
        ("groups == 1 and dilation[1] == 1 and", "groups == 1 and"),
        ("min(O - o, width),", "width,"),
    ),
    *of(
        "kernels/cpu/_few_outputs.py",
        "tests/test_few_outputs.py",
        ("sum_ = sums[p * outputs + o]", "sum_ = sums[p * outputs]"),
        ("vectors.below(rest))", "None)"),
        ("vectors.below(builder.sub(count, first))", "None"),
        ("KW - 1 - (q + skipped)", "KW - 1 - q"),
        ("above = max(top - y, 0)", "above = 0"),
        ("rows = min(KH, GH + top - y) - above", "rows = KH - above"),
        ("beyond = z - end + 1", "beyond = 1"),
        ("weights_of(left - z, turned, above, length)", "weights_of(left, turned, above, length)"),
        ("above * ((length + width - 1) // width)", "above * (length // width)"),
        (
            "min((part + 1) * groups // parts * width, count)",
            "min(part * groups // parts * width + width, count)",
        ),
        ("sums[t, 1 - y % 2].ctypes", "sums[t, y % 2].ctypes"),
    ),
    *of(
        "kernels/cpu/_winograd_weight.py",
        "tests/test_winograd.py -k weight",
        ("add = 1 if first > 0 else 0", "add = 0"),
        ("doubt[0] = not np.isfinite(total)", "doubt[0] = False"),
        ("grad_bias[o] += sums[n, o]", "grad_bias[o] = sums[n, o]"),
        (
            "place(x[first + t], image, 0, corner[0], 1, corner[1], 1)",
            "place(x[t], image, 0, corner[0], 1, corner[1], 1)",
        ),
        (
            "source = pixels.ctypes.data + M * (y * y_row + z * O) * size",
            "source = pixels.ctypes.data + M * (y * y_row + y * O) * size",
        ),
    ),
]
