// What all kernels share. REAL is float or double, given when the file is compiled: one file, two modules.
//
// Indices have 64 bits: an array may have more than 2^31 elements. Every grid covers any size by taking strides
// as long as itself. Sums have one order, whatever the grid: no float is added atomically.
#pragma once

typedef long long index_t;

#define FULL_WARP 0xffffffffu

// This thread's own i = first, first + stride, ... below `count`.
#define FOR_EACH(i, count)                                                        \
    for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count); \
         i += (index_t)gridDim.x * blockDim.x)

// As many numbers as one memory access moves: 16 bytes.
#define PACK (16 / (int)sizeof(REAL))
struct alignas(16) Pack {
    REAL v[PACK];
};

// Of the two the larger; NaN only where `b` is one and `a` is not: sums behind it bring NaN back anyway.
__device__ __forceinline__ REAL larger(REAL a, REAL b) { return a < b ? b : a; }

// The same in all lanes of the warp, or of each group of so many, a power of two.
__device__ __forceinline__ REAL warp_max(REAL value, int group = 32) {
    for (int lanes = group / 2; lanes; lanes >>= 1) value = larger(value, __shfl_xor_sync(FULL_WARP, value, lanes));
    return value;
}
template <class T>
__device__ __forceinline__ T warp_sum(T value, int group = 32) {
    for (int lanes = group / 2; lanes; lanes >>= 1) value += __shfl_xor_sync(FULL_WARP, value, lanes);
    return value;
}

// The sum over a block of `threads` threads, in thread 0; all of them must call it, with `place` shared.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* place) {
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) place[threadIdx.x / 32] = value;
    __syncthreads();
    T total = 0;
    if (threadIdx.x == 0)
        for (unsigned warp = 0; warp < blockDim.x / 32; warp++) total += place[warp];
    __syncthreads();
    return total;
}

#ifndef INFINITY  // NVRTC has no math.h
#define INFINITY __int_as_float(0x7f800000)
#endif
#define NEGATIVE_INFINITY (-(REAL)INFINITY)

// Groups of lanes, a power of two of them, go from row to row of a (rows, length) matrix. All groups of a warp go
// along while one of them has a row, since lanes exchange values: `row` may be behind the last.
#define FOR_EACH_ROW(row, rows, group)                                                               \
    for (index_t row = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) / (group);                   \
         row - (index_t)(threadIdx.x % 32 / (group)) < (rows);                                       \
         row += (index_t)gridDim.x * blockDim.x / (group))
#define LANE_OF(group) (threadIdx.x % (group))

// The largest number of a row, in all lanes of the group.
__device__ __forceinline__ REAL peak_of(const REAL* x, index_t length, int group) {
    REAL peak = NEGATIVE_INFINITY;
    for (index_t k = LANE_OF(group); k < length; k += group) peak = larger(peak, x[k]);
    return warp_max(peak, group);
}
