// C = A B by tiles: what linear.cu, conv.cu and conv_pool.cu share. A number of C is a sum over `terms` products.
//
//               B: terms x N                  A block of 256 threads computes one tile of C. It fetches DEPTH terms
//                 +------+                    of its rows of A and of its columns of B, 16 bytes a thread at once,
//                 | DEPTH|                    into registers, while it multiplies those before, and puts them into
//                 |  x   |                    the other half of shared memory: [term][row], [term][column].
//                 | T::N |
//                 +------+                    Each of its 8 warps multiplies a piece of 32 rows and 32 or 64
//   +-------+     +------+                    columns, or 128 and 8. Where a tile is less than 8 pieces, several
//   | T::M  |     | 32 x |  a warp's piece    warps have the same, each with its own slice of the DEPTH terms:
//   |   x   |     | 32.. |  of the tile
//   | DEPTH |     +------+                        terms:  | slice 0 | slice 1 | slice 0 | slice 1 | ...
//   +-------+     T::M x T::N                             <------ DEPTH ----->
//  A: M x terms   of C: M x N
//                                             finish() adds the slices in shared memory, in order, and hands over
// runs of 4 numbers of a row. A thread holds blocks of 4 x 4 numbers of its warp's piece: fma.cuh and tensor.cuh say
// which, and multiply. Where that leaves too few blocks, blockIdx.z cuts the terms into parts, each with a result of
// its own, which add_parts.cuh adds in order.
//
// Shared memory has 32 banks. A row of terms is 8 numbers longer than the tile, and every fourth 8 more (`place`):
// then all of these are free of conflicts: threads that write 4 x 8 numbers across the rows, threads that write 4 in a
// row, those that read 4 in a row and, on tensor cores, 8 x 4 across. And where a number lies is a sum of the term's
// place and the row's, so that a loop over terms, unrolled, computes no address.
#pragma once
#include "fma.cuh"
#ifdef TENSOR
#include "tensor.cuh"
#else
typedef Fma Fastest;
#endif

#define THREADS 256
#define WARPS 8

// WARPS_M x WARPS_N pieces of ROWS x COLUMNS, which warps multiply by `By`.
template <class By_, int WARPS_M, int WARPS_N, int ROWS, int COLUMNS, int DEPTH_>
struct Tile {
    typedef By_ By;
    static constexpr int PIECES_M = WARPS_M, PIECES = WARPS_M * WARPS_N, SLICES = WARPS / PIECES;
    static constexpr int PIECE_M = ROWS, PIECE_N = COLUMNS, M = ROWS * WARPS_M, N = COLUMNS * WARPS_N;
    static constexpr int DEPTH = DEPTH_, SLICE = DEPTH / SLICES;
    static constexpr int BLOCKS = ROWS * COLUMNS / 512;  // of 4 x 4 numbers that a thread has
    typedef REAL Sums[BLOCKS][4][4];
};

// The tiles, by the names that _products.py has for them. For double half as deep, and 4 columns fewer a thread.
// Tensor cores multiply by 16 columns at least, so the tile of 8 does without.
#define TERMS(floats) ((floats) * 4 / (int)sizeof(REAL))
typedef Tile<Fma, 2, 1, 128, 8, TERMS(16)> Slim;        // 256 x 8
typedef Tile<Fastest, 1, 1, 32, 32, TERMS(64)> Small;   // 32 x 32
typedef Tile<Fastest, 2, 2, 32, 32, TERMS(32)> Medium;  // 64 x 64
typedef Tile<Fastest, 4, 1, 32, 32, TERMS(32)> Narrow;  // 128 x 32
typedef Tile<Fastest, 4, sizeof(REAL) == 4 ? 1 : 2, 32, sizeof(REAL) == 4 ? 64 : 32, TERMS(16)> Large;  // 128 x 64

#define ROUND (32768 / THREADS / (int)sizeof(Quad))  // quads of a thread that are added up at once

