// The activations of one number, for activation.cu and for the ends of the products.
#pragma once

__device__ __forceinline__ REAL relu_of(REAL x) { return x < 0 ? (REAL)0 : x; }  // NaN is not below 0
__device__ __forceinline__ REAL leaky_relu_of(REAL x, REAL slope) { return x > 0 ? x : x * slope; }
__device__ __forceinline__ REAL sigmoid_of(REAL x) { return 1 / (1 + exp(-x)); }
__device__ __forceinline__ REAL normal_cdf(REAL x) { return (REAL)0.5 * erfc(x * (REAL)-0.70710678118654752); }
__device__ __forceinline__ REAL gelu_of(REAL x) { return x * normal_cdf(x); }
__device__ __forceinline__ REAL tanh_inner(REAL x) {
    return (REAL)0.79788456080286536 * (x * (1 + (REAL)0.044715 * (x * x)));
}

// By the code that linear.py and conv.py give: 0 none, 1 relu, 2 leaky_relu, 3 sigmoid, 4 tanh, 5 gelu.
__device__ __forceinline__ REAL activated(REAL x, int code) {
    switch (code) {
        case 1: return relu_of(x);
        case 2: return leaky_relu_of(x, (REAL)0.01);
        case 3: return sigmoid_of(x);
        case 4: return tanh(x);
        case 5: return gelu_of(x);
    }
    return x;
}
