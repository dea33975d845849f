// Parameter updates: one launch for all parameters of a network, a block for each chunk of up to some thousand
// elements. `table` has a row of addresses for each parameter: its own, its gradient's, its state's; `chunks` the
// rows (parameter, first element, element behind the last). A recorded step finds the numbers that change from step
// to step in `rates`, a row for each step; null: those given hold.
#include "common.cuh"

#define THREADS 256

struct Chunk {
    const index_t* row;
    index_t begin, count;
    __device__ Chunk(const index_t* table, const index_t* chunks, index_t columns) {
        const index_t* chunk = chunks + 3 * (index_t)blockIdx.x;
        row = table + chunk[0] * columns;
        begin = chunk[1];
        count = chunk[2] - begin;
    }
    __device__ REAL* operator[](int column) const { return (REAL*)row[column] + begin; }
};

#define FOR_EACH_OF(chunk, i) for (index_t i = threadIdx.x; i < (chunk).count; i += blockDim.x)

// `keep`: 1 - dampening.
extern "C" __global__ void sgd(
    const index_t* table, const index_t* chunks, index_t columns, REAL lr, REAL momentum, REAL keep, REAL decay,
    index_t nesterov, index_t first, const REAL* rates, const index_t* position) {
    if (rates) lr = rates[*position];
    Chunk chunk(table, chunks, columns);
    REAL *w = chunk[0], *g = chunk[1], *v = columns > 2 ? chunk[2] : nullptr;
    FOR_EACH_OF(chunk, i) {
        REAL step = decay ? g[i] + decay * w[i] : g[i];
        if (v) {
            REAL velocity = first ? step : momentum * v[i] + keep * step;
            v[i] = velocity;
            step = nesterov ? step + momentum * velocity : velocity;
        }
        w[i] -= lr * step;
    }
}

// `rest1`, `rest2`: 1 - beta; `rate`: lr / (1 - beta1^t); `root`: 1 / sqrt(1 - beta2^t); `shrink`: 1 - lr decay, or 1.
extern "C" __global__ void adam(
    const index_t* table, const index_t* chunks, index_t columns, REAL rate, REAL root, REAL shrink, REAL beta1,
    REAL beta2, REAL rest1, REAL rest2, REAL eps, REAL decay, const REAL* rates, const index_t* position) {
    if (rates) {
        const REAL* row = rates + 3 * *position;
        rate = row[0], root = row[1], shrink = row[2];
    }
    Chunk chunk(table, chunks, columns);
    REAL *w = chunk[0], *g = chunk[1], *m = chunk[2], *v = chunk[3];
    FOR_EACH_OF(chunk, i) {
        REAL weight = w[i] * shrink, slope = decay ? g[i] + decay * weight : g[i];
        REAL mean = beta1 * m[i] + rest1 * slope, square = beta2 * v[i] + rest2 * slope * slope;
        m[i] = mean;
        v[i] = square;
        w[i] = weight - rate * mean / (sqrt(square) * root + eps);
    }
}

extern "C" __global__ void rmsprop(
    const index_t* table, const index_t* chunks, index_t columns, REAL lr, REAL alpha, REAL rest, REAL eps,
    REAL decay, REAL momentum, const REAL* rates, const index_t* position) {
    if (rates) lr = rates[*position];
    Chunk chunk(table, chunks, columns);
    REAL *w = chunk[0], *g = chunk[1], *s = chunk[2], *b = columns > 3 ? chunk[3] : nullptr;
    FOR_EACH_OF(chunk, i) {
        REAL slope = decay ? g[i] + decay * w[i] : g[i];
        REAL square = alpha * s[i] + rest * slope * slope, step = slope / (sqrt(square) + eps);
        s[i] = square;
        if (b) b[i] = step = momentum * b[i] + step;
        w[i] -= lr * step;
    }
}

// Adds twice * w to each gradient and leaves the sum of this block's w^2.
extern "C" __global__ void l2_penalty(
    const index_t* table, const index_t* chunks, index_t columns, REAL twice, double* parts) {
    __shared__ double place[THREADS / 32];
    Chunk chunk(table, chunks, columns);
    REAL *w = chunk[0], *g = chunk[1];
    double sum = 0;
    FOR_EACH_OF(chunk, i) {
        g[i] += twice * w[i];
        sum += (double)w[i] * w[i];
    }
    sum = block_sum(sum, place);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
