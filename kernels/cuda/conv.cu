// Convolution and both its gradients as products (product.cuh) over channels-last images (windows.cuh); and im2col
// and col2im themselves.
#include "common.cuh"
#include "activation.cuh"
#include "product.cuh"
#include "matrix.cuh"
#include "windows.cuh"
#include "conv.cuh"
#include "add_parts.cuh"

// a, b: the operands of the product; sums: the gradient of the bias. A part is `chunk` pixels; its number counts on
// from `part`, of `parts` in all.
#define PARAMETERS                                                                                             \
    const REAL *a, const REAL *b, REAL *out, REAL *sums, SHAPES, index_t chunk, index_t part, index_t parts,   \
        const REAL *bias, index_t code
#define ARGUMENTS a, b, out, sums, GIVEN, chunk, part, parts, bias, code

template <class T>
__device__ __forceinline__ void forward(PARAMETERS, Shared<T>& shared) {
    int Cg = (int)C / (int)groups, Og = (int)O / (int)groups, g = blockIdx.y, terms = (int)(KH * KW) * Cg;
    ByPixels<Windows<false>> left = {windows_over<false>(a, g, OH, OW, GIVEN), terms};
    Finished end = {out + g * Og, O, bias ? bias + g * Og : nullptr, (int)code, O % 4 == 0 && Og % 4 == 0};
    product<T>(left, filters_of(b, g, terms, O, Og), end, (int)(N * OH * OW), Og, terms, shared);
}

// a: the gradient of the result. Where a stride is larger than 1 many of its windows' pixels do not exist, and their
// zeros are multiplied all the same.
template <class T>
__device__ __forceinline__ void grad_input(PARAMETERS, Shared<T>& shared) {
    int Cg = (int)C / (int)groups, Og = (int)O / (int)groups, g = blockIdx.y;
    int terms = (int)(KH * KW) * Og;
    bool vectors = O % 4 == 0 && Og % 4 == 0;
    ByPixels<Windows<true>> left = {
        {a + g * Og, (int)OH, (int)OW, Og, (int)KW, (int)sh, (int)sw, (int)ph, (int)pw, (int)dh, (int)dw,
         (int)(N * H * W), O, Divisor(H, rows), Divisor(W, columns), Divisor(Og, channels), Divisor(KW, taps),
         Divisor(sh, by_sh), Divisor(sw, by_sw), vectors},
        terms};
    TurnedFilters right = {b + g * Og, Cg, terms, O, Divisor(Og, channels), vectors};
    Finished end = {out + g * Cg, C, nullptr, 0, C % 4 == 0 && Cg % 4 == 0};
    product<T>(left, right, end, (int)(N * H * W), Cg, terms, shared);
}

// The gradient of the filters, (KH * KW * C / groups, O), and of the bias. Of several parts, each has its sums behind
// its product.
template <class T>
__device__ __forceinline__ void grad_weight(PARAMETERS, Shared<T>& shared) {
    int Cg = (int)C / (int)groups, Og = (int)O / (int)groups, g = blockIdx.y;
    index_t size = KH * KW * Cg, pixels = N * OH * OW;
    index_t begin = blockIdx.z * chunk;
    int terms = (int)(pixels - begin < chunk ? pixels - begin : chunk);
    REAL* own = out + (part + blockIdx.z) * (size + 1) * O;
    Gradients end;
    end.out = own + g * Og, end.stride = O, end.bias = nullptr, end.code = 0;
    end.vectors = O % 4 == 0 && Og % 4 == 0;
    end.sums = (parts > 1 ? own + size * O : sums) + g * Og;
    ByTaps<Windows<false>> left = {windows_over<false>(a, g, OH, OW, GIVEN), (int)size, (int)begin, terms};
    product<T>(left, filters_of(b + begin * O, g, terms, O, Og), end, (int)size, Og, terms, shared);
}

PRODUCT(forward_small, forward, Small)
PRODUCT(forward_medium, forward, Medium)
PRODUCT(forward_narrow, forward, Narrow)
PRODUCT(forward_large, forward, Large)
PRODUCT(grad_input_small, grad_input, Small)
PRODUCT(grad_input_medium, grad_input, Medium)
PRODUCT(grad_input_narrow, grad_input, Narrow)
PRODUCT(grad_input_large, grad_input, Large)
PRODUCT(grad_weight_small, grad_weight, Small)
PRODUCT(grad_weight_medium, grad_weight, Medium)
PRODUCT(grad_weight_narrow, grad_weight, Narrow)
PRODUCT(grad_weight_large, grad_weight, Large)

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
