// Division of whole numbers by one that many threads divide by: a multiplication and a shift, a fifth of what it costs.
#pragma once

// n / by for 0 <= n < 2^31, as _products.py prepares it: factor = ceil(2^(31 + s) / by) < 2^32, 2^s >= by.
struct Divisor {
    int by;
    unsigned factor;
    int shift;
    __device__ __forceinline__ Divisor(index_t by, index_t packed)
        : by((int)by), factor((unsigned)packed), shift((int)(packed >> 32)) {}
    __device__ __forceinline__ int operator()(int n, int& rest) const {
        int quotient = (int)((unsigned long long)(unsigned)n * factor >> shift);
        rest = n - quotient * by;
        return quotient;
    }
};
