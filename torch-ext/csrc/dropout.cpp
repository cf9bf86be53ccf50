// Dropout on a CPU, with the numbers of kernels/philox.cuh.

#include <ATen/TensorIterator.h>
#include <ATen/Functions.h>

#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "../kernels/dropout_traits.h"
#include "autograd.h"
#include "guarded.h"

namespace {
// Blocks that are drawn together.
constexpr int AT_ONCE = 16;

// Philox 4x32-10 (Salmon et al. 2011) for AT_ONCE blocks from `first` on, eight 16-bit numbers each.
struct Philox {
  uint32_t row, stream, step, key0, key1;
  static constexpr uint32_t MULTIPLIERS[2] = {dropout_traits::MULTIPLIER_0, dropout_traits::MULTIPLIER_1};
  static constexpr uint32_t STEPS[2] = {dropout_traits::WEYL_0, dropout_traits::WEYL_1};

  void draw(uint32_t first, uint16_t (*numbers)[8]) const {
#ifdef __x86_64__
    static const bool has_vectors = __builtin_cpu_supports("avx512f");
    if (has_vectors) return draw_avx512(first, numbers);
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
  __attribute__((target("avx512f"))) static void product(__m512i x, uint32_t by, __m512i& high, __m512i& low) {
    auto factor = _mm512_set1_epi64(by);
    auto even = _mm512_mul_epu32(x, factor), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), factor);
    high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
    low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
  }

  __attribute__((target("avx512f"))) void draw_avx512(uint32_t first, uint16_t (*numbers)[8]) const {
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

template <typename T>
__attribute__((target_clones("avx512f", "avx2", "default"))) void keep(
    const T* x, T* out, const uint16_t* numbers, int64_t count, uint16_t threshold, float scale) {
  using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Wide>(x[i]) * (numbers[i] >= threshold ? scale : 0.0f);
}

template <typename T>
void drop_token(const T* x, T* out, int64_t width, uint32_t block, uint32_t row, const DropoutSpec& drop,
                const int64_t* run) {
  uint16_t numbers[AT_ONCE][8];
  auto seed = static_cast<uint64_t>(run[0]);
  Philox philox{row, static_cast<uint32_t>(drop.stream), static_cast<uint32_t>(run[1]), static_cast<uint32_t>(seed),
                static_cast<uint32_t>(seed >> 32)};
  for (int64_t at = 0; at < width; at += AT_ONCE * 8) {
    philox.draw(block + at / 8, numbers);
    keep(x + at, out + at, numbers[0], std::min<int64_t>(AT_ONCE * 8, width - at), drop.threshold(), drop.scale());
  }
}

template <typename T>
at::Tensor dropped_as(const at::Tensor& given, const DropoutSpec& drop, const CounterLayout& layout) {
  auto x = given.contiguous(), out = at::empty_like(x), state = drop.state.contiguous();
  int64_t width = x.size(-1), rows = x.numel() / (width * layout.tokens * drop.runs());
  const T* from = x.const_data_ptr<T>();
  const int64_t* runs = state.const_data_ptr<int64_t>();
  // One element a token: libtorch's own threads share the tokens.
  auto first_values = out.view({-1, width}).select(1, 0);
  auto iterator = at::TensorIterator::borrowing_nullary_op(first_values);
  T* base = out.data_ptr<T>();
  auto loop = [&](char** data, const int64_t* strides, int64_t size0, int64_t size1) {
    for (int64_t outer = 0; outer < size1; ++outer) {
      for (int64_t inner = 0; inner < size0; ++inner) {
        T* to = reinterpret_cast<T*>(data[0] + outer * strides[1] + inner * strides[0]);
        int64_t index = (to - base) / width, row = index / layout.tokens;
        auto block = static_cast<uint32_t>((index % layout.tokens + layout.first) * layout.pitch);
        const int64_t* run = runs + row / rows * 3;
        auto place = static_cast<uint32_t>(row % rows + run[2] * layout.per_row);
        drop_token(from + index * width, to, width, block, place, drop, run);
      }
    }
  };
  iterator.for_each(loop, std::max<int64_t>(1, 32768 / width));
  return out;
}

at::Tensor dropped(const at::Tensor& x, const DropoutSpec& drop, const CounterLayout& layout) {
  switch (x.scalar_type()) {
    case at::kFloat: return dropped_as<float>(x, drop, layout);
    case at::kDouble: return dropped_as<double>(x, drop, layout);
    case at::kBFloat16: return dropped_as<at::BFloat16>(x, drop, layout);
    default: TORCH_CHECK(false, "no dropout for ", x.scalar_type());
  }
}

using Dropout = DropoutBy<dropped>;
}  // namespace

extern "C" {

int rb_dropout(
    const at::Tensor* x, const at::Tensor* state, long long stream, double p, long long tokens, long long first,
    long long pitch, long long per_row, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(Dropout::apply(*x, *state, stream, p, tokens, first, pitch, per_row)); });
}
}
