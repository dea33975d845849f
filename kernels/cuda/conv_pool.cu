// Convolution and the maxima of windows of 2 x 2 of its results, which never reach memory: the rows of the product are
// numbered so that those of a window follow one another, and a thread has all four.
#include "common.cuh"
#include "activation.cuh"
#include "product.cuh"
#include "matrix.cuh"
#include "windows.cuh"
#include "conv.cuh"

#define PARAMETERS                                                                                             \
    const REAL *x, const REAL *filters, REAL *out, int *indices, SHAPES, const REAL *bias, index_t code
#define ARGUMENTS x, filters, out, indices, GIVEN, bias, code

struct alignas(16) Four {
    int v[4];
};

// The largest of four rows, as pool.cu has it: the first of equals, of NaNs the last. `indices`: its place among the
// OW columns and the rows of the convolution's result.
struct Pooled {
    static constexpr int UNIT = 4;
    static constexpr bool SUMS = false;
    Finished finished;
    int* indices;
    int OW;
    Divisor rows, columns;
    __device__ __forceinline__ void operator()(int m, int n, const Quad (&pixels)[4], int count) const {
        int window = m / 4, px, py, number[4];
        rows(columns(window, px), py);
        Quad more = {}, best[1];
        if (finished.bias) more = load(finished.bias + finished.first + n, count, finished.vectors);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int winner = 0;
            REAL most = pixels[0].v[e] + more.v[e];
#pragma unroll
            for (int p = 1; p < 4; p++) {
                REAL value = pixels[p].v[e] + more.v[e];
                if (value > most || value != value) most = value, winner = p;
            }
            best[0].v[e] = most;
            number[e] = (2 * py + winner / 2) * OW + 2 * px + winner % 2;
        }
        Finished end = finished;
        end.bias = nullptr;
        end(window, n, best, count);
        int* at = indices + window * finished.stride + finished.first + n;
        if (finished.vectors && count >= 4) {
            *(Four*)at = {{number[0], number[1], number[2], number[3]}};
            return;
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (e < count) at[e] = number[e];
    }
};

template <class T>
__device__ __forceinline__ void forward(PARAMETERS, Shared<T>& shared) {
    int Cg = (int)C / (int)groups, Og = (int)O / (int)groups, g = blockIdx.y, terms = (int)(KH * KW) * Cg;
    bool vectors = O % 4 == 0 && Og % 4 == 0;
    ByPixels<Windows<false, true>> left = {windows_over<true>(x, g, OH / 2, OW / 2, GIVEN), terms};
    Finished finished = {out, O, bias, (int)code, vectors, g * Og};
    Pooled end = {finished, indices, (int)OW, Divisor(OH / 2, rows), Divisor(OW / 2, columns)};
    product<T>(left, filters_of(filters, g, terms, O, Og), end, left.windows.pixels, Og, terms, shared);
}

PRODUCT(forward_slim, forward, Slim)
PRODUCT(forward_small, forward, Small)
PRODUCT(forward_medium, forward, Medium)
PRODUCT(forward_narrow, forward, Narrow)
PRODUCT(forward_large, forward, Large)
