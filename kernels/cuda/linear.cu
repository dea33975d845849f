// The three products of a fully connected layer, and Flatten's reordering.
#include "common.cuh"
#include "activation.cuh"
#include "product.cuh"
#include "matrix.cuh"
#include "add_parts.cuh"

// Of the `terms` a block adds those of its part, `chunk` at most, and leaves them in a result of its own.
#define PARAMETERS                                                                                              \
    const REAL *a, const REAL *b, REAL *out, REAL *sums, index_t M, index_t N, index_t terms, index_t chunk,    \
        const REAL *bias, index_t code
#define ARGUMENTS a, b, out, sums, M, N, terms, chunk, bias, code

struct Part {
    index_t first;
    int terms;
    __device__ __forceinline__ Part(index_t all, index_t chunk) : first(blockIdx.z * chunk) {
        terms = (int)(all - first < chunk ? all - first : chunk);
    }
};

// x (M, terms) by weight (terms, N).
template <class T>
__device__ __forceinline__ void forward(PARAMETERS, Shared<T>& shared) {
    Part part(terms, chunk);
    Rows left(a + part.first, terms, M, part.terms);
    Columns right(b + part.first * N, N, N, part.terms);
    Finished end = {out + blockIdx.z * M * N, N, bias, (int)code, N % 4 == 0};
    product<T>(left, right, end, M, N, part.terms, shared);
}

// grad (M, terms) by the turned weight (N, terms).
template <class T>
__device__ __forceinline__ void grad_input(PARAMETERS, Shared<T>& shared) {
    Part part(terms, chunk);
    Rows left(a + part.first, terms, M, part.terms), right(b + part.first, terms, N, part.terms);
    Finished end = {out + blockIdx.z * M * N, N, nullptr, 0, N % 4 == 0};
    product<T>(left, right, end, M, N, part.terms, shared);
}

// The turned x (terms, M) by grad (terms, N). Of several parts, each has its sums behind its product.
template <class T>
__device__ __forceinline__ void grad_weight(PARAMETERS, Shared<T>& shared) {
    Part part(terms, chunk);
    Columns left(a + part.first * M, M, M, part.terms), right(b + part.first * N, N, N, part.terms);
    REAL* own = out + blockIdx.z * (M + 1) * N;
    Gradients end;
    end.out = own, end.stride = N, end.bias = nullptr, end.code = 0, end.vectors = N % 4 == 0;
    end.sums = gridDim.z > 1 ? own + M * N : sums;
    product<T>(left, right, end, M, N, part.terms, shared);
}

PRODUCT(forward_slim, forward, Slim)
PRODUCT(forward_small, forward, Small)
PRODUCT(forward_medium, forward, Medium)
PRODUCT(forward_narrow, forward, Narrow)
PRODUCT(forward_large, forward, Large)
PRODUCT(grad_input_slim, grad_input, Slim)
PRODUCT(grad_input_small, grad_input, Small)
PRODUCT(grad_input_medium, grad_input, Medium)
PRODUCT(grad_input_narrow, grad_input, Narrow)
PRODUCT(grad_input_large, grad_input, Large)
PRODUCT(grad_weight_slim, grad_weight, Slim)
PRODUCT(grad_weight_small, grad_weight, Small)
PRODUCT(grad_weight_medium, grad_weight, Medium)
PRODUCT(grad_weight_narrow, grad_weight, Narrow)
PRODUCT(grad_weight_large, grad_weight, Large)

// (N, pixels, channels) to (N, channels, pixels), by tiles, so that both sides are read and written in runs.
extern "C" __global__ void flatten(const REAL* in, REAL* out, index_t pixels, index_t channels) {
    __shared__ REAL tile[32][33];
    const REAL* image = in + (index_t)blockIdx.z * pixels * channels;
    REAL* rows = out + (index_t)blockIdx.z * pixels * channels;
    index_t pixel0 = (index_t)blockIdx.x * 32, channel0 = (index_t)blockIdx.y * 32;
    int x = threadIdx.x % 32, y = threadIdx.x / 32;
    for (int i = y; i < 32; i += 8)
        if (pixel0 + i < pixels && channel0 + x < channels)
            tile[i][x] = image[(pixel0 + i) * channels + channel0 + x];
    __syncthreads();
    for (int i = y; i < 32; i += 8)
        if (channel0 + i < channels && pixel0 + x < pixels)
            rows[(channel0 + i) * pixels + pixel0 + x] = tile[x][i];
}
