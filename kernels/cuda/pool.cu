// Max and average pooling over channels-last images: a thread for each result, or for 4 channels of it, of which it
// reads and writes 16 bytes at once; neighbouring threads for neighbouring channels. Gradients are gathered: a pixel
// looks at the windows that may hold it, in one order.
#include "common.cuh"
#include "divisor.cuh"

struct LongDivisor {
    index_t by;
    __device__ __forceinline__ LongDivisor(index_t by, index_t) : by(by) {}
    __device__ __forceinline__ index_t operator()(index_t n, int& rest) const {
        rest = (int)(n % by);
        return n / by;
    }
};

// WIDE: an array has more numbers than 32 bits count. Then a thread has one.
template <class I, class D, int V>
struct Kind {
    typedef I Index;
    typedef D By;
    static constexpr int WIDTH = V;
};
#define FOR_KIND(function, ...)                                     \
    if (wide)                                                       \
        function(Kind<index_t, LongDivisor, 1>(), __VA_ARGS__);     \
    else if (C % 4 == 0)                                            \
        function(Kind<unsigned, Divisor, 4>(), __VA_ARGS__);        \
    else                                                            \
        function(Kind<unsigned, Divisor, 1>(), __VA_ARGS__)

template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Few {
    T v[V];
};
template <int V, class T>
__device__ __forceinline__ const Few<T, V>& few(const T* at) {
    return *(const Few<T, V>*)at;
}

// The thread's results i = (n, y, x, c), V channels each, of a (N, rows, columns, C) array.
#define FOR_EACH_PLACE(rows, columns)                                                                        \
    constexpr int V = K::WIDTH;                                                                              \
    typedef typename K::Index I;                                                                             \
    typename K::By by_packs(C / V, packs), by_columns(columns, across), by_rows(rows, down);                 \
    I count = (I)N * (I)(rows) * (I)(columns) * (I)(C / V), all = (I)gridDim.x * blockDim.x;                 \
    for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += all)
#define PLACE                                                                                                \
    int x, y, pack;                                                                                          \
    I n = by_rows(by_columns(by_packs(i, pack), x), y), c = (I)pack * V

// The divisors: by the packs of channels of a pixel, by the pixels of the results' grid across and down, by strides.
#define WINDOWS                                                                                              \
    index_t N, index_t H, index_t W, index_t C, index_t OH, index_t OW, index_t KH, index_t KW, index_t sh,  \
        index_t sw, index_t ph, index_t pw, index_t packs, index_t across, index_t down, index_t by_sh,      \
        index_t by_sw
#define GIVEN N, H, W, C, OH, OW, KH, KW, sh, sw, ph, pw, packs, across, down, by_sh, by_sw

template <class K>
__device__ __forceinline__ void max_of(K, const REAL* in, REAL* out, int* indices, WINDOWS, int dh, int dw) {
    FOR_EACH_PLACE(OH, OW) {
        PLACE;
        const REAL* image = in + n * (I)H * (I)W * (I)C + c;
        Few<REAL, V> best;
        Few<int, V> where;
        for (int e = 0; e < V; e++) where.v[e] = -1, best.v[e] = 0;
        for (int f = 0; f < (int)KH; f++) {
            int row = y * (int)sh - (int)ph + f * dh;
            if (row < 0 || row >= (int)H) continue;
            for (int q = 0; q < (int)KW; q++) {
                int column = x * (int)sw - (int)pw + q * dw, at = row * (int)W + column;
                if (column < 0 || column >= (int)W) continue;
                Few<REAL, V> value = few<V>(image + (I)at * (I)C);
#pragma unroll
                for (int e = 0; e < V; e++)
                    if (where.v[e] < 0 || value.v[e] > best.v[e] || value.v[e] != value.v[e])
                        best.v[e] = value.v[e], where.v[e] = at;
            }
        }
        *(Few<REAL, V>*)(out + i * V) = best;
        *(Few<int, V>*)(indices + i * V) = where;
    }
}

extern "C" __global__ void max_pool(
    const REAL* in, REAL* out, int* indices, WINDOWS, index_t dh, index_t dw, index_t wide) {
    FOR_KIND(max_of, in, out, indices, GIVEN, (int)dh, (int)dw);
}

// Which windows along an axis may hold a pixel: first ... last.
struct Holders {
    int first, last;
    __device__ __forceinline__ Holders(int pixel, int windows, int span, const Divisor& by_stride, int padding) {
        int end = pixel + padding, rest, until = by_stride(end, rest);
        first = end < span ? 0 : by_stride(end - span, rest) + 1;
        last = until < windows ? until : windows - 1;
    }
};

