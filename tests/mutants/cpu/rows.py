# ruff: noqa: E501 - the texts are those of the kernels
"""What goes along rows: softmax, losses, norms; and vectors themselves."""

from __future__ import annotations

from tests.mutants import Mutant, of

PARITY = "tests/test_parity_{}.py"

MUTANTS: list[Mutant] = [
    *of(
        "kernels/cpu/_softmax.py",
        "tests/test_numbers_extremes.py tests/test_parity_activation.py -k softmax",
        (
            "for j in range(whole, row.size):\n                peak",
            "for j in range(whole + 1, row.size):\n                peak",
        ),
        ("for j in range(0, whole, width):", "for j in range(width, whole, width):"),
        ("    @inline(fastmath=EXACT)", "    @inline"),
        ("@inline(fastmath=EXACT)\ndef log_share", "@inline\ndef log_share"),
        ("min((row + height) * columns, values.size)", "min((row + 1) * columns, values.size)"),
        ("copy(values[first:end], held", "copy(values[: end - first], held"),
        ("                ahead(scale, source, columns, peak)\n", ""),
        ("if end + reach <= values.size:", "if end + reach < values.size - reach:"),
        ("copy(held, results[first:end])", "copy(held, results[: end - first])"),
        ("result[j] = log_share(row[j], peak, shift)", "result[j] = row[j] - peak"),
        ("totals[i] = log_of_total(totals[i])", "totals[i] = totals[i]"),
        ("out[i, j] = y[i, j] * (grad[i, j] - dot)", "out[i, j] = y[i, j] * (grad[i, j] + dot)"),
        ("out[i, j] = grad[i, j] - exp(y[i, j]) * total", "out[i, j] = grad[i, j] - y[i, j] * total"),
        ("moved = np.moveaxis(x, axis, -1)", "moved = np.moveaxis(x, 0, -1)"),
        (
            "        x, out = x[t * rows : (t + 1) * rows]",
            "        x, out = x[t * rows : (t + 1) * rows - 1]",
        ),
    ),
    *of(
        "kernels/cpu/_vectors.py",
        "tests/test_sort.py tests/test_mostly_zeros.py",
        (
            'self._builder.fcmp_unordered("!=", value, self.constant(0))',
            'self._builder.fcmp_ordered("!=", value, self.constant(0))',
        ),
    ),
    *of(
        "kernels/cpu/_vectors.py",
        PARITY.format("pool"),
        (
            'above = self._builder.fcmp_ordered(">", value, held)',
            'above = self._builder.fcmp_ordered(">=", value, held)',
        ),
        (
            'self._builder.fcmp_unordered("uno", value, value))',
            'self._builder.fcmp_unordered("uno", held, held))',
        ),
    ),
    *of(
        "kernels/cpu/_vectors.py",
        "tests/test_turn.py",
        ('icmp_signed("<", lane, self.splat(count))', 'icmp_signed("<=", lane, self.splat(count))'),
        ("lower = [lane + width if lane & d else lane + d", "lower = [lane + width if lane & d else lane"),
    ),
    *of(
        "kernels/cpu/_rows.py",
        "tests/test_rows.py",
        ("builder.mul(self._columns, i64(row))", "builder.mul(self._columns, i64(row // 2))"),
        ("self._builder.select(self._mask, parts[-1], none)", "parts[-1]"),
        ("functools.reduce(join, parts[:-1], end)", "end"),
        ("self._vectors.lane(numbers, row)", "self._vectors.lane(numbers, 0)"),
        ("group.folded(group.load(x), _larger, -math.inf)", "group.folded(group.load(x), _larger, 0)"),
        ("builder.fmul(total, lowered)", "total"),
        ("builder.add(number, i64(i)), column, mask", "number, column, mask"),
        ("builder.sub(count, done)) as rest", "i64(0)) as rest"),
        ("builder.store(vectors.constant(0), sum_)", "pass"),
        ("builder.gep(memory, [i64(row)])", "builder.gep(memory, [i64(0)])"),
        ("self._builder.sub(i64(start), label)", "self._builder.sub(i64(0), label)"),
        ("self._place(x, row, label)", "self._place(x, row, i64(0))"),
        ("group.numbers.store(below, peaks)", "pass"),
    ),
    *of(
        "kernels/cpu/_powers.py",
        "tests/test_rows.py",
        ("RAISED = {4: -118, 8: -746}, {4: 48, 8: 64}", "RAISED = {4: -118, 8: -746}, {4: 8, 8: 64}"),
        ("rs = [vectors.fmuladd(n, minus_low, r)", "rs = [vectors.fmuladd(n, vectors.constant(0), r)"),
        ("int(root) - (j << shift)", "int(root)"),
        ("(4, 16): (0.1666672, 0.5000165, 1)", "(4, 16): (0.5000165, 1)"),
        ("(*reversed(_math._c8[2:9]), 1)", "(*reversed(_math._c8[2:7]), 1)"),
        ("rounds + entries * RAISED[size]", "rounds + RAISED[size]"),
    ),
    *of("kernels/cpu/_rows.py", PARITY.format("linear"), ("    sums[:] = 0\n", "")),
    *of(
        "kernels/cpu/_turn.py",
        "tests/test_turn.py",
        ("min(width, rows - i)", "width"),
        ("source + (i * source_row + j) * size", "source + (i * source_row + i) * size"),
        ("reversed(list(enumerate(vectors.transposed(square))))", "enumerate(vectors.transposed(square))"),
    ),
    *of(
        "kernels/cpu/loss.py",
        PARITY.format("loss") + " tests/test_numbers_nonfinite.py -k loss",
        ("            out[i, labels[i]] -= scale\n", ""),
        ("log_share(x[i, labels[i]], numbers[PEAKS, i], log_total)", "x[i, labels[i]] - log_total"),
        (
            "log_of_total(numbers[TOTALS, i])) - np.float64(numbers",
            "log_of_total(numbers[TOTALS, i])) + np.float64(numbers",
        ),
        ("taken[reach] = -scale", "taken[reach] = scale"),
        ("taken.ctypes.data + reach * itemsize", "taken.ctypes.data + (reach + 1) * itemsize"),
        ("return loss if signs >= 0 else np.nan", "return loss"),
        ("if signs < 0:", "if signs > 0:"),
        ("places[i] = labels[i] if sign >= 0 else 0", "places[i] = labels[i]"),
        ("return label | (columns - 1 - label)", "return label | (columns - label)"),
        (
            "out[i, j] = scale * (out[i, j] * mass - goal[i, j])",
            "out[i, j] = scale * (out[i, j] - goal[i, j])",
        ),
        ("(positive - z * x) + log1p(power)", "positive - z * x"),
        ("(one if x >= 0 else power) / (one", "(one if x < 0 else power) / (one"),
        ("p[i] - goal[i]) * (p[i] - goal[i])", "p[i] - goal[i]) * (p[i] + goal[i])"),
        ("pred[begin : begin + _BLOCK],", "pred[begin : begin + _BLOCK - 1],"),
        ("min((t + 1) * _CHUNK, pred.size)", "min((t + 1) * _CHUNK, pred.size - 1)"),
        ("begin, end = t * rows, (t + 1) * rows\n", "begin, end = t * rows, (t + 1) * rows - 1\n"),
    ),
    *of(
        "kernels/cpu/norm.py",
        PARITY.format("norm"),
        ("rows / max(rows - 1, 1)", "1.0"),
        ("- (x[i, c] - mean[c]) * slope[c]", "- x[i, c] * slope[c]"),
        ("(x[i, c] - mean[c]) * scale[c] + bias[c]", "(x[i, c] - mean[c]) * scale[c]"),
        ("for t in range(sums.shape[0]):", "for t in range(sums.shape[0] - 1):"),
        (
            "for i in range(t * rows // parts, (t + 1) * rows // parts):\n        for c in range(x.shape[1]):\n            out[i, c] = ((grad",
            "for i in range(t * rows // parts, (t + 1) * (rows - 1) // parts):\n        for c in range(x.shape[1]):\n            out[i, c] = ((grad",
        ),
        ("sums[t, 1, c] += value * np.float64(b[i, c])", "sums[t, 1, c] += value"),
        ("memory.reshape(-1, memory.shape[3])", "memory.reshape(-1, memory.shape[3])[:, ::-1]"),
    ),
    *of(
        "kernels/cpu/_slots.py",
        PARITY.format("loss") + " tests/test_training_step.py",
        ("factor * parts[:-1].sum()", "factor * parts[1:-1].sum()"),
        ("factor * parts[:-1].sum()", "parts[:-1].sum()"),
        ("not np.isfinite(parts[-1])", "False"),
        ("tape.numbers.append(parts[-1:])", "tape.numbers.append(parts[:1])"),
    ),
]
