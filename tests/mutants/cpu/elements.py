# ruff: noqa: E501 - the texts are those of the kernels
"""What goes element by element: activations, random numbers, updates, memory."""

from __future__ import annotations

from tests.mutants import PARITY, Mutant, of

MUTANTS: list[Mutant] = [
    *of(
        "kernels/cpu/activation.py",
        PARITY.format("activation"),
        (
            "begin, end = t * _CHUNK, (t + 1) * _CHUNK\n        each(function, out[begin:end], (x[",
            "begin, end = t * _CHUNK, (t + 1) * _CHUNK - 1\n        each(function, out[begin:end], (x[",
        ),
        (
            "begin, end = t * _CHUNK, (t + 1) * _CHUNK\n        each(function, out[begin:end], (grad[",
            "begin, end = t * _CHUNK + 1, (t + 1) * _CHUNK\n        each(function, out[begin:end], (grad[",
        ),
        (" + x * normal_density(x, height))", ")"),
        ("return g if x > 0 else g * s", "return g if x >= 0 else g * s"),
        ("if y <= 0 else g", "if y < 0 else g"),
        ("return g * y * (like(g, 1) - y)", "return g * y * (like(g, 1) + y)"),
        ("        grad = arranged(grad, saved)\n", "        pass\n"),
        ("like(x, _CUBIC) * x * x * x)\n    return", "like(x, _CUBIC) * x * x)\n    return"),
    ),
    *of(
        "kernels/cpu/activation.py",
        "tests/test_parity_linear.py tests/test_parity_conv_pool.py",
        (
            "each(function, values, (values, parameter))",
            "each(function, values[1:], (values, parameter))",
        ),
        ('_PARAMETER = {"leaky_relu": 0.01}', '_PARAMETER = {"leaky_relu": 0.02}'),
        ('"tanh": tanh_backward}', '"tanh": sigmoid_backward}'),
        ("grads, outputs = floats_at(grad, count, zero)", "grads, outputs = floats_at(saved, count, zero)"),
        (
            "    if code == RELU:\n        for i in range(values.size):",
            "    if code == RELU:\n        for i in range(1, values.size):",
        ),
    ),
    *of(
        "kernels/cpu/random.py",
        PARITY.format("random"),
        ("words[i] >= threshold", "words[i] > threshold"),
        ("np.uint64((first + i) // 4)", "np.uint64(i // 4)"),
        ("words.ctypes.data + _WORD * i", "words.ctypes.data"),
        ("min((t + 1) * _CHUNK, x.size)", "min((t + 1) * _CHUNK - _DRAWN, x.size)"),
        ("before = first % 4", "before = 0"),
        ("t // parts, t % parts * each", "t // parts, 0"),
        ("_WORD * (before + begin)", "_WORD * before"),
        ("one / (one - x.dtype.type(p))", "one"),
    ),
    *of(
        "kernels/cpu/_philox.py",
        PARITY.format("random"),
        ("_ROUNDS, _WORDS = 10, 4", "_ROUNDS, _WORDS = 9, 4"),
        ("((seed, _W0), (builder", "((seed, _W1), (builder"),
        ("list(range(k * width, (k + 1) * width))", "list(range(width))"),
        ("(number, vectors.upper(number), *fixed)", "(number, number, *fixed)"),
        ("for word in (stream, builder.lshr(stream, i64(32)))", "for word in (stream, stream)"),
        ("vectors.paired(c2, c3)", "vectors.paired(c3, c2)"),
        ("i64(2 * k + j)", "i64(2 * k)"),
    ),
    *of(
        "kernels/cpu/update.py",
        PARITY.format("update"),
        ("min(begin + chunk, a.size)", "min(begin + chunk, a.size - 1)"),
        ("table[chunks[t, 0], column] + chunks[t, 1] * itemsize(real)", "table[chunks[t, 0], column]"),
        ("v[i] = beta2 * v[i] + rest2 * slope * slope", "v[i] = beta2 * v[i] + rest2 * slope"),
        ("w[i] -= lr * (step + momentum * v[i])", "w[i] -= lr * (step + v[i])"),
        (
            "lr * slope / (np.sqrt(v[i]) + eps)\n        return",
            "lr * slope / (np.sqrt(v[i]) - eps * 1e6)\n        return",
        ),
        ("root = 1 / math.sqrt(1 - beta2**step)", "root = 1.0"),
        ("b[i] = momentum * b[i] + slope", "b[i] = b[i] + slope"),
        ("total += w[i] * w[i]", "total += w[i]"),
    ),
    *of(
        "kernels/cpu/_math.py",
        "tests/test_math.py",
        (
            "_max4, _min8, _max8 = f4(-104), f4(89), f8(-746), f8(710)",
            "_max4, _min8, _max8 = f4(-87), f4(89), f8(-746), f8(710)",
        ),
        ("r * (a5 + r * a6)", "r * a5"),
        ("t9 + z * t11", "t9"),
        ("    part -= part * (power - (whole - _one4))", "    pass"),
        ("& _exponent)\n", "& (_exponent - _exponent))\n"),
        ("l9 + x * l10", "l9"),
        ("m9 + f * m10", "m9"),
        ("builder.sub(bits, builder.shl(k, fraction))", "bits"),
        ("+ (x - (y - _one8)) / y", ""),
        ("_signed4(large if y > f4(0.5625) else small, x)", "large if y > f4(0.5625) else small"),
        ("_raised4, _lower4 = f4(_round4 + 64), f4(2.0**-64)", "_raised4, _lower4 = _round4, f4(1)"),
    ),
    *of(
        "kernels/cpu/_normal.py",
        "tests/test_normal.py",
        ("e5 + u * e6", "e5"),
        ("_one4 - beyond if _bits_of_float(x) >= _positive else beyond", "_one4 - beyond"),
        ("_end = f4(14.5)", "_end = f4(math.inf)"),
        ("exp_nonpositive(_minus_half8 * x * x)", "exp_nonpositive(_minus_half8 * x)"),
        ("_parts4(_minus_half4 * z * z, _raised4)", "_parts4(_minus_half4 * z * z)"),
        ("f4(2.0**-64 / math.sqrt(2 * math.pi))", "f4(2.0**-64 / math.sqrt(math.pi))"),
    ),
    *of(
        "kernels/cpu/_each.py",
        PARITY.format("activation"),
        ("i.add_incoming(i64(0), before)", "i.add_incoming(i64(1), before)"),
        ("following = builder.add(i, i64(1)", "following = builder.add(i, i64(2)"),
        (
            'builder.icmp_signed("<", following, size)',
            'builder.icmp_signed("<", following, builder.sub(size, i64(1)))',
        ),
        ("builder.gep(array(kind, value).data, [i])", "array(kind, value).data"),
    ),
    *of(
        "kernels/cpu/_memory.py",
        "tests/test_functional_promises.py tests/test_parity_activation.py tests/test_parity_conv.py tests/test_threads.py",
        ("out[t, h, w, c] = x[t, c, h, w]", "out[t, h, w, c] = x[t, c, h, 0]"),
        ("return tuple(sorted(range(len(order)), key=order.__getitem__))", "return order"),
        ("if sys.getrefcount(block) == _UNUSED:", "if sys.getrefcount(block) <= _UNUSED + 1:"),
        (
            "for i in range(out.size):\n        out[i] = x[i]",
            "for i in range(out.size - 1):\n        out[i] = x[i]",
        ),
    ),
    *of(
        "kernels/cpu/step.py",
        "tests/test_step.py",
        ("min((t + 1) * each, order.size)", "min((t + 1) * each, order.size - 1)"),
        ("max(0, min(order[i], rows.shape[0] - 1))", "max(0, min(order[i], rows.shape[0] - 2))"),
        ("max(0, min(order[i], rows.shape[0] - 1))", "min(order[i], rows.shape[0] - 1)"),
        ("(order.size + each - 1) // each", "order.size // each"),
    ),
]
