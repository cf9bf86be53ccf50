// Dropout on a CPU, with the numbers of kernels/philox.cuh.

#include <ATen/TensorIterator.h>
#include <ATen/Functions.h>

#include "autograd.h"
#include "guarded.h"
#include "philox_cpu.h"

namespace {
template <typename T>
__attribute__((target_clones("avx512f", "avx2", "default"))) void keep(
    const T* x, T* out, const uint16_t* numbers, int64_t count, uint16_t threshold, float scale) {
  using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Wide>(x[i]) * (numbers[i] >= threshold ? scale : 0.0f);
}

template <typename T>
void drop_token(const T* x, T* out, int64_t width, uint32_t block, uint32_t row, const DropoutSpec& drop,
                const int64_t* run) {
  constexpr int VALUES = Philox::AT_ONCE * 8;
  uint16_t numbers[Philox::AT_ONCE][8];
  auto seed = static_cast<uint64_t>(run[0]);
  Philox philox{row, static_cast<uint32_t>(drop.stream), static_cast<uint32_t>(run[1]), static_cast<uint32_t>(seed),
                static_cast<uint32_t>(seed >> 32)};
  for (int64_t at = 0; at < width; at += VALUES) {
    philox.draw(block + at / 8, numbers);
    keep(x + at, out + at, numbers[0], std::min<int64_t>(VALUES, width - at), drop.threshold(), drop.scale());
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
