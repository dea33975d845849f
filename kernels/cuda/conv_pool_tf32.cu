// The kernels of conv_pool.cu on tensor cores: see tensor.cuh.
#define TENSOR
#include "conv_pool.cu"
