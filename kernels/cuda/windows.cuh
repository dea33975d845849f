// The operands of convolutions as products, over channels-last images: im2col's columns, computed where they are
// read. A term of a row is a tap (f, q) of the window and a channel, the fastest. Four terms are four channels of one
// tap where channels come in fours: then they are read at once. What belongs to a pixel or to a tap is worked out
// once where a thread keeps it, and else by a multiplication each instead of a division.
#pragma once
#include "divisor.cuh"

struct Tap {
    int f, q, channel;
};

// The windows of one group: what they read is `image` (N, H, W, C), of which it has `channels`. Windows go over the
// pixels of a (N, rows, columns) grid.
//   BACK = false: the window of output pixel (y, x) reads image pixel (y sh - ph + f dh, x sw - pw + q dw).
//   BACK = true:  that of input pixel (y, x) reads the output pixel whose tap (f, q) read (y, x), if there is one.
//   POOLED: pixels are numbered by the 2 x 2 pixels of the pooled grid that `rows` and `columns` count.
template <bool BACK, bool POOLED = false>
struct Windows {
    struct Pixel {
        int image;  // the number of its image's first pixel
        int top, left;
    };
    const REAL* image;
    int H, W, channels, KW, sh, sw, ph, pw, dh, dw, pixels;
    index_t C;
    Divisor rows, columns, by_channels, by_taps, by_sh, by_sw;
    bool vectors;

    __device__ __forceinline__ Pixel pixel(int number) const {
        int x, y, part = number % 4;
        int n = rows(columns(POOLED ? number / 4 : number, x), y);
        if (POOLED) y = 2 * y + part / 2, x = 2 * x + part % 2;
        if (BACK) return {n * H * W, y + ph, x + pw};
        return {n * H * W, y * sh - ph, x * sw - pw};
    }
    __device__ __forceinline__ Tap tap(int term) const {
        Tap tap;
        tap.f = by_taps(by_channels(term, tap.channel), tap.q);
        return tap;
    }
    // The number of the pixel that a tap reads, or -1.
    __device__ __forceinline__ int find(const Pixel& pixel, const Tap& tap) const {
        int y, x, rest_y = 0, rest_x = 0;
        if (BACK) {
            y = pixel.top - tap.f * dh, x = pixel.left - tap.q * dw;
            if (y < 0 || x < 0) return -1;
            y = by_sh(y, rest_y), x = by_sw(x, rest_x);
        } else {
            y = pixel.top + tap.f * dh, x = pixel.left + tap.q * dw;
        }
        bool inside = (unsigned)y < (unsigned)H && (unsigned)x < (unsigned)W && rest_y == 0 && rest_x == 0;
        return inside ? pixel.image + y * W + x : -1;
    }
    __device__ __forceinline__ Quad read(const Pixel& pixel, Tap tap, int count) const {
        Quad quad = {};
        if (vectors) {
            int at = count > 0 ? find(pixel, tap) : -1;
            return at < 0 ? quad : *(const Quad*)(image + at * C + tap.channel);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int at = e < count ? find(pixel, tap) : -1;
            if (at >= 0) quad.v[e] = image[at * C + tap.channel];
            if (++tap.channel == channels) {
                tap.channel = 0;
                if (++tap.q == KW) tap.q = 0, tap.f++;
            }
        }
        return quad;
    }
};

// Pixels as rows, taps and channels as terms.
template <class W>
struct ByPixels {
    static constexpr bool ALONG_K = true;
    struct Place {
        typename W::Pixel pixel;
        int first;
    };
    W windows;
    int terms;
    __device__ __forceinline__ Place place(int i, int first) const {
        return {windows.pixel(i < windows.pixels ? i : windows.pixels - 1), first};  // what is behind is dropped
    }
    __device__ __forceinline__ Quad read(const Place& place, int k) const {
        return windows.read(place.pixel, windows.tap(place.first + k), terms - place.first - k);
    }
};

// Taps and channels as rows, pixels from `begin` on as terms.
template <class W>
struct ByTaps {
    static constexpr bool ALONG_K = false;
    struct Place {
        Tap tap;
        int rows, first;
    };
    W windows;
    int rows, begin, terms;
    __device__ __forceinline__ Place place(int i, int first) const { return {windows.tap(i), rows - i, first}; }
    __device__ __forceinline__ Quad read(const Place& place, int k) const {
        int pixel = place.first + k;
        return windows.read(windows.pixel(begin + pixel), place.tap, pixel < terms ? place.rows : 0);
    }
};

// Of filters (KH, KW, channels, O), a channel as row; terms are tap and output of the group, the fastest.
struct TurnedFilters {
    static constexpr bool ALONG_K = true;
    struct Place {
        int channel, first;
    };
    const REAL* filters;  // of this group's first output
    int channels, terms;
    index_t O;
    Divisor by_outputs;
    bool vectors;
    __device__ __forceinline__ Place place(int i, int first) const { return {i, i < channels ? first : terms}; }
    __device__ __forceinline__ Quad read(const Place& place, int k) const {
        int term = place.first + k, output, tap = by_outputs(term, output);
        const REAL* at = filters + ((index_t)tap * channels + place.channel) * O;
        if (vectors) return load(at + output, terms - term, true);
        Quad quad = {};
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (term + e < terms) quad.v[e] = at[output];
            if (++output == by_outputs.by) output = 0, at += channels * O;
        }
        return quad;
    }
};