template <class T>
union Shared {
    struct {
        alignas(16) REAL a[2][place<T::M>(T::DEPTH, 0)], b[2][place<T::N>(T::DEPTH, 0)];
    };
    Quad sums[ROUND][THREADS];
};

// A thread's share of the LENGTH x DEPTH numbers of an operand, in quads. An operand X says
//     X::ALONG_K                 whether neighbours in k are neighbours in memory, or neighbours in i
//     X::Place place(i, first)   what can be known beforehand of a thread's row i (rows i ... i + 3), which it reads
//                                from term `first` on
//     Quad read(place, k)        of the row, terms first + k ... first + k + 3 (of the rows, term first + k); 0 for a
//                                term that does not exist, anything for such a row
template <class X, class By, int LENGTH, int DEPTH, bool SUM>
struct Loader {
    static constexpr int QUADS = LENGTH * DEPTH / 4, COUNT = (QUADS + THREADS - 1) / THREADS;
    // Along k 4 threads read 64 bytes of a row, others the rows behind; their next quads are STEP rows further, and at
    // the end of the rows so many terms further. Else a line of threads reads a term of all rows, and then the next.
    static constexpr int GROUP = X::ALONG_K ? (DEPTH < 16 ? DEPTH / 4 : 4) : LENGTH / 4, STEP = THREADS / GROUP;
    static constexpr int PLACES = X::ALONG_K && LENGTH > STEP ? LENGTH / STEP : 1;
    const X& x;
    typename X::Place places[PLACES];
    int spot;  // of the first quad in shared memory
    Quad held[COUNT], total = {};

    __device__ __forceinline__ Loader(const X& x, int m0) : x(x) {
        int line = threadIdx.x / GROUP, lane = threadIdx.x % GROUP;
        int row = X::ALONG_K ? line % LENGTH : lane * 4;
        int term = X::ALONG_K ? (lane + line / LENGTH * GROUP) * 4 : line * COUNT;
        spot = place<LENGTH>(term, row);
#pragma unroll
        for (int p = 0; p < PLACES; p++) places[p] = x.place(m0 + row + p * STEP, term);
    }
    static_assert(4 % COUNT == 0, "a thread's terms lie in one group of four: then their places add up");
    // Quad j is that many terms after the first, and that many places in shared memory.
    static __device__ __forceinline__ constexpr int terms(int j) {
        return X::ALONG_K ? j * STEP / LENGTH * GROUP * 4 : j;
    }
    static __device__ __forceinline__ constexpr int spots(int j) {
        return place<LENGTH>(terms(j), X::ALONG_K ? j * STEP % LENGTH : 0);
    }
    static __device__ __forceinline__ bool mine(int j) {
        return QUADS % THREADS == 0 || (int)threadIdx.x + j * THREADS < QUADS;
    }
    __device__ __forceinline__ void fetch(int k) {
#pragma unroll
        for (int j = 0; j < COUNT; j++)
            if (mine(j)) held[j] = x.read(places[j % PLACES], k + terms(j));
    }
    __device__ __forceinline__ void store(REAL* shared) {
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            if (!mine(j)) continue;
            REAL* at = shared + spot + spots(j);
            Quad quad = By::rounded(held[j]);
            if (SUM)
                for (int e = 0; e < 4; e++) total.v[e] += held[j].v[e];
            if (X::ALONG_K)
                for (int e = 0; e < 4; e++) at[place<LENGTH>(e, 0)] = quad.v[e];
            else
                *(Quad*)at = quad;
        }
    }
};

