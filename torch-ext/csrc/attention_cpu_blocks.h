// Products and rows of attention on a CPU with AVX-512, in float32. Matrices are row by row; widths called padded are
// multiples of LANES, with zeros behind the values.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <limits>

#include "philox_cpu.h"

#ifdef __x86_64__
namespace cpu_blocks {
constexpr int LANES = 16;
constexpr int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

RB_AVX512 inline __m512 load(const float* from) { return _mm512_loadu_ps(from); }
RB_AVX512 inline __m512 load(const at::BFloat16* from) {
  auto bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
RB_AVX512 inline void store(float* to, __m512 x) { _mm512_storeu_ps(to, x); }
// Rounds to nearest, ties to even.
RB_AVX512 inline void store(at::BFloat16* to, __m512 x) {
  auto bits = _mm512_castps_si512(x);
  auto odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  auto rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  auto is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  rounded = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc00000));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// Sizes of a product C [m, n] = A [m, k] B [k, n]: value (i, j) of A lies at i * a_row + j * a_step. n is padded.
struct Product {
  int64_t m, n, k, a_row, a_step, b_row, c_row;
};

template <bool ADDS, int ROWS, int VECTORS>
RB_AVX512 inline void tile(const float* a, const float* b, float* c, const Product& of) {
  __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) sums[i][v] = ADDS ? load(c + i * of.c_row + v * LANES) : _mm512_setzero_ps();
  }
  for (int64_t j = 0; j < of.k; ++j, a += of.a_step, b += of.b_row) {
    __m512 columns[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) columns[v] = load(b + v * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      auto value = _mm512_set1_ps(a[i * of.a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) sums[i][v] = _mm512_fmadd_ps(value, columns[v], sums[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) store(c + i * of.c_row + v * LANES, sums[i][v]);
  }
}

template <bool ADDS, int ROWS, int VECTORS>
RB_AVX512 void columns(const float* a, const float* b, float* c, const Product& of) {
  int64_t i = 0;
  for (; i + ROWS <= of.m; i += ROWS) tile<ADDS, ROWS, VECTORS>(a + i * of.a_row, b, c + i * of.c_row, of);
  for (; i < of.m; ++i) tile<ADDS, 1, VECTORS>(a + i * of.a_row, b, c + i * of.c_row, of);
}

// C = A B, or C += A B.
template <bool ADDS>
RB_AVX512 void multiply(const float* a, const float* b, float* c, const Product& of) {
  int64_t at = 0;
  for (; at + 4 * LANES <= of.n; at += 4 * LANES) columns<ADDS, 6, 4>(a, b + at, c + at, of);
  for (; at + 2 * LANES <= of.n; at += 2 * LANES) columns<ADDS, 8, 2>(a, b + at, c + at, of);
  for (; at < of.n; at += LANES) columns<ADDS, 8, 1>(a, b + at, c + at, of);
}

// e^x for x <= 88, within 2 units of the last place; 0 below -104. The polynomial is that of Cephes' expf.
RB_AVX512 inline __m512 exponential(__m512 x) {
  // Of a NaN and a number the instruction takes its second argument.
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
  auto n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  auto r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  auto y = _mm512_set1_ps(1.9875691500e-4f);
  for (float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(factor));
  }
  y = _mm512_fmadd_ps(y, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_scalef_ps(y, n);
}

// Copies [count, width], `pitch` apart, times `factor`.
template <typename T>
RB_AVX512 void gather(const T* from, int64_t pitch, int64_t count, int64_t width, float factor, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t v = 0; v < width; v += LANES) {
      store(to + i * width + v, _mm512_mul_ps(load(from + i * pitch + v), _mm512_set1_ps(factor)));
    }
  }
}

template <typename T>
RB_AVX512 void scatter(const float* from, int64_t count, int64_t width, float factor, T* to, int64_t pitch) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t v = 0; v < width; v += LANES) {
      store(to + i * pitch + v, _mm512_mul_ps(load(from + i * width + v), _mm512_set1_ps(factor)));
    }
  }
}

// [count, width] to [width, padded count].
inline void transpose(const float* from, int64_t count, int64_t width, float* to) {
  int64_t pitch = padded(count);
  std::fill(to, to + width * pitch, 0.0f);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < width; ++j) to[j * pitch + i] = from[i * width + j];
  }
}

// Values of a row that dropout keeps.
struct Kept {
  const uint16_t* numbers;
  unsigned threshold;
  float scale;

  // x where it is kept, over 1 - p.
  RB_AVX512 inline __m512 of(__m512 x, int64_t at) const {
    auto bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers + at)));
    auto is_kept = _mm512_cmpge_epu32_mask(bits, _mm512_set1_epi32(threshold));
    return _mm512_maskz_mul_ps(is_kept, x, _mm512_set1_ps(scale));
  }
};

// Largest score of a row, and the inverse of the sum of e^(score - largest). Not as one logarithm, in which the sum of a
// row of padding alone would be lost.
struct Sums {
  float largest, inverse;
};

// Softmax of scores + mask and its dropout, in place.
RB_AVX512 inline Sums softmax(float* scores, const float* mask, int64_t count, const Kept& kept) {
  auto largest = _mm512_set1_ps(-std::numeric_limits<float>::infinity()), sums = _mm512_setzero_ps();
  for (int64_t v = 0; v < count; v += LANES) {
    auto x = _mm512_add_ps(load(scores + v), load(mask + v));
    store(scores + v, x);
    largest = _mm512_max_ps(largest, x);
  }
  float top = _mm512_reduce_max_ps(largest);
  for (int64_t v = 0; v < count; v += LANES) {
    auto x = exponential(_mm512_sub_ps(load(scores + v), _mm512_set1_ps(top)));
    store(scores + v, x);
    sums = _mm512_add_ps(sums, x);
  }
  float sum = _mm512_reduce_add_ps(sums);
  Sums found{top, 1 / sum};
  auto factor = _mm512_set1_ps(found.inverse);
  for (int64_t v = 0; v < count; v += LANES) {
    store(scores + v, kept.of(_mm512_mul_ps(load(scores + v), factor), v));
  }
  return found;
}

// From scores and the gradient of the dropped weights: the dropped weights and the scores' gradient, in place.
RB_AVX512 inline void softmax_backward(float* scores, float* grad, const float* mask, const Sums& sums,
                                       int64_t count, const Kept& kept) {
  auto dots = _mm512_setzero_ps();
  for (int64_t v = 0; v < count; v += LANES) {
    auto x = _mm512_add_ps(load(scores + v), load(mask + v));
    auto weight = exponential(_mm512_sub_ps(x, _mm512_set1_ps(sums.largest)));
    weight = _mm512_mul_ps(weight, _mm512_set1_ps(sums.inverse));
    auto d_weight = kept.of(load(grad + v), v);
    store(scores + v, weight);
    store(grad + v, d_weight);
    dots = _mm512_fmadd_ps(weight, d_weight, dots);
  }
  auto dot = _mm512_set1_ps(_mm512_reduce_add_ps(dots));
  for (int64_t v = 0; v < count; v += LANES) {
    auto weight = load(scores + v);
    store(grad + v, _mm512_mul_ps(weight, _mm512_sub_ps(load(grad + v), dot)));
    store(scores + v, kept.of(weight, v));
  }
}
}  // namespace cpu_blocks
#endif
