// What the kernels of conv.cu and conv_pool.cu are told. A block's group is blockIdx.y, its part of the reduction
// blockIdx.z. Each divisor comes as _products.py packs it.
#pragma once

// x (N, H, W, C), out (N, OH, OW, O), filters (KH, KW, C / groups, O). `rows`, `columns`: divisors by those of the
// grid that the windows go over; `channels`: by those of a group of what windows read; `taps`: by KW.
#define SHAPES                                                                                                 \
    index_t N, index_t H, index_t W, index_t C, index_t OH, index_t OW, index_t O, index_t KH, index_t KW,     \
        index_t sh, index_t sw, index_t ph, index_t pw, index_t dh, index_t dw, index_t groups, index_t rows,  \
        index_t columns, index_t channels, index_t taps, index_t by_sh, index_t by_sw

// The windows over x of group g, for each of the pixels of a grid of (N, grid_rows, grid_columns), or 4 pixels.
template <bool POOLED>
__device__ __forceinline__ Windows<false, POOLED> windows_over(
    const REAL* x, int g, index_t grid_rows, index_t grid_columns, SHAPES) {
    int Cg = (int)C / (int)groups;
    return {
        x + g * Cg, (int)H, (int)W, Cg, (int)KW, (int)sh, (int)sw, (int)ph, (int)pw, (int)dh, (int)dw,
        (int)(N * grid_rows * grid_columns * (POOLED ? 4 : 1)), C, Divisor(grid_rows, rows),
        Divisor(grid_columns, columns), Divisor(Cg, channels), Divisor(KW, taps), Divisor(sh, by_sh),
        Divisor(sw, by_sw), C % 4 == 0 && Cg % 4 == 0};
}
#define GIVEN                                                                                                  \
    N, H, W, C, OH, OW, O, KH, KW, sh, sw, ph, pw, dh, dw, groups, rows, columns, channels, taps, by_sh, by_sw

__device__ __forceinline__ Columns filters_of(const REAL* filters, int g, int terms, index_t O, int Og) {
    Columns columns(filters + g * Og, O, Og, terms);
    columns.vectors = O % 4 == 0 && Og % 4 == 0;
    return columns;
}
