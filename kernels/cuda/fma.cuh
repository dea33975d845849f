// How a warp multiplies its piece of a tile by fused multiply-adds: of the blocks of 4 x 4 numbers, each thread has
//     of 32 columns or 64, by 4 x 8 threads (y, x):    those at rows 8 y and 8 y + 4, and columns 4 x (and 32 + 4 x)
//     of 8 columns and 128 rows, by 16 x 2:            those at rows 4 y and 4 y + 64, and columns 4 x
//
// Which lane is which (y, x): lanes 2 i and 2 i + 1 read the same of A, lanes i and i ^ 2 the same of B. A warp then
// reads either in 2 turns of the shared memory; any other way takes it 4.
#pragma once
#include "quad.cuh"

struct Fma {
    template <class T>
    static __device__ __forceinline__ int row_of(int block, int lane) {
        if (T::PIECE_N == 8) return lane / 2 * 4 + block % 2 * 64;
        return ((lane >> 1 & 1) | (lane >> 3 & 2)) * 8 + block % 2 * 4;
    }
    template <class T>
    static __device__ __forceinline__ int column_of(int block, int lane) {
        if (T::PIECE_N == 8) return lane % 2 * 4;
        return ((lane & 1) | (lane >> 1 & 6)) * 4 + block / 2 * 32;
    }
    static __device__ __forceinline__ const Quad& rounded(const Quad& quad) { return quad; }

    template <class T>
    static __device__ __forceinline__ void multiply(const REAL* a, const REAL* b, typename T::Sums& sums) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32, piece = warp % T::PIECES;
        int first = warp / T::PIECES * T::SLICE;
        a += place<T::M>(first, piece % T::PIECES_M * T::PIECE_M);
        b += place<T::N>(first, piece / T::PIECES_M * T::PIECE_N);
#pragma unroll
        for (int k = 0; k < T::SLICE; k++) {
            // What more than two terms of 4 blocks need at once does not fit the registers: no read is made earlier.
            if (T::BLOCKS == 4 && k > 0 && k % 2 == 0) __syncwarp();
            Quad left[2], right[T::BLOCKS / 2];
#pragma unroll
            for (int y = 0; y < 2; y++) left[y] = *(const Quad*)(a + place<T::M>(k, row_of<T>(y, lane)));
#pragma unroll
            for (int x = 0; x < T::BLOCKS / 2; x++)
                right[x] = *(const Quad*)(b + place<T::N>(k, column_of<T>(2 * x, lane)));
#pragma unroll
            for (int block = 0; block < T::BLOCKS; block++)
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sums[block][i][j] += left[block % 2].v[i] * right[block / 2].v[j];
        }
    }
};
