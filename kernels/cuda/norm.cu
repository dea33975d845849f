// Batch normalisation of an (M, C) matrix, a column a channel. A block sums 32 channels, its 8 warps each every
// eighth row; mean first, then the squares of what is left: the difference of two large sums would lose digits.
#include "common.cuh"

#define COLUMN ((index_t)blockIdx.x * 32 + threadIdx.x % 32)
#define FOR_EACH_OWN_ROW(row) for (index_t row = threadIdx.x / 32; row < M; row += 8)

// The sum of the 8 warps' values of each column, in all of them; `place` is shared.
__device__ __forceinline__ REAL over_warps(REAL value, REAL (*place)[33]) {
    place[threadIdx.x / 32][threadIdx.x % 32] = value;
    __syncthreads();
    REAL sum = 0;
    for (int warp = 0; warp < 8; warp++) sum += place[warp][threadIdx.x % 32];
    __syncthreads();
    return sum;
}

// Fills `mean` and `inv_std` and updates the running statistics.
extern "C" __global__ void statistics(
    const REAL* x, REAL* mean, REAL* inv_std, REAL* running_mean, REAL* running_var, index_t M, index_t C,
    REAL momentum, REAL eps) {
    __shared__ REAL place[8][33];
    index_t c = COLUMN;
    REAL sum = 0, squares = 0;
    if (c < C) FOR_EACH_OWN_ROW(row) sum += x[row * C + c];
    REAL centre = over_warps(sum, place) / (REAL)M;
    if (c < C)
        FOR_EACH_OWN_ROW(row) {
            REAL rest = x[row * C + c] - centre;
            squares += rest * rest;
        }
    REAL var = over_warps(squares, place) / (REAL)M;
    if (threadIdx.x < 32 && c < C) {
        REAL unbiased = var * ((REAL)M / (REAL)(M > 1 ? M - 1 : 1));
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * centre;
        running_var[c] = (1 - momentum) * running_var[c] + momentum * unbiased;
        mean[c] = centre;
        inv_std[c] = 1 / sqrt(var + eps);
    }
}

extern "C" __global__ void normalise(
    const REAL* x, REAL* out, const REAL* mean, const REAL* inv_std, const REAL* weight, const REAL* bias,
    index_t count, index_t C) {
    FOR_EACH(i, count) {
        index_t c = i % C;
        out[i] = (x[i] - mean[c]) * (inv_std[c] * weight[c]) + bias[c];
    }
}

extern "C" __global__ void grad_parameters(
    const REAL* grad, const REAL* x, const REAL* mean, const REAL* inv_std, REAL* grad_weight, REAL* grad_bias,
    index_t M, index_t C) {
    __shared__ REAL place[8][33];
    index_t c = COLUMN;
    REAL sum = 0, product = 0;
    if (c < C)
        FOR_EACH_OWN_ROW(row) {
            REAL g = grad[row * C + c];
            sum += g;
            product += g * ((x[row * C + c] - mean[c]) * inv_std[c]);
        }
    sum = over_warps(sum, place);
    product = over_warps(product, place);
    if (threadIdx.x < 32 && c < C) grad_bias[c] = sum, grad_weight[c] = product;
}

extern "C" __global__ void grad_input(
    const REAL* grad, const REAL* x, const REAL* mean, const REAL* inv_std, const REAL* weight,
    const REAL* grad_weight, const REAL* grad_bias, REAL* out, index_t M, index_t C, index_t training) {
    FOR_EACH(i, M * C) {
        index_t c = i % C;
        REAL g = grad[i];
        if (training) g -= (grad_bias[c] + (x[i] - mean[c]) * inv_std[c] * grad_weight[c]) / (REAL)M;
        out[i] = weight[c] * inv_std[c] * g;
    }
}
