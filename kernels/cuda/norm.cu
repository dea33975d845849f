// Batch normalisation of an (M, C) matrix, a column a channel. All kernels cut it alike: a block has `width` columns, a
// power of two, of `chunk` rows, and a thread one column of every (256 / width)th of these. What is summed over a
// chunk is left in `parts`, a row a chunk, and a second kernel adds the chunks in order.
#include "common.cuh"

#define THREADS 256
#define AT_ONCE 8  // rows of a thread on their way

struct Own {
    index_t c, row, end;
    int step;
    bool first;  // of the threads with this column
    __device__ __forceinline__ Own(index_t M, index_t C, index_t width, index_t chunk) {
        int thread = threadIdx.x, columns = (int)width;
        c = blockIdx.x * width + thread % columns;
        step = THREADS / columns;
        row = blockIdx.y * chunk + thread / columns;
        end = blockIdx.y * chunk + chunk < M ? blockIdx.y * chunk + chunk : M;
        first = thread < columns && c < C;
        if (c >= C) end = 0, c = 0;
    }
};
#define FOR_EACH_OWN_ROW(own) for (index_t row = own.row; row < own.end; row += own.step)

// The sum over all threads with this column, in the first of them; all must call it, with `place` shared.
template <class T>
__device__ __forceinline__ T over_rows(T value, int step, T* place) {
    int thread = threadIdx.x, columns = THREADS / step;
    place[thread] = value;
    __syncthreads();
    for (int half = step / 2; half; half /= 2) {
        if (thread < half * columns) place[thread] += place[thread + half * columns];
        __syncthreads();
    }
    T sum = place[thread % columns];
    __syncthreads();
    return sum;
}

// Of some numbers how many there are, their sum, and the sum of the squares of their distances from their mean, which
// is put together as Chan, Golub & LeVeque do it (1979): the difference of two large sums would lose digits.
struct Moments {
    REAL count, sum, squares;
    __device__ __forceinline__ Moments& operator+=(const Moments& more) {
        if (count > 0 && more.count > 0) {
            REAL apart = more.sum / more.count - sum / count;
            squares += apart * apart * (count * (more.count / (count + more.count)));
        }
        count += more.count, sum += more.sum, squares += more.squares;
        return *this;
    }
};

// Leaves the sum and the squares of each chunk: `parts` is (2, chunks, C).
extern "C" __global__ void moments(
    const REAL* x, REAL* parts, index_t M, index_t C, index_t width, index_t chunk) {
    __shared__ Moments place[THREADS];
    Own own(M, C, width, chunk);
    Moments all = {0, 0, 0};
    for (index_t row = own.row; row < own.end; row += AT_ONCE * own.step) {
        REAL v[AT_ONCE], sum = 0, squares = 0;
        int count = 0;
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++) {
            index_t at = row + e * own.step;
            v[e] = at < own.end ? x[at * C + own.c] : (REAL)0;
            sum += v[e];
            count += at < own.end;
        }
        REAL mean = sum / (REAL)count;
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++) {
            REAL rest = e < count ? v[e] - mean : (REAL)0;
            squares += rest * rest;
        }
        all += Moments{(REAL)count, sum, squares};
    }
    all = over_rows(all, own.step, place);
    if (!own.first) return;
    index_t at = blockIdx.y * C + own.c;
    parts[at] = all.sum;
    parts[gridDim.y * C + at] = all.squares;
}

