// Losses with their gradients. Each block leaves the sum of its part of the loss, in double, and a last launch adds
// these in order: the result does not depend on how blocks are scheduled.
#include "common.cuh"

#define THREADS 256

__device__ __forceinline__ void leave(double loss, double* parts, double* place) {
    loss = block_sum(loss, place);
    if (threadIdx.x == 0) parts[blockIdx.x] = loss;
}

// Some lanes of a warp for each row. `labels` or `shares`, the other is empty.
__device__ __forceinline__ void cross_entropy(
    const REAL* logits, const index_t* labels, const REAL* shares, REAL* grads, double* parts, index_t rows,
    index_t classes, int group, REAL scale, double* place) {
    double loss = 0;
    FOR_EACH_ROW(row, rows, group) {
        index_t own = row < rows ? classes : 0;
        const REAL *x = logits + row * classes, *share = shares + row * classes;
        REAL *slope = grads + row * classes, peak = peak_of(x, own, group), sum = 0, weight = 0;
        for (index_t k = LANE_OF(group); k < own; k += group) {
            sum += slope[k] = exp(x[k] - peak);
            if (!labels) weight += share[k];
        }
        sum = warp_sum(sum, group);
        REAL shift = log(sum);
        if (labels) {
            index_t label = own ? labels[row] : 0;
            for (index_t k = LANE_OF(group); k < own; k += group) {
                slope[k] = scale * (slope[k] / sum - (k == label ? (REAL)1 : (REAL)0));
                if (k == label) loss += shift - (x[k] - peak);
            }
        } else {
            weight = warp_sum(weight, group);
            for (index_t k = LANE_OF(group); k < own; k += group) {
                slope[k] = scale * (slope[k] * (weight / sum) - share[k]);
                loss -= share[k] * (x[k] - peak - shift);
            }
        }
    }
    leave(loss, parts, place);
}

extern "C" __global__ void cross_entropy_of_labels(
    const REAL* logits, const index_t* labels, REAL* grads, double* parts, index_t rows, index_t classes,
    index_t group, REAL scale) {
    __shared__ double place[THREADS / 32];
    cross_entropy(logits, labels, logits, grads, parts, rows, classes, (int)group, scale, place);
}

extern "C" __global__ void cross_entropy_of_shares(
    const REAL* logits, const REAL* shares, REAL* grads, double* parts, index_t rows, index_t classes,
    index_t group, REAL scale) {
    __shared__ double place[THREADS / 32];
    cross_entropy(logits, nullptr, shares, grads, parts, rows, classes, (int)group, scale, place);
}

extern "C" __global__ void sigmoid_cross_entropy(
    const REAL* logits, const REAL* targets, REAL* grads, double* parts, index_t count, REAL scale) {
    __shared__ double place[THREADS / 32];
    double loss = 0;
    FOR_EACH(i, count) {
        REAL x = logits[i], z = targets[i], e = exp(-fabs(x));
        REAL positive = x < 0 ? (REAL)0 : x;
        grads[i] = scale * ((x >= 0 ? (REAL)1 : e) / (1 + e) - z);
        loss += log1p(e) + (positive - x * z);
    }
    leave(loss, parts, place);
}

extern "C" __global__ void mse(
    const REAL* preds, const REAL* targets, REAL* grads, double* parts, index_t count, REAL scale) {
    __shared__ double place[THREADS / 32];
    double loss = 0;
    FOR_EACH(i, count) {
        REAL difference = preds[i] - targets[i];
        grads[i] = 2 * scale * difference;
        loss += (double)difference * difference;
    }
    leave(loss, parts, place);
}

// One block adds the parts, each thread its own in order, then the threads' sums in a tree.
extern "C" __global__ void total(const double* parts, double* loss, index_t count, REAL scale) {
    __shared__ double place[THREADS / 32];
    double sum = 0;
    for (index_t i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum, place);
    if (threadIdx.x == 0) *loss = scale * sum;
}