template <class K>
__device__ __forceinline__ void max_gradients(
    K, const REAL* grads, const int* indices, REAL* out, WINDOWS, int dh, int dw) {
    FOR_EACH_PLACE(H, W) {
        PLACE;
        Holders above(y, OH, dh * ((int)KH - 1) + 1, Divisor(sh, by_sh), ph);
        Holders before(x, OW, dw * ((int)KW - 1) + 1, Divisor(sw, by_sw), pw);
        Few<REAL, V> sum = {};
        for (int oy = above.first; oy <= above.last; oy++)
            for (int ox = before.first; ox <= before.last; ox++) {
                I at = ((n * (I)OH + oy) * (I)OW + ox) * (I)C + c;
                Few<int, V> where = few<V>(indices + at);
                Few<REAL, V> grad = few<V>(grads + at);
#pragma unroll
                for (int e = 0; e < V; e++)
                    if (where.v[e] == y * (int)W + x) sum.v[e] += grad.v[e];
            }
        *(Few<REAL, V>*)(out + i * V) = sum;
    }
}

extern "C" __global__ void max_pool_backward(
    const REAL* grads, const int* indices, REAL* out, WINDOWS, index_t dh, index_t dw, index_t wide) {
    FOR_KIND(max_gradients, grads, indices, out, GIVEN, (int)dh, (int)dw);
}

// The same where nothing is known of the windows: a thread for each channel of `band` pixels of an image, which it
// alone adds to, looks at all windows of the image.
extern "C" __global__ void max_pool_backward_anywhere(
    const REAL* grads, const int* indices, REAL* out, index_t N, index_t C, index_t inputs, index_t outputs,
    index_t band, index_t bands) {
    FOR_EACH(i, N * bands * C) {
        index_t n = i / C / bands, c = i % C;
        int first = (int)(i / C % bands * band), last = (int)(first + band < inputs ? first + band : inputs);
        REAL* image = out + n * inputs * C + c;
        for (int p = first; p < last; p++) image[p * C] = 0;
        for (index_t o = 0; o < outputs; o++) {
            index_t at = (n * outputs + o) * C + c;
            int where = indices[at];
            if (where >= first && where < last) image[where * C] += grads[at];
        }
    }
}

// How many pixels a window counts along an axis, and which of them are in the image: first ... last - 1.
struct Window {
    int first, last, count;
    __device__ __forceinline__ Window(int o, int kernel, int stride, int padding, int size, bool pads) {
        int start = o * stride - padding;
        first = start < 0 ? 0 : start;
        last = start + kernel < size ? start + kernel : size;
        int end = start + kernel < size + padding ? start + kernel : size + padding;
        count = pads ? end - start : last - first;
    }
};

template <class K>
__device__ __forceinline__ void average_of(K, const REAL* in, REAL* out, WINDOWS, bool pads) {
    FOR_EACH_PLACE(OH, OW) {
        PLACE;
        Window rows(y, KH, sh, ph, H, pads), columns(x, KW, sw, pw, W, pads);
        Few<REAL, V> sum = {};
        for (int row = rows.first; row < rows.last; row++)
            for (int column = columns.first; column < columns.last; column++) {
                Few<REAL, V> value = few<V>(in + ((n * (I)H + row) * (I)W + column) * (I)C + c);
                for (int e = 0; e < V; e++) sum.v[e] += value.v[e];
            }
        for (int e = 0; e < V; e++) sum.v[e] /= (REAL)rows.count * (REAL)columns.count;
        *(Few<REAL, V>*)(out + i * V) = sum;
    }
}

extern "C" __global__ void avg_pool(const REAL* in, REAL* out, WINDOWS, index_t pads, index_t wide) {
    FOR_KIND(average_of, in, out, GIVEN, pads != 0);
}

template <class K>
__device__ __forceinline__ void average_gradients(K, const REAL* grads, REAL* out, WINDOWS, bool pads) {
    FOR_EACH_PLACE(H, W) {
        PLACE;
        Holders above(y, OH, KH, Divisor(sh, by_sh), ph), before(x, OW, KW, Divisor(sw, by_sw), pw);
        Few<REAL, V> sum = {};
        for (int oy = above.first; oy <= above.last; oy++)
            for (int ox = before.first; ox <= before.last; ox++) {
                Window rows(oy, KH, sh, ph, H, pads), columns(ox, KW, sw, pw, W, pads);
                REAL share = 1 / ((REAL)rows.count * (REAL)columns.count);
                Few<REAL, V> grad = few<V>(grads + ((n * (I)OH + oy) * (I)OW + ox) * (I)C + c);
                for (int e = 0; e < V; e++) sum.v[e] += grad.v[e] * share;
            }
        *(Few<REAL, V>*)(out + i * V) = sum;
    }
}

extern "C" __global__ void avg_pool_backward(const REAL* grads, REAL* out, WINDOWS, index_t pads, index_t wide) {
    FOR_KIND(average_gradients, grads, out, GIVEN, pads != 0);
}