// Fills `mean` and `inv_std` from the moments of `chunks` chunks and updates the running statistics.
extern "C" __global__ void statistics(
    const REAL* parts, REAL* mean, REAL* inv_std, REAL* running_mean, REAL* running_var, index_t M, index_t C,
    index_t width, index_t chunk, index_t chunks, REAL momentum, REAL eps) {
    __shared__ double place[THREADS];
    Own own(chunks, C, width, chunks);
    double sum = 0, squares = 0;
    FOR_EACH_OWN_ROW(own) sum += (double)parts[row * C + own.c];
    double centre = over_rows(sum, own.step, place) / (double)M;
    FOR_EACH_OWN_ROW(own) {
        index_t count = (row + 1) * chunk < M ? chunk : M - row * chunk;
        double apart = (double)parts[row * C + own.c] / (double)count - centre;
        squares += (double)parts[(chunks + row) * C + own.c] + apart * apart * (double)count;
    }
    squares = over_rows(squares, own.step, place);
    if (!own.first) return;
    REAL var = (REAL)(squares / (double)M), unbiased = (REAL)(squares / (double)(M > 1 ? M - 1 : 1));
    running_mean[own.c] = (1 - momentum) * running_mean[own.c] + momentum * (REAL)centre;
    running_var[own.c] = (1 - momentum) * running_var[own.c] + momentum * unbiased;
    mean[own.c] = (REAL)centre;
    inv_std[own.c] = 1 / sqrt(var + eps);
}

extern "C" __global__ void normalise(
    const REAL* x, REAL* out, const REAL* mean, const REAL* inv_std, const REAL* weight, const REAL* bias,
    index_t M, index_t C, index_t width, index_t chunk) {
    Own own(M, C, width, chunk);
    REAL centre = mean[own.c], scale = inv_std[own.c] * weight[own.c], shift = bias[own.c];
#pragma unroll 4
    FOR_EACH_OWN_ROW(own) out[row * C + own.c] = (x[row * C + own.c] - centre) * scale + shift;
}

// Leaves the sums of grad and of grad * (x - mean) * inv_std of each chunk: `parts` is (2, chunks, C).
extern "C" __global__ void grad_sums(
    const REAL* grad, const REAL* x, const REAL* mean, const REAL* inv_std, REAL* parts, index_t M, index_t C,
    index_t width, index_t chunk) {
    __shared__ REAL place[THREADS];
    Own own(M, C, width, chunk);
    REAL centre = mean[own.c], scale = inv_std[own.c], sum = 0, product = 0;
#pragma unroll 4
    FOR_EACH_OWN_ROW(own) {
        REAL g = grad[row * C + own.c];
        sum += g;
        product += g * ((x[row * C + own.c] - centre) * scale);
    }
    sum = over_rows(sum, own.step, place);
    product = over_rows(product, own.step, place);
    if (!own.first) return;
    index_t at = blockIdx.y * C + own.c;
    parts[at] = sum;
    parts[gridDim.y * C + at] = product;
}

// Adds those of `chunks` chunks.
extern "C" __global__ void grad_parameters(
    const REAL* parts, REAL* grad_weight, REAL* grad_bias, index_t C, index_t width, index_t chunks) {
    __shared__ double place[THREADS];
    Own own(chunks, C, width, chunks);
    double sum = 0, product = 0;
    FOR_EACH_OWN_ROW(own) {
        sum += (double)parts[row * C + own.c];
        product += (double)parts[(chunks + row) * C + own.c];
    }
    sum = over_rows(sum, own.step, place);
    product = over_rows(product, own.step, place);
    if (own.first) grad_bias[own.c] = (REAL)sum, grad_weight[own.c] = (REAL)product;
}

extern "C" __global__ void grad_input(
    const REAL* grad, const REAL* x, const REAL* mean, const REAL* inv_std, const REAL* weight,
    const REAL* grad_weight, const REAL* grad_bias, REAL* out, index_t M, index_t C, index_t width, index_t chunk,
    index_t training) {
    Own own(M, C, width, chunk);
    REAL centre = mean[own.c], deviation = inv_std[own.c], scale = weight[own.c] * deviation;
    REAL slope = grad_weight[own.c], sum = grad_bias[own.c];
#pragma unroll 4
    FOR_EACH_OWN_ROW(own) {
        REAL g = grad[row * C + own.c];
        if (training) g -= (sum + (x[row * C + own.c] - centre) * deviation * slope) / (REAL)M;
        out[row * C + own.c] = scale * g;
    }
}
