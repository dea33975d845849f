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
    Finished end = {out, O, bias, (int)code, O % 4 == 0 && Og % 4 == 0, g * Og};
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
    Finished end = {out, C, nullptr, 0, C % 4 == 0 && Cg % 4 == 0, g * Cg};
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
    end.out = own, end.stride = O, end.bias = nullptr, end.code = 0;
    end.vectors = O % 4 == 0 && Og % 4 == 0, end.first = g * Og;
    end.sums = parts > 1 ? own + size * O : sums;
    ByTaps<Windows<false>> left = {windows_over<false>(a, g, OH, OW, GIVEN), (int)size, (int)begin, terms};
    product<T>(left, filters_of(b + begin * O, g, terms, O, Og), end, (int)size, Og, terms, shared);
}

PRODUCT(forward_slim, forward, Slim)
PRODUCT(forward_small, forward, Small)
PRODUCT(forward_medium, forward, Medium)
PRODUCT(forward_narrow, forward, Narrow)
PRODUCT(forward_large, forward, Large)
PRODUCT(grad_input_slim, grad_input, Slim)
PRODUCT(grad_input_small, grad_input, Small)
PRODUCT(grad_input_medium, grad_input, Medium)
PRODUCT(grad_input_narrow, grad_input, Narrow)
PRODUCT(grad_input_large, grad_input, Large)
PRODUCT(grad_weight_slim, grad_weight, Slim)
PRODUCT(grad_weight_small, grad_weight, Small)
PRODUCT(grad_weight_medium, grad_weight, Medium)
PRODUCT(grad_weight_narrow, grad_weight, Narrow)
PRODUCT(grad_weight_large, grad_weight, Large)

// cols (N, C, KH, KW, OH, OW) of x (N, C, H, W). I: unsigned, or index_t where 32 bits cannot count the numbers.
#define COLUMNS                                                                                                \
    index_t N, index_t C, index_t H, index_t W, index_t OH, index_t OW, index_t KH, index_t KW, index_t sh,    \
        index_t sw, index_t ph, index_t pw, index_t dh, index_t dw
#define COUNTED(I, i, count)                                                                                   \
    for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < (I)(count); i += (I)gridDim.x * blockDim.x)

template <class I>
__device__ __forceinline__ void fill_columns(const REAL* x, REAL* cols, COLUMNS) {
    COUNTED(I, i, N * C * KH * KW * OH * OW) {
        I line = i / (I)OW, tap = line / (I)OH, taps = tap / (I)KW, plane = taps / (I)KH;
        int ox = (int)(i - line * (I)OW), oy = (int)(line - tap * (I)OH);
        int q = (int)(tap - taps * (I)KW), f = (int)(taps - plane * (I)KH);
        int row = oy * (int)sh - (int)ph + f * (int)dh, column = ox * (int)sw - (int)pw + q * (int)dw;
        bool inside = row >= 0 && row < (int)H && column >= 0 && column < (int)W;
        cols[i] = inside ? x[(plane * (I)H + row) * (I)W + column] : (REAL)0;
    }
}

extern "C" __global__ void im2col(const REAL* x, REAL* cols, COLUMNS, index_t wide) {
    if (wide)
        fill_columns<index_t>(x, cols, N, C, H, W, OH, OW, KH, KW, sh, sw, ph, pw, dh, dw);
    else
        fill_columns<unsigned>(x, cols, N, C, H, W, OH, OW, KH, KW, sh, sw, ph, pw, dh, dw);
}

// Its adjoint: each pixel gathers what the taps that read it hold.
template <class I>
__device__ __forceinline__ void gather_columns(const REAL* cols, REAL* x, COLUMNS) {
    COUNTED(I, i, N * C * H * W) {
        I line = i / (I)W, plane = line / (I)H;
        int column = (int)(i - line * (I)W), row = (int)(line - plane * (I)H);
        REAL sum = 0;
        for (int f = 0; f < (int)KH; f++) {
            int y = row + (int)ph - f * (int)dh, oy = y / (int)sh;
            if (y < 0 || oy * (int)sh != y || oy >= (int)OH) continue;
            for (int q = 0; q < (int)KW; q++) {
                int z = column + (int)pw - q * (int)dw, ox = z / (int)sw;
                if (z < 0 || ox * (int)sw != z || ox >= (int)OW) continue;
                sum += cols[(((plane * (I)KH + f) * (I)KW + q) * (I)OH + oy) * (I)OW + ox];
            }
        }
        x[i] = sum;
    }
}

extern "C" __global__ void col2im(const REAL* cols, REAL* x, COLUMNS, index_t wide) {
    if (wide)
        gather_columns<index_t>(cols, x, N, C, H, W, OH, OW, KH, KW, sh, sw, ph, pw, dh, dw);
    else
        gather_columns<unsigned>(cols, x, N, C, H, W, OH, OW, KH, KW, sh, sw, ph, pw, dh, dw);
}
