// Matrices as operands of a product, and where its results go.
#pragma once

__device__ __forceinline__ Quad load(const REAL* at, int count, bool vectors) {
    if (vectors && count >= 4) return *(const Quad*)at;
    Quad quad;
#pragma unroll
    for (int e = 0; e < 4; e++) quad.v[e] = e < count ? at[e] : (REAL)0;
    return quad;
}

// Row i begins at start + i * stride, and its terms follow one another. Behind the last row comes the last again: what
// a tile makes of it is dropped.
struct Rows {
    static constexpr bool ALONG_K = true;
    struct Place {
        const REAL* at;
        int count;  // of terms from there on
    };
    const REAL* start;
    index_t stride;
    int count, terms;
    bool vectors;  // rows begin on 16-byte boundaries
    __device__ __forceinline__ Rows(const REAL* start, index_t stride, int count, int terms)
        : start(start), stride(stride), count(count), terms(terms), vectors(stride % 4 == 0) {}
    __device__ __forceinline__ Place place(int i, int first) const {
        return {start + (i < count ? i : count - 1) * stride + first, terms - first};
    }
    __device__ __forceinline__ Quad read(const Place& place, int k) const {
        return load(place.at + k, place.count - k, vectors);
    }
};

// Term k begins at start + k * stride, and its rows follow one another.
struct Columns {
    static constexpr bool ALONG_K = false;
    struct Place {
        const REAL* at;
        int rows, count;  // rows that there are, and terms from there on
    };
    const REAL* start;
    index_t stride;
    int count, terms;
    bool vectors;
    __device__ __forceinline__ Columns(const REAL* start, index_t stride, int count, int terms)
        : start(start), stride(stride), count(count), terms(terms), vectors(stride % 4 == 0 && count % 4 == 0) {}
    __device__ __forceinline__ Place place(int i, int first) const {
        return {start + first * stride + i, count - i, terms - first};
    }
    __device__ __forceinline__ Quad read(const Place& place, int k) const {
        return load(place.at + k * stride, k < place.count ? place.rows : 0, vectors);
    }
};

// Rows of C, finished by a bias and an activation; column 0 goes to column `first` of `out`: added here, behind the
// product, which has no registers for more addresses.
struct Finished {
    static constexpr int UNIT = 1;
    static constexpr bool SUMS = false;
    REAL* out;
    index_t stride;
    const REAL* bias;  // null: none
    int code;
    bool vectors;
    int first = 0;
    __device__ __forceinline__ void operator()(int m, int n, const Quad (&rows)[1], int count) const {
        Quad quad = rows[0];
        n += first;
        if (bias) {
            Quad more = load(bias + n, count, vectors);
            for (int e = 0; e < 4; e++) quad.v[e] += more.v[e];
        }
        if (code)
            for (int e = 0; e < 4; e++) quad.v[e] = activated(quad.v[e], code);
        REAL* at = out + m * stride + n;
        if (vectors && count >= 4) {
            *(Quad*)at = quad;
            return;
        }
        for (int e = 0; e < 4; e++)
            if (e < count) at[e] = quad.v[e];
    }
};

// Rows of C and the sums of B's columns: the gradients of a weight and of a bias.
struct Gradients : Finished {
    static constexpr bool SUMS = true;
    REAL* sums;
    __device__ __forceinline__ void sum(int n, REAL value) const { sums[first + n] = value; }
};
