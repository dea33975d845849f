// What a recorded training step does beside the network: it fetches its batch and leaves its results, at places that
// follow from the number of the step. `position`: that number, and how many random streams were given before it.
#include "common.cuh"

// Rows `order[i]` (null: i) of `rows`, i = the examples of this step. A row is `width` words.
#define GATHER(name, word)                                                                              \
    extern "C" __global__ void name(                                                                    \
        const word* rows, word* out, const index_t* order, const index_t* position, index_t batch,      \
        index_t width) {                                                                                \
        index_t first = *position * batch;                                                              \
        FOR_EACH(i, batch * width) {                                                                    \
            index_t row = first + i / width;                                                            \
            out[i] = rows[(order ? order[row] : row) * width + i % width];                              \
        }                                                                                               \
    }

GATHER(gather_int64, long long)
GATHER(gather_int32, int)
GATHER(gather_uint8, unsigned char)

// The outputs of this step go behind those of the steps before it.
extern "C" __global__ void keep(const REAL* from, REAL* to, const index_t* position, index_t count) {
    FOR_EACH(i, count) to[*position * count + i] = from[i];
}

// Keeps (loss, penalty) of this step and goes on to the next; `penalty` may be null.
extern "C" __global__ void finish(
    const double* loss, const double* penalty, double* losses, index_t* position, index_t streams) {
    if (blockIdx.x || threadIdx.x) return;
    index_t step = position[0];
    losses[2 * step] = *loss;
    losses[2 * step + 1] = penalty ? *penalty : 0;
    position[0] = step + 1;
    position[1] += streams;
}
