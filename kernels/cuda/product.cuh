// C = A B by tiles in shared memory: what linear.cu and conv.cu share. What A and B are, their `operator()` says; so
// im2col's columns are computed where they are read, and never built.
//
// A block computes a tile of 64 x 64 numbers of C, a thread 4 x 4 of these in registers. Where C is small, the
// reduction is cut into parts (blockIdx.z), which a second launch adds in order.
#pragma once

#define TILE 64
#define DEPTH 16
#define SIDE 4  // of a thread's own tile: 16 x 16 threads
#define THREADS 256

struct Tiles {
    REAL a[DEPTH][TILE + 4], b[DEPTH][TILE + 4];  // + 4: threads that write a column use other banks
};

// a(m, k) and b(k, n) read a number; `a.along_k`, `b.along_k`: whether neighbours in k are neighbours in memory, so
// that neighbouring threads should read those. end(m, n, value) takes each result.
template <class A, class B, class End>
__device__ __forceinline__ void product(
    const A& a, const B& b, const End& end, index_t M, index_t N, index_t first_k, index_t last_k, Tiles& tiles) {
    index_t m0 = (index_t)blockIdx.x * TILE, n0 = (index_t)blockIdx.y * TILE;
    int row = threadIdx.x / 16 * SIDE, column = threadIdx.x % 16 * SIDE;
    REAL sums[SIDE][SIDE] = {};
    for (index_t k0 = first_k; k0 < last_k; k0 += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            int m = a.along_k ? i / DEPTH : i % TILE, k = a.along_k ? i % DEPTH : i / TILE;
            tiles.a[k][m] = m0 + m < M && k0 + k < last_k ? a(m0 + m, k0 + k) : (REAL)0;
        }
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            int n = b.along_k ? i / DEPTH : i % TILE, k = b.along_k ? i % DEPTH : i / TILE;
            tiles.b[k][n] = n0 + n < N && k0 + k < last_k ? b(k0 + k, n0 + n) : (REAL)0;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; k++)
#pragma unroll
            for (int i = 0; i < SIDE; i++)
#pragma unroll
                for (int j = 0; j < SIDE; j++) sums[i][j] += tiles.a[k][row + i] * tiles.b[k][column + j];
        __syncthreads();
    }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            if (m0 + row + i < M && n0 + column + j < N) end(m0 + row + i, n0 + column + j, sums[i][j]);
}

// A matrix in memory: its numbers (i, j) lie at i * row + j * column.
struct Matrix {
    const REAL* start;
    index_t row, column;
    bool along_k;
    __device__ __forceinline__ REAL operator()(index_t i, index_t j) const { return start[i * row + j * column]; }
};

// Where results go, finished or as a part of a sum.
struct Rows {
    REAL* out;
    index_t row;
    const REAL* bias;  // null: none
    int code;
    __device__ __forceinline__ void operator()(index_t m, index_t n, REAL value) const {
        out[m * row + n] = activated(bias ? value + bias[n] : value, code);
    }
};

// The parts of C, each `size` numbers, added in order, with what comes behind.
#define ADD_PARTS                                                                                          \
    extern "C" __global__ void add_parts(                                                                  \
        const REAL* parts, REAL* out, index_t size, index_t count, const REAL* bias, index_t columns, index_t code) { \
        FOR_EACH(i, size) {                                                                                \
            REAL total = parts[i];                                                                         \
            for (index_t part = 1; part < count; part++) total += parts[part * size + i];                  \
            out[i] = activated(columns ? total + bias[i % columns] : total, (int)code);                    \
        }                                                                                                  \
    }

// Sums over the rows of a matrix: a block for 32 columns, its 8 warps each with every eighth row.
#define COLUMN_SUMS                                                                                        \
    extern "C" __global__ void column_sums(const REAL* in, REAL* out, index_t rows, index_t columns) {     \
        __shared__ REAL place[8][33];                                                                      \
        index_t column = (index_t)blockIdx.x * 32 + threadIdx.x % 32;                                      \
        REAL sum = 0;                                                                                      \
        if (column < columns)                                                                              \
            for (index_t row = threadIdx.x / 32; row < rows; row += 8) sum += in[row * columns + column];  \
        place[threadIdx.x / 32][threadIdx.x % 32] = sum;                                                   \
        __syncthreads();                                                                                   \
        if (threadIdx.x < 32 && column < columns) {                                                        \
            for (int warp = 1; warp < 8; warp++) sum += place[warp][threadIdx.x];                          \
            out[column] = sum;                                                                             \
        }                                                                                                  \
    }
