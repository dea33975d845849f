// The kernels of linear.cu on tensor cores: see tensor.cuh.
#define TENSOR
#include "linear.cu"
