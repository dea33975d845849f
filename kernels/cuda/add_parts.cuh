// The kernel behind a product whose terms were cut into parts: `parts` arrays of size + rest numbers, added in order,
// the first `size` numbers to `out`, finished by a bias and an activation, the rest to `behind`.
#pragma once

extern "C" __global__ void add_parts(
    const REAL* from, index_t parts, REAL* out, index_t size, REAL* behind, index_t rest, const REAL* bias,
    index_t columns, index_t code) {
    FOR_EACH(i, size + rest) {
        REAL total = 0;
#pragma unroll 8  // so many are under way at once
        for (int part = 0; part < (int)parts; part++) total += from[part * (size + rest) + i];
        if (columns) total += bias[i % columns];
        (i < size ? out[i] : behind[i - size]) = activated(total, (int)code);
    }
}
