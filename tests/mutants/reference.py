"""The mutants of kernels/reference, of which the tests that share nothing with it must notice each."""

from __future__ import annotations

from tests.mutants import Mutant, of

ORACLES = "tests/test_reference_oracles.py tests/test_reference_gradients.py"
ROOM = "kernels/reference/{}.py"

MUTANTS: list[Mutant] = [
    *of(
        ROOM.format("_elementwise"),
        ORACLES,
        ("small = size <= 0.46875", "small = size <= 4"),
        (
            "np.subtract(2.0, value, out=value, where=(x < 0) & ~small)",
            "np.subtract(2.0, value, out=value, where=x < 0)",
        ),
        ("negative = ~(x > 0)", "negative = x < -1"),
        ("    out += 1\n    return np.reciprocal", "    return np.reciprocal"),
        ("inner *= 0.044715", "inner *= 0.44715"),
    ),
    *of(
        ROOM.format("_shared"),
        ORACLES + " tests/test_reference_pool.py",
        ("dilation * (kernel - 1) - 1) // stride + 1", "dilation * (kernel - 1)) // stride + 1"),
        ("first = max(0, -(shift // stride))", "first = max(0, -(shift // stride) + 1)"),
        ("min(outputs, (size - 1 - shift) // stride + 1)", "min(outputs, (size - 1 - shift) // stride)"),
        ("return windows - 1 if", "return windows if"),
    ),
    *of(
        ROOM.format("activation"),
        ORACLES,
        ("where=~(out <= 0)", "where=~(out < 0)"),
        ("np.copyto(result, grad, where=x > 0)", "np.copyto(result, grad, where=x > 1)"),
        ("result = np.subtract(1, out, out=_like(out))", "result = np.add(1, out, out=_like(out))"),
        ("        result += into.normal_cdf(x)\n", ""),
        ("        result *= x\n        result += t\n", "        result += t\n"),
        ("result /= result.sum(axis, keepdims=True)", "result /= result.sum()"),
        (
            "    np.subtract(grad, total, out=result)\n    result *= out",
            "    np.add(grad, total, out=result)\n    result *= out",
        ),
        (
            "result -= np.log(np.exp(result).sum(axis, keepdims=True))",
            "result -= np.log(np.exp(result).sum(0, keepdims=True))",
        ),
        ("result *= grad.sum(axis, keepdims=True)", "result *= grad"),
    ),
    *of(
        ROOM.format("linear"),
        ORACLES,
        ("        out += bias\n", "        out += bias[0]\n"),
        ("grad_bias[...] = sum_rows(grad)", "grad_bias[...] = sum_rows(grad[1:])"),
        ("grad @ weight.T if", "grad @ -weight.T if"),
        ("np.matmul(x.T, grad, out=grad_weight)", "np.matmul(x[:-1].T, grad[:-1], out=grad_weight)"),
    ),
    *of(
        ROOM.format("conv"),
        ORACLES,
        ("            pixel * stride[1],\n", "            pixel * stride[0],\n"),
        ("            row * dilation[0],\n", "            row,\n"),
        ("        out += bias\n", "        pass\n"),
        ("grad_bias = sum_rows(grad_rows)", "grad_bias = sum_rows(grad_rows[1:])"),
        ("pixels[:, inputs_h, inputs_w] += taps", "pixels[:, inputs_h, inputs_w] = taps"),
        ("inside[i] = slice(pad, pad + shape[i])", "inside[i] = slice(0, shape[i])"),
        (
            "pixel * dilation[1], row * stride[0], pixel * stride[1])",
            "pixel * dilation[0], row * stride[0], pixel * stride[1])",
        ),
        (".transpose(1, 2, 3, 0, 4)\n", ".transpose(1, 2, 3, 0, 4)[:, :, ::-1]\n"),
        ("(groups, o // groups, per_group, kh, kw)", "(groups, o // groups, per_group, kh, kw)[::-1]"),
    ),
    *of(
        ROOM.format("pool"),
        ORACLES + " tests/test_reference_pool.py",
        ("            wins |= candidate != candidate\n", ""),
        ("wins = candidate > so_far", "wins = candidate >= so_far"),
        ("places *= channels\n", "places *= 1\n"),
        ("number(u * kw + v)", "number(u * kh + v)"),
        ("np.minimum(start + kernel, size + padding) - start", "np.full_like(start, kernel)"),
        ("across[:, :, outputs] += pixels", "across[:, :, outputs] = pixels"),
        ("grad_x[:, :, inputs] += across", "grad_x[:, :, inputs] = across"),
    ),
    *of(
        ROOM.format("conv_pool"),
        "tests/test_functional_promises.py",
        ("return activate(out, activation), indices", "return out, indices"),
        ("bias, *convolution, None), *pooling)", "None, *convolution, None), *pooling)"),
        (
            "return conv2d_backward(slope, x, weight, *convolution, input_grad, out)",
            "return conv2d_backward(-slope, x, weight, *convolution, input_grad, out)",
        ),
    ),
    *of(
        ROOM.format("loss"),
        ORACLES,
        ("grad[rows, targets] -= 1", "grad[rows, targets] -= 0.5"),
        ("grad *= targets.sum(1, keepdims=True) / sums", "grad *= 1 / sums"),
        ("terms += np.maximum(logits, 0) -", "terms += logits -"),
        ("    grad /= terms + 1\n", ""),
        ("grad *= 2 * scale", "grad *= scale"),
        ("np.log(sums).sum(dtype=np.float64) - shifted", "np.log(sums).sum(dtype=np.float64) - logits"),
    ),
    *of(
        ROOM.format("norm"),
        ORACLES + " tests/test_numbers_empty.py",
        ("count / max(count - 1, 1)", "1"),
        ("    centred += bias\n", ""),
        ("running *= 1 - momentum", "running *= momentum"),
        ("normal -= grad_bias / len(rows)", "normal += grad_bias / len(rows)"),
        ("grad_weight[...] = sum_rows(grad_rows * normal)", "grad_weight[...] = sum_rows(normal)"),
        ("if training and count:", "if training:"),
    ),
    *of(
        ROOM.format("random"),
        ORACLES,
        ("rounds: int = 10", "rounds: int = 9"),
        ("words[:, i] = word", "words[:, 3 - i] = word"),
        ("one / (one - x.dtype.type(p))", "one"),
        (">= np.uint32(int(p * 2**32))", "> np.uint32(int(p * 2**31))"),
    ),
    *of(
        ROOM.format("update"),
        "tests/test_reference_update.py tests/test_optim.py tests/test_losses.py tests/test_parity_update.py",
        ("                step += buffer * momentum\n", "                step += buffer\n"),
        ("if dampening == 0 else step * (1 - dampening)", "if dampening == 0 else step * dampening"),
        ("            if first:\n", "            if False:\n"),
        ("param *= 1 - lr * weight_decay", "param *= 1 + lr * weight_decay"),
        ("(1 - beta2**step) ** 0.5", "1 - beta2**step"),
        ("scratch *= lr / first_correction", "scratch *= lr"),
        ("scratch *= 1 - alpha", "scratch *= alpha"),
        (
            "            buffer *= momentum\n            buffer += scratch\n",
            "            buffer += scratch\n",
        ),
        ("np.multiply(param, 2 * factor, out=scratch)", "np.multiply(param, factor, out=scratch)"),
    ),
]