// The slices of the sums are added and handed to `end`, End::UNIT rows of 4 numbers at once.
template <class T, class End>
__device__ __forceinline__ void finish(
    const End& end, const typename T::Sums& sums, int m0, int n0, int M, int N, Shared<T>& shared) {
    constexpr int TOGETHER = THREADS / T::SLICES;  // threads of a slice
    int slice = threadIdx.x / TOGETHER, thread = threadIdx.x % TOGETHER, warp = thread / 32, lane = thread % 32;
    m0 += warp % T::PIECES_M * T::PIECE_M, n0 += warp / T::PIECES_M * T::PIECE_N;
#pragma unroll
    for (int first = 0; first < T::BLOCKS * 4; first += ROUND) {
#pragma unroll
        for (int q = 0; q < ROUND; q++) {
            Quad quad;
            for (int e = 0; e < 4; e++) quad.v[e] = sums[(first + q) / 4][(first + q) % 4][e];
            shared.sums[q][threadIdx.x] = quad;
        }
        __syncthreads();
#pragma unroll 1
        for (int q = slice * End::UNIT; q < ROUND; q += T::SLICES * End::UNIT) {
            Quad rows[End::UNIT];
#pragma unroll
            for (int r = 0; r < End::UNIT; r++) {
                rows[r] = shared.sums[q + r][thread];
#pragma unroll(End::UNIT == 1 ? T::SLICES : 2)
                for (int s = 1; s < T::SLICES; s++) {
                    Quad more = shared.sums[q + r][s * TOGETHER + thread];
                    for (int e = 0; e < 4; e++) rows[r].v[e] += more.v[e];
                }
            }
            int block = (first + q) / 4;
            int m = m0 + T::By::template row_of<T>(block, lane) + q % 4;
            int n = n0 + T::By::template column_of<T>(block, lane);
            if (m < M && n < N) end(m, n, rows, N - n);
        }
        __syncthreads();
    }
}

// The sums of B's columns, of which each thread has added those quads that it fetched.
template <class T, class End>
__device__ __forceinline__ void finish_sums(const End& end, const Quad& total, int n0, int N, Shared<T>& shared) {
    shared.sums[0][threadIdx.x] = total;
    __syncthreads();
    int n = threadIdx.x;
    if (n >= T::N || n0 + n >= N) return;
    REAL sum = 0;
    for (int group = 0; group < THREADS; group += T::N / 4) sum += shared.sums[0][group + n / 4].v[n % 4];
    end.sum(n0 + n, sum);
}

template <class T, class A, class B, class End>
__device__ __forceinline__ void product(
    const A& a, const B& b, const End& end, int M, int N, int terms, Shared<T>& shared) {
    int across = (N + T::N - 1) / T::N;  // neighbouring blocks share rows of A, mostly the larger operand
    int m0 = (int)(blockIdx.x / across) * T::M, n0 = (int)(blockIdx.x % across) * T::N;
    Loader<A, typename T::By, T::M, T::DEPTH, false> left(a, m0);
    Loader<B, typename T::By, T::N, T::DEPTH, End::SUMS> right(b, n0);
    typename T::Sums sums = {};
    int now = 0;
    left.fetch(0), right.fetch(0);
    left.store(shared.a[0]), right.store(shared.b[0]);
    __syncthreads();
    for (int k = T::DEPTH; k < terms; k += T::DEPTH, now ^= 1) {
        right.fetch(k), left.fetch(k);
        T::By::template multiply<T>(shared.a[now], shared.b[now], sums);
        left.store(shared.a[now ^ 1]), right.store(shared.b[now ^ 1]);
        __syncthreads();
    }
    T::By::template multiply<T>(shared.a[now], shared.b[now], sums);
    __syncthreads();
    finish<T>(end, sums, m0, n0, M, N, shared);
    if constexpr (End::SUMS)
        if (m0 == 0) finish_sums<T>(end, right.total, n0, N, shared);
}

// Two blocks a multiprocessor, so that one multiplies while the other waits; of double, with twice the registers, one.
#define BOUNDS __launch_bounds__(THREADS, sizeof(REAL) == 4 ? 2 : 1)

// Kernel `name` is `function` by tiles of that size; each file says what PARAMETERS it has.
#define PRODUCT(name, function, Size)                         \
    extern "C" __global__ void BOUNDS name(PARAMETERS) {      \
        __shared__ Shared<Size> shared;                       \
        function<Size>(ARGUMENTS, shared);                    \
    }
