// Activations and their gradients: one number at a time, 16 bytes an access; softmax: some lanes of a warp for
// each row.
#include "common.cuh"
#include "activation.cuh"

#define MAP(name, expression)                                                                    \
    extern "C" __global__ void name(const REAL* in, REAL* out, index_t count, REAL s) {          \
        FOR_EACH(i, count / PACK) {                                                              \
            Pack pack = ((const Pack*)in)[i];                                                    \
            for (int k = 0; k < PACK; k++) {                                                     \
                REAL x = pack.v[k];                                                              \
                pack.v[k] = (expression);                                                        \
            }                                                                                    \
            ((Pack*)out)[i] = pack;                                                              \
        }                                                                                        \
        index_t i = count / PACK * PACK + threadIdx.x;                                           \
        if (blockIdx.x == 0 && i < count) {                                                      \
            REAL x = in[i];                                                                      \
            out[i] = (expression);                                                               \
        }                                                                                        \
    }

#define MAP_BACKWARD(name, expression)                                                           \
    extern "C" __global__ void name(const REAL* grads, const REAL* saved, REAL* out, index_t count, REAL s) { \
        FOR_EACH(i, count / PACK) {                                                              \
            Pack slopes = ((const Pack*)grads)[i], kept = ((const Pack*)saved)[i];               \
            for (int k = 0; k < PACK; k++) {                                                     \
                REAL g = slopes.v[k], y = kept.v[k];                                             \
                slopes.v[k] = (expression);                                                      \
            }                                                                                    \
            ((Pack*)out)[i] = slopes;                                                            \
        }                                                                                        \
        index_t i = count / PACK * PACK + threadIdx.x;                                           \
        if (blockIdx.x == 0 && i < count) {                                                      \
            REAL g = grads[i], y = saved[i];                                                     \
            out[i] = (expression);                                                               \
        }                                                                                        \
    }

__device__ __forceinline__ REAL gelu_slope(REAL x) {
    return x * exp(x * x * (REAL)-0.5) * (REAL)0.39894228040143268 + normal_cdf(x);
}
__device__ __forceinline__ REAL gelu_tanh_slope(REAL x) {
    REAL t = tanh(tanh_inner(x));
    REAL inner = (REAL)0.79788456080286536 * (1 + (REAL)(3 * 0.044715) * (x * x));
    return (REAL)0.5 * (1 + t + (1 - t * t) * inner * x);
}

MAP(relu, relu_of(x))
MAP(leaky_relu, leaky_relu_of(x, s))
MAP(sigmoid, sigmoid_of(x))
MAP(tanh_, tanh(x))
MAP(gelu, gelu_of(x))
MAP(gelu_tanh, x * ((REAL)0.5 * (1 + tanh(tanh_inner(x)))))

MAP_BACKWARD(relu_backward, y <= 0 ? (REAL)0 : g)
MAP_BACKWARD(leaky_relu_backward, y > 0 ? g : g * s)
MAP_BACKWARD(sigmoid_backward, (1 - y) * y * g)
MAP_BACKWARD(tanh_backward, (1 - y * y) * g)
MAP_BACKWARD(gelu_backward, gelu_slope(y) * g)
MAP_BACKWARD(gelu_tanh_backward, gelu_tanh_slope(y) * g)

extern "C" __global__ void softmax(const REAL* in, REAL* out, index_t rows, index_t length, index_t lanes) {
    int group = (int)lanes;
    FOR_EACH_ROW(row, rows, group) {
        index_t own = row < rows ? length : 0;
        const REAL* x = in + row * length;
        REAL *y = out + row * length, peak = peak_of(x, own, group), sum = 0;
        for (index_t k = LANE_OF(group); k < own; k += group) sum += y[k] = exp(x[k] - peak);
        sum = warp_sum(sum, group);
        for (index_t k = LANE_OF(group); k < own; k += group) y[k] /= sum;
    }
}

extern "C" __global__ void log_softmax(const REAL* in, REAL* out, index_t rows, index_t length, index_t lanes) {
    int group = (int)lanes;
    FOR_EACH_ROW(row, rows, group) {
        index_t own = row < rows ? length : 0;
        const REAL* x = in + row * length;
        REAL *y = out + row * length, peak = peak_of(x, own, group), sum = 0;
        for (index_t k = LANE_OF(group); k < own; k += group) sum += exp(x[k] - peak);
        REAL shift = log(warp_sum(sum, group));
        for (index_t k = LANE_OF(group); k < own; k += group) y[k] = x[k] - peak - shift;
    }
}

extern "C" __global__ void softmax_backward(
    const REAL* grads, const REAL* saved, REAL* out, index_t rows, index_t length, index_t lanes) {
    int group = (int)lanes;
    FOR_EACH_ROW(row, rows, group) {
        index_t own = row < rows ? length : 0;
        const REAL *g = grads + row * length, *y = saved + row * length;
        REAL *slope = out + row * length, sum = 0;
        for (index_t k = LANE_OF(group); k < own; k += group) sum += g[k] * y[k];
        sum = warp_sum(sum, group);
        for (index_t k = LANE_OF(group); k < own; k += group) slope[k] = (g[k] - sum) * y[k];
    }
}

extern "C" __global__ void log_softmax_backward(
    const REAL* grads, const REAL* saved, REAL* out, index_t rows, index_t length, index_t lanes) {
    int group = (int)lanes;
    FOR_EACH_ROW(row, rows, group) {
        index_t own = row < rows ? length : 0;
        const REAL *g = grads + row * length, *y = saved + row * length;
        REAL *slope = out + row * length, sum = 0;
        for (index_t k = LANE_OF(group); k < own; k += group) sum += g[k];
        sum = warp_sum(sum, group);
        for (index_t k = LANE_OF(group); k < own; k += group) slope[k] = g[k] - exp(y[k]) * sum;
    }
}
