// What a recorded training step does beside the network: it fetches its batch and leaves its results, at places that
// follow from `position`, the number of the step.
#include "common.cuh"

// Copies rows `order[i]` (null: i) of `rows`, i = the examples of this step, each of so many bytes: a warp for a row.
template <class Word>
__device__ __forceinline__ void gather(
    const unsigned char* rows, unsigned char* out, const index_t* order, const index_t* position, index_t batch,
    index_t bytes) {
    index_t first = *position * batch, width = bytes / (index_t)sizeof(Word);
    FOR_EACH_ROW(i, batch, 32) {
        index_t row = order ? order[first + i] : first + i;
        const Word* from = (const Word*)(rows + row * bytes);
        Word* to = (Word*)(out + i * bytes);
        for (index_t k = LANE_OF(32); k < width; k += 32) to[k] = from[k];
    }
}

#define GATHER(name, word)                                                                                     \
    extern "C" __global__ void name(                                                                           \
        const unsigned char* rows, unsigned char* out, const index_t* order, const index_t* position,          \
        index_t batch, index_t bytes) {                                                                        \
        gather<word>(rows, out, order, position, batch, bytes);                                                \
    }

// By the bytes of a word, which those of a row must be a multiple of.
GATHER(gather_16, Pack)
GATHER(gather_8, long long)
GATHER(gather_4, int)
GATHER(gather_1, unsigned char)

// The outputs of this step go behind those of the steps before it, from the start again after `capacity` steps.
extern "C" __global__ void keep(
    const REAL* from, REAL* to, const index_t* position, index_t count, index_t capacity) {
    REAL* place = to + *position % capacity * count;
    FOR_EACH(i, count) place[i] = from[i];
}

// Keeps (loss, penalty) of this step, which used `given` random streams, and goes on to the next. `penalty` may be
// null.
extern "C" __global__ void finish(
    const double* loss, const double* penalty, double* losses, index_t* position, index_t* streams, index_t given) {
    if (blockIdx.x || threadIdx.x) return;
    index_t step = *position;
    losses[2 * step] = *loss;
    losses[2 * step + 1] = penalty ? *penalty : 0;
    *position = step + 1;
    *streams += given;
}
