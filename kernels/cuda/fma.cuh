// How a warp multiplies its piece of a tile by fused multiply-adds: of the blocks of 4 x 4 numbers, each thread has
// those at rows 8 y and 8 y + 4, and columns 4 x (and 32 + 4 x), of 4 x 8 threads (y, x).
//
// Which lane is which (y, x): lanes 2 i and 2 i + 1 read the same of A, lanes i and i ^ 2 the same of B. A warp then
// reads either in 2 turns of the shared memory; any other way takes it 4.
#pragma once

__device__ __forceinline__ int row_of(int block, int lane) {
    return ((lane >> 1 & 1) | (lane >> 3 & 2)) * 8 + block % 2 * 4;
}
__device__ __forceinline__ int column_of(int block, int lane) {
    return ((lane & 1) | (lane >> 1 & 6)) * 4 + block / 2 * 32;
}
__device__ __forceinline__ const Quad& rounded(const Quad& quad) { return quad; }

template <class T>
__device__ __forceinline__ void multiply(const REAL* a, const REAL* b, typename T::Sums& sums) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, piece = warp % T::PIECES;
    int first = warp / T::PIECES * T::SLICE;
    int row = piece % T::PIECES_M * 32 + row_of(0, lane), column = piece / T::PIECES_M * T::PIECE_N + column_of(0, lane);
#pragma unroll 1
    for (int k = first; k < first + T::SLICE; k += 4) {  // `place` exchanges the columns of 4 terms alike
        const REAL *left_at = a + place<T::M>(k, row), *right_at = b + place<T::N>(k, column);
#pragma unroll(T::BLOCKS == 2 ? 4 : 1)  // what two terms of 4 blocks need at once hardly fits the registers
        for (int e = 0; e < 4; e++) {
            Quad left[2], right[T::BLOCKS / 2];
#pragma unroll
            for (int y = 0; y < 2; y++) left[y] = *(const Quad*)(left_at + e * PITCH(T::M) + 4 * y);
#pragma unroll
            for (int x = 0; x < T::BLOCKS / 2; x++) right[x] = *(const Quad*)(right_at + e * PITCH(T::N) + 32 * x);
#pragma unroll
            for (int block = 0; block < T::BLOCKS; block++)
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sums[block][i][j] += left[block % 2].v[i] * right[block / 2].v[j];
        }
    }
}
