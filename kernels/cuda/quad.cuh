// Four numbers, which a thread moves at once, and where a tile's operands lie in shared memory (product.cuh).
#pragma once

struct alignas(16) Quad {
    REAL v[4];
};

// Of an operand of LENGTH rows, or columns, where number i of term k lies.
template <int LENGTH>
__device__ __forceinline__ constexpr int place(int k, int i) {
    return k * (LENGTH + 8) + k / 4 * 8 + i;
}
