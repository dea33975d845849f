// The kernels of conv.cu on tensor cores: see tensor.cuh.
#define TENSOR
#include "conv.cu"
