// How a warp multiplies its piece of a tile on tensor cores: operands are rounded to TF32 (10 of the 23 bits behind
// the point), products and sums are of float. For float alone, and only where the user asked for it.
//
// mma.m16n8k8 multiplies 16 x 8 numbers of A by 8 x 8 of B. With g = lane / 4 and t = lane % 4, a lane holds
//     of A  (g, t) (g + 8, t) (g, t + 4) (g + 8, t + 4)      of B  (t, g) (t + 4, g)
//     of C  (g, 2 t) (g, 2 t + 1) (g + 8, 2 t) (g + 8, 2 t + 1)
// Which rows of the piece are the 16 of an mma, and which columns its 8, is free. So that each lane has blocks of
// 4 x 4 neighbours, and reads its numbers of A as one Quad and of B as one pair: rows g and g + 8 of mma number m
// are rows 4 g + 2 m and 4 g + 2 m + 1 of the piece, m = 0, 1; column i of mma number n is column
// 16 (n / 2) + 2 i + n % 2.
#pragma once
#include "quad.cuh"

struct alignas(8) Two {
    float v[2];
};

#ifdef __CUDACC_RTC__
__device__ __forceinline__ float to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return __uint_as_float(bits);
}
__device__ __forceinline__ void mma(
    const float (&a)[4], const float (&b)[2], float& c0, float& c1, float& c2, float& c3) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
#else  // the same without such hardware
__device__ __forceinline__ float to_tf32(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & ~0x1fffu;  // to the nearest, halves away from 0
    memcpy(&x, &bits, 4);
    return x;
}
__device__ __forceinline__ Two other(Two mine, int lane) {
    double both;
    memcpy(&both, &mine, 8);
    both = __shfl_sync(FULL_WARP, both, lane);
    memcpy(&mine, &both, 8);
    return mine;
}
__device__ __forceinline__ void mma(
    const float (&a)[4], const float (&b)[2], float& c0, float& c1, float& c2, float& c3) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int k = 0; k < 4; k++) {
        Two near = other({{a[0], a[1]}}, 4 * g + k), far = other({{a[2], a[3]}}, 4 * g + k);
        Two left = other({{b[0], b[1]}}, 8 * t + k), right = other({{b[0], b[1]}}, 8 * t + 4 + k);
        c0 += near.v[0] * left.v[0] + far.v[0] * left.v[1], c1 += near.v[0] * right.v[0] + far.v[0] * right.v[1];
        c2 += near.v[1] * left.v[0] + far.v[1] * left.v[1], c3 += near.v[1] * right.v[0] + far.v[1] * right.v[1];
    }
}
#endif

struct Tensor {
    template <class T>
    static __device__ __forceinline__ int row_of(int, int lane) {
        return lane / 4 * 4;
    }
    template <class T>
    static __device__ __forceinline__ int column_of(int block, int lane) {
        return block * 16 + lane % 4 * 4;
    }
    static __device__ __forceinline__ Quad rounded(const Quad& quad) {
        return {{to_tf32(quad.v[0]), to_tf32(quad.v[1]), to_tf32(quad.v[2]), to_tf32(quad.v[3])}};
    }

    template <class T>
    static __device__ __forceinline__ void multiply(const REAL* a, const REAL* b, typename T::Sums& sums) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32, piece = warp % T::PIECES;
        int first = warp / T::PIECES * T::SLICE;
        a += place<T::M>(first, piece % T::PIECES_M * T::PIECE_M + row_of<T>(0, lane)) + place<T::M>(1, 0) * (lane % 4);
        b += place<T::N>(first, piece / T::PIECES_M * T::PIECE_N + lane / 4 * 2) + place<T::N>(1, 0) * (lane % 4);
#pragma unroll
        for (int k = 0; k < T::SLICE; k += 8) {
            Quad near = *(const Quad*)(a + place<T::M>(k, 0));
            Quad far = *(const Quad*)(a + place<T::M>(k + 4, 0));
            float left[2][4] = {{near.v[0], near.v[1], far.v[0], far.v[1]}, {near.v[2], near.v[3], far.v[2], far.v[3]}};
#pragma unroll
            for (int block = 0; block < T::BLOCKS; block++) {
                Two top = *(const Two*)(b + place<T::N>(k, 16 * block));
                Two bottom = *(const Two*)(b + place<T::N>(k + 4, 16 * block));
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    float right[2] = {top.v[n], bottom.v[n]};
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        REAL(&rows)[4][4] = sums[block];
                        REAL *top_row = rows[2 * m], *bottom_row = rows[2 * m + 1];
                        mma(left[m], right, top_row[n], top_row[n + 2], bottom_row[n], bottom_row[n + 2]);
                    }
                }
            }
        }
    }
};
typedef Tensor Fastest;
