// Multiply-adds that wait for nothing but each other: what float arithmetic can reach on this device.

#define SUMS 16  // independent ones of a thread: as many as hide an instruction's latency

extern "C" __global__ void multiply_add(float* out, long long steps) {
    float sums[SUMS], step = threadIdx.x * 1e-3f;
#pragma unroll
    for (int i = 0; i < SUMS; ++i) sums[i] = step * i;
    for (long long s = 0; s < steps; ++s) {
#pragma unroll
        for (int i = 0; i < SUMS; ++i) sums[i] = sums[i] * 0.999f + step;
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < SUMS; ++i) sum += sums[i];
    out[(long long)blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
