// Convolution and both its gradients as products (product.cuh) over channels-last images, with im2col's columns
// computed where they are read; and im2col and col2im themselves.
//
// A block's group is blockIdx.z, or of the gradient of a weight, blockIdx.z % groups; its part of the reduction
// is blockIdx.z / groups.
#include "common.cuh"
#include "activation.cuh"
#include "product.cuh"

// The shapes: x (N, H, W, C), out (N, OH, OW, O), filters (KH, KW, C / groups, O).
#define SHAPES                                                                                             \
    index_t N, index_t H, index_t W, index_t C, index_t OH, index_t OW, index_t O, index_t KH, index_t KW, \
        index_t sh, index_t sw, index_t ph, index_t pw, index_t dh, index_t dw, index_t groups
#define GIVEN N, H, W, C, OH, OW, O, KH, KW, sh, sw, ph, pw, dh, dw, groups

struct Shapes {
    index_t N, H, W, C, OH, OW, O, KH, KW, sh, sw, ph, pw, dh, dw, groups;
};

// im2col: the number that tap and channel `k` = (f, q, c) of the window of output pixel `pixel` reads.
struct Windows {
    const REAL* x;  // of this group's first channel
    Shapes s;
    index_t channels;  // of a group
    bool along_k;
    __device__ __forceinline__ REAL read(index_t pixel, index_t k) const {
        index_t c = k % channels, q = k / channels % s.KW, f = k / channels / s.KW;
        index_t ox = pixel % s.OW, oy = pixel / s.OW % s.OH, n = pixel / s.OW / s.OH;
        index_t row = oy * s.sh - s.ph + f * s.dh, column = ox * s.sw - s.pw + q * s.dw;
        if (row < 0 || row >= s.H || column < 0 || column >= s.W) return 0;
        return x[((n * s.H + row) * s.W + column) * s.C + c];
    }
    __device__ __forceinline__ REAL operator()(index_t pixel, index_t k) const { return read(pixel, k); }
};

// The same, taps and channels as rows and pixels as the reduction.
struct TurnedWindows : Windows {
    __device__ __forceinline__ REAL operator()(index_t k, index_t pixel) const { return read(pixel, k); }
};

// The gradients that input pixel `pixel` sent something to: of output channel o through tap (f, q), k = (f, q, o).
struct Receivers {
    const REAL* grad;  // of this group's first channel
    Shapes s;
    index_t channels;  // of a group
    bool along_k;
    __device__ __forceinline__ REAL operator()(index_t pixel, index_t k) const {
        index_t o = k % channels, q = k / channels % s.KW, f = k / channels / s.KW;
        index_t column = pixel % s.W, row = pixel / s.W % s.H, n = pixel / s.W / s.H;
        index_t y = row + s.ph - f * s.dh, x = column + s.pw - q * s.dw;
        if (y < 0 || x < 0 || y % s.sh || x % s.sw) return 0;
        y /= s.sh, x /= s.sw;
        return y < s.OH && x < s.OW ? grad[((n * s.OH + y) * s.OW + x) * s.O + o] : (REAL)0;
    }
};

// The filters for that: k = (f, q, o), and input channel c.
struct TurnedFilters {
    const REAL* weight;  // of this group's first output channel
    index_t channels, outputs, O;
    bool along_k;
    __device__ __forceinline__ REAL operator()(index_t k, index_t c) const {
        return weight[(k / outputs * channels + c) * O + k % outputs];
    }
};

extern "C" __global__ void forward(
    const REAL* x, const REAL* weight, REAL* out, SHAPES, const REAL* bias, index_t has_bias, index_t code) {
    __shared__ Tiles tiles;
    index_t Cg = C / groups, Og = O / groups, g = blockIdx.z;
    Windows windows = {x + g * Cg, {GIVEN}, Cg, true};
    Matrix filters = {weight + g * Og, O, 1, false};
    Rows rows = {out + g * Og, O, has_bias ? bias + g * Og : nullptr, (int)code};
    product(windows, filters, rows, N * OH * OW, Og, 0, KH * KW * Cg, tiles);
}

extern "C" __global__ void grad_input(const REAL* grad, const REAL* weight, REAL* out, SHAPES) {
    __shared__ Tiles tiles;
    index_t Cg = C / groups, Og = O / groups, g = blockIdx.z;
    Receivers receivers = {grad + g * Og, {GIVEN}, Og, true};
    TurnedFilters filters = {weight + g * Og, Cg, Og, O, true};
    Rows rows = {out + g * Cg, C, nullptr, 0};
    product(receivers, filters, rows, N * H * W, Cg, 0, KH * KW * Og, tiles);
}

// `out`: for each of the parts (KH * KW * C / groups, O).
extern "C" __global__ void grad_weight(const REAL* x, const REAL* grad, REAL* out, SHAPES, index_t parts) {
    __shared__ Tiles tiles;
    index_t Cg = C / groups, Og = O / groups, g = blockIdx.z % groups, part = blockIdx.z / groups;
    index_t rows_count = KH * KW * Cg, pixels = N * OH * OW;
    TurnedWindows windows;
    windows.x = x + g * Cg;
    windows.s = {GIVEN};
    windows.channels = Cg;
    windows.along_k = false;
    Matrix grads = {grad + g * Og, O, 1, false};
    Rows rows = {out + part * rows_count * O + g * Og, O, nullptr, 0};
    product(windows, grads, rows, rows_count, Og, part * pixels / parts, (part + 1) * pixels / parts, tiles);
}

ADD_PARTS
COLUMN_SUMS

// cols (N, C, KH, KW, OH, OW) of x (N, C, H, W).
extern "C" __global__ void im2col(
    const REAL* x, REAL* cols, index_t N, index_t C, index_t H, index_t W, index_t OH, index_t OW, index_t KH,
    index_t KW, index_t sh, index_t sw, index_t ph, index_t pw, index_t dh, index_t dw) {
    FOR_EACH(i, N * C * KH * KW * OH * OW) {
        index_t ox = i % OW, oy = i / OW % OH, q = i / OW / OH % KW, f = i / OW / OH / KW % KH;
        index_t plane = i / OW / OH / KW / KH, row = oy * sh - ph + f * dh, column = ox * sw - pw + q * dw;
        bool inside = row >= 0 && row < H && column >= 0 && column < W;
        cols[i] = inside ? x[(plane * H + row) * W + column] : (REAL)0;
    }
}

// Its adjoint: each pixel gathers what the taps that read it hold.
extern "C" __global__ void col2im(
    const REAL* cols, REAL* x, index_t N, index_t C, index_t H, index_t W, index_t OH, index_t OW, index_t KH,
    index_t KW, index_t sh, index_t sw, index_t ph, index_t pw, index_t dh, index_t dw) {
    FOR_EACH(i, N * C * H * W) {
        index_t column = i % W, row = i / W % H, plane = i / W / H;
        REAL sum = 0;
        for (index_t f = 0; f < KH; f++)
            for (index_t q = 0; q < KW; q++) {
                index_t y = row + ph - f * dh, z = column + pw - q * dw;
                if (y < 0 || z < 0 || y % sh || z % sw || y / sh >= OH || z / sw >= OW) continue;
                sum += cols[(((plane * KH + f) * KW + q) * OH + y / sh) * OW + z / sw];
            }
        x[i] = sum;
    }
}
