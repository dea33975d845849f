// The three products of a fully connected layer, the sum of a gradient over the batch, and Flatten's reordering.
#include "common.cuh"
#include "activation.cuh"
#include "product.cuh"

// A (M, K) and B (K, N) by their strides. With more than one part, `out` has one (M, N) matrix for each.
extern "C" __global__ void matmul(
    const REAL* a, index_t a_row, index_t a_k, const REAL* b, index_t b_k, index_t b_column, REAL* out, index_t M,
    index_t N, index_t K, index_t parts, const REAL* bias, index_t has_bias, index_t code) {
    __shared__ Tiles tiles;
    index_t part = blockIdx.z;
    Matrix left = {a, a_row, a_k, a_k == 1}, right = {b, b_k, b_column, b_k == 1 && b_column != 1};
    Rows rows = {out + part * M * N, N, has_bias ? bias : nullptr, (int)code};
    product(left, right, rows, M, N, part * K / parts, (part + 1) * K / parts, tiles);
}

ADD_PARTS
COLUMN_SUMS

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
