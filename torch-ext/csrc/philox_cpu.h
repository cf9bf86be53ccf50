// Numbers of dropout on a CPU: those of kernels/philox.cuh.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#define RB_AVX512 __attribute__((target("avx512f")))
#endif

#include "../kernels/dropout_traits.h"

namespace {
// Whether the processor has AVX-512, for which there are functions of their own.
inline bool has_avx512() {
#ifdef __x86_64__
  static const bool has = __builtin_cpu_supports("avx512f");
  return has;
#else
  return false;
#endif
}

// Philox 4x32-10 (Salmon et al. 2011) for AT_ONCE blocks from `first` on, eight 16-bit numbers each.
struct Philox {
  // Blocks that are drawn together.
  static constexpr int AT_ONCE = 16;
  uint32_t row, stream, step, key0, key1;
  static constexpr uint32_t MULTIPLIERS[2] = {dropout_traits::MULTIPLIER_0, dropout_traits::MULTIPLIER_1};
  static constexpr uint32_t STEPS[2] = {dropout_traits::WEYL_0, dropout_traits::WEYL_1};

  void draw(uint32_t first, uint16_t (*numbers)[8]) const {
#ifdef __x86_64__
    if (has_avx512()) return draw_avx512(first, numbers);
#endif
    for (int i = 0; i < AT_ONCE; ++i) {
      uint32_t x = first + i, y = row, z = stream, w = step, k0 = key0, k1 = key1;
      for (int round = 0; round < dropout_traits::ROUNDS; ++round, k0 += STEPS[0], k1 += STEPS[1]) {
        uint64_t a = uint64_t{MULTIPLIERS[0]} * x, b = uint64_t{MULTIPLIERS[1]} * z;
        x = static_cast<uint32_t>(b >> 32) ^ y ^ k0, y = static_cast<uint32_t>(b);
        z = static_cast<uint32_t>(a >> 32) ^ w ^ k1, w = static_cast<uint32_t>(a);
      }
      uint32_t words[4] = {x, y, z, w};
      std::memcpy(numbers[i], words, sizeof words);
    }
  }

#ifdef __x86_64__
  // High and low words of sixteen products.
  RB_AVX512 static void product(__m512i x, uint32_t by, __m512i& high, __m512i& low) {
    auto factor = _mm512_set1_epi64(by);
    auto even = _mm512_mul_epu32(x, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
    high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
    low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
  }

  RB_AVX512 void draw_avx512(uint32_t first, uint16_t (*numbers)[8]) const {
    // In the order in which the words' transposition below leaves them.
    auto order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    auto x = _mm512_add_epi32(_mm512_set1_epi32(first), order), y = _mm512_set1_epi32(row);
    auto z = _mm512_set1_epi32(stream), w = _mm512_set1_epi32(step);
    uint32_t k0 = key0, k1 = key1;
    for (int round = 0; round < dropout_traits::ROUNDS; ++round, k0 += STEPS[0], k1 += STEPS[1]) {
      __m512i high0, low0, high1, low1;
      product(x, MULTIPLIERS[0], high0, low0);
      product(z, MULTIPLIERS[1], high1, low1);
      x = _mm512_xor_si512(_mm512_xor_si512(high1, y), _mm512_set1_epi32(k0)), y = low1;
      z = _mm512_xor_si512(_mm512_xor_si512(high0, w), _mm512_set1_epi32(k1)), w = low0;
    }
    auto xy0 = _mm512_unpacklo_epi32(x, y), xy1 = _mm512_unpackhi_epi32(x, y);
    auto zw0 = _mm512_unpacklo_epi32(z, w), zw1 = _mm512_unpackhi_epi32(z, w);
    __m512i blocks[4] = {_mm512_unpacklo_epi64(xy0, zw0), _mm512_unpackhi_epi64(xy0, zw0),
                         _mm512_unpacklo_epi64(xy1, zw1), _mm512_unpackhi_epi64(xy1, zw1)};
    std::memcpy(numbers, blocks, sizeof blocks);
  }
#endif
};
}  // namespace
