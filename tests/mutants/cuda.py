# ruff: noqa: E501 - the texts are those of the kernels
"""Some mutants of kernels/cuda, which runs on the CPU: see ``tests/emulation.py``."""

from __future__ import annotations

from tests.mutants import Mutant, of

EMULATED = "tests/test_cuda_emulated.py -k "

MUTANTS: list[Mutant] = [
    *of(
        "kernels/cuda/activation.cu",
        EMULATED + "matches_the_reference",
        (
            "    if (blockIdx.x == 0 && i < count) {                                                      \\\n            REAL x",
            "    if (blockIdx.x == 0 && i + 1 < count) {                                                  \\\n            REAL x",
        ),
        ("slope[k] = (g[k] - sum) * y[k];", "slope[k] = g[k] * y[k];"),
    ),
    *of(
        "kernels/cuda/common.cuh",
        EMULATED + "softmax",
        (
            "for (int lanes = group / 2; lanes; lanes >>= 1) value +=",
            "for (int lanes = group / 4; lanes; lanes >>= 1) value +=",
        ),
    ),
    *of(
        "kernels/cuda/loss.cu",
        EMULATED + "entropy",
        ("(k == label ? (REAL)1 : (REAL)0)", "(REAL)0"),
        ("(positive - x * z)", "(positive + x * z)"),
    ),
    *of(
        "kernels/cuda/pool.cu",
        EMULATED + "pool2d",
        ("int row = y * (int)sh - (int)ph + f * dh;", "int row = y * (int)sh + f * dh;"),
        ("where < last) image[where * C] += grads[at];", "where < last) image[where * C] = grads[at];"),
        (
            "last = start + kernel < size ? start + kernel : size;",
            "last = start + kernel < size ? start + kernel : size - 1;",
        ),
    ),
    *of(
        "kernels/cuda/norm.cu",
        EMULATED + "norm",
        ("for (int half = step / 2; half; half /= 2)", "for (int half = step / 4; half; half /= 2)"),
        ("* scale + shift;", "* scale;"),
        ("index_t at = row + e * own.step;", "index_t at = row + e;"),
        ("if (count > 0 && more.count > 0) {", "if (false) {"),
    ),
    *of(
        "kernels/cuda/random.cu",
        EMULATED + "dropout",
        ("index_t i = 4 * block + k;", "index_t i = 4 * block + (k ^ 1);"),
    ),
    *of(
        "kernels/cuda/update.cu",
        EMULATED + "'sgd or adam or rmsprop or l2'",
        (
            "REAL velocity = first ? step : momentum * v[i] + keep * step;",
            "REAL velocity = momentum * v[i] + keep * step;",
        ),
        ("count = chunk[2] - begin;", "count = chunk[2] - begin - 1;"),
        ("(sqrt(square) * root + eps)", "(sqrt(square) + eps)"),
    ),
    *of(
        "kernels/cuda/fma.cuh",
        "tests/test_cuda_product.py",
        ("lane / 2 * 4 + block % 2 * 64", "lane / 2 * 4 + block % 2 * 32"),
        ("piece % T::PIECES_M * T::PIECE_M)", "piece % T::PIECES_M * 32)"),
        ("for (int k = 0; k < T::SLICE; k++)", "for (int k = 0; k < T::SLICE - 1; k++)"),
    ),
    *of(
        "kernels/cuda/divisor.cuh",
        "tests/test_cuda_pool.py tests/test_cuda_product.py",
        ("rest = n - quotient * by;", "rest = n - quotient * by + (quotient > 8);"),
        ("* factor >> shift", "* (factor - 2) >> shift"),
        ("(unsigned long long)(unsigned)n", "(unsigned)n"),
    ),
    *of(
        "kernels/cuda/matrix.cuh",
        "tests/test_cuda_product.py",
        ("quad.v[e] = e < count ? at[e] : (REAL)0;", "quad.v[e] = e + 1 < count ? at[e] : (REAL)0;"),
        ("for (int e = 0; e < 4; e++) quad.v[e] += more.v[e];", ""),
        ("load(place.at + k * stride, k < place.count", "load(place.at + k * count, k < place.count"),
    ),
]
