// Max and average pooling over channels-last images: a thread for each result, neighbouring threads for neighbouring
// channels. The gradient of the maxima has a thread for each channel of an image, which adds one gradient after the
// other: indices may name a pixel more than once, and sums have one order.
#include "common.cuh"

// Of result number i of an (N, OH, OW, C) array: image, row, column and channel.
#define PLACE_OF(i)                                                                                  \
    index_t c = (i) % C, ox = (i) / C % OW, oy = (i) / C / OW % OH, n = (i) / C / OW / OH;           \
    (void)ox, (void)oy

extern "C" __global__ void max_pool(
    const REAL* in, REAL* out, int* indices, index_t N, index_t H, index_t W, index_t C, index_t OH, index_t OW,
    index_t KH, index_t KW, index_t sh, index_t sw, index_t ph, index_t pw, index_t dh, index_t dw) {
    FOR_EACH(i, N * OH * OW * C) {
        PLACE_OF(i);
        const REAL* image = in + n * H * W * C + c;
        REAL best = 0;
        index_t where = -1;
        for (index_t f = 0; f < KH; f++) {
            index_t y = oy * sh - ph + f * dh;
            if (y < 0 || y >= H) continue;
            for (index_t q = 0; q < KW; q++) {
                index_t x = ox * sw - pw + q * dw;
                if (x < 0 || x >= W) continue;
                REAL value = image[(y * W + x) * C];
                if (where < 0 || value > best || value != value) best = value, where = y * W + x;
            }
        }
        out[i] = best;
        indices[i] = (int)where;
    }
}

extern "C" __global__ void max_pool_backward(
    const REAL* grads, const int* indices, REAL* out, index_t N, index_t C, index_t inputs, index_t outputs) {
    FOR_EACH(i, N * C) {
        index_t n = i / C, c = i % C;
        REAL* image = out + n * inputs * C + c;
        for (index_t p = 0; p < inputs; p++) image[p * C] = 0;
        for (index_t o = 0; o < outputs; o++) {
            index_t at = (n * outputs + o) * C + c;
            image[indices[at] * C] += grads[at];
        }
    }
}

// How many pixels a window counts along an axis, and which of them are in the image: first ... last - 1.
struct Window {
    index_t first, last, count;
    __device__ Window(index_t o, index_t kernel, index_t stride, index_t padding, index_t size, index_t pads) {
        index_t start = o * stride - padding;
        first = start < 0 ? 0 : start;
        last = start + kernel < size ? start + kernel : size;
        index_t end = start + kernel < size + padding ? start + kernel : size + padding;
        count = pads ? end - start : last - first;
    }
};

extern "C" __global__ void avg_pool(
    const REAL* in, REAL* out, index_t N, index_t H, index_t W, index_t C, index_t OH, index_t OW, index_t KH,
    index_t KW, index_t sh, index_t sw, index_t ph, index_t pw, index_t pads) {
    FOR_EACH(i, N * OH * OW * C) {
        PLACE_OF(i);
        Window rows(oy, KH, sh, ph, H, pads), columns(ox, KW, sw, pw, W, pads);
        REAL sum = 0;
        for (index_t y = rows.first; y < rows.last; y++)
            for (index_t x = columns.first; x < columns.last; x++) sum += in[((n * H + y) * W + x) * C + c];
        out[i] = sum / (REAL)(rows.count * columns.count);
    }
}

// A thread for each pixel gathers from the windows that it is in.
extern "C" __global__ void avg_pool_backward(
    const REAL* grads, REAL* out, index_t N, index_t H, index_t W, index_t C, index_t OH, index_t OW, index_t KH,
    index_t KW, index_t sh, index_t sw, index_t ph, index_t pw, index_t pads) {
    FOR_EACH(i, N * H * W * C) {
        index_t c = i % C, x = i / C % W, y = i / C / W % H, n = i / C / W / H;
        index_t oy0 = y + ph < KH ? 0 : (y + ph - KH) / sh + 1, ox0 = x + pw < KW ? 0 : (x + pw - KW) / sw + 1;
        REAL sum = 0;
        for (index_t oy = oy0; oy < OH && oy * sh <= y + ph; oy++)
            for (index_t ox = ox0; ox < OW && ox * sw <= x + pw; ox++) {
                Window rows(oy, KH, sh, ph, H, pads), columns(ox, KW, sw, pw, W, pads);
                sum += grads[((n * OH + oy) * OW + ox) * C + c] / (REAL)(rows.count * columns.count);
            }
        out[i] = sum;
    }
}
