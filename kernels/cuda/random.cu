// Dropout from the stream that all backends draw: Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011). A thread takes
// one block of the stream, that is four elements in C order.
#include "common.cuh"

typedef unsigned int word;

struct Words {
    word w[4];
};

__device__ __forceinline__ Words philox(Words c, word key0, word key1) {
    for (int round = 0; round < 10; round++) {
        word high0 = __umulhi(0xD2511F53u, c.w[0]), low0 = 0xD2511F53u * c.w[0];
        word high1 = __umulhi(0xCD9E8D57u, c.w[2]), low1 = 0xCD9E8D57u * c.w[2];
        c = {{high1 ^ c.w[1] ^ key0, low1, high0 ^ c.w[3] ^ key1, low0}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// An element stays where its word of stream (seed, offset + *shift) is at least `threshold`, below 2^32. A null
// `shift` is 0.
extern "C" __global__ void dropout(
    const REAL* in, REAL* out, index_t count, index_t threshold, REAL scale, unsigned long long seed,
    unsigned long long offset, const index_t* shift) {
    if (shift) offset += *shift;
    word key0 = (word)seed, key1 = (word)(seed >> 32);
    word offset0 = (word)offset, offset1 = (word)(offset >> 32);
    FOR_EACH(block, (count + 3) / 4) {
        Words drawn = philox({{(word)block, (word)(block >> 32), offset0, offset1}}, key0, key1);
        for (int k = 0; k < 4; k++) {
            index_t i = 4 * block + k;
            if (i < count) out[i] = drawn.w[k] >= (word)threshold ? in[i] * scale : (REAL)0;
        }
    }
}
