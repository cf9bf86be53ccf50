// Dropout on a CPU, with the numbers of kernels/values.cuh.

#include <ATen/TensorIterator.h>
#include <ATen/Functions.h>

#include <cstring>

#include "autograd.h"
#include "guarded.h"

namespace {
// Blocks that are drawn together, so that the compiler can use the processor's vectors.
constexpr int AT_ONCE = 16;

// Philox 4x32-10 (Salmon et al. 2011) for the blocks from `first` on, eight 16-bit numbers each.
__attribute__((target_clones("avx512f", "avx2", "default"))) void draw(
    uint32_t first, uint32_t row, uint32_t place, uint32_t step, uint64_t seed, uint16_t (*numbers)[8]) {
  uint32_t x[AT_ONCE], y[AT_ONCE], z[AT_ONCE], w[AT_ONCE];
  for (int i = 0; i < AT_ONCE; ++i) x[i] = first + i, y[i] = row, z[i] = place, w[i] = step;
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
    for (int i = 0; i < AT_ONCE; ++i) {
      uint64_t a = uint64_t{0xD2511F53u} * x[i], b = uint64_t{0xCD9E8D57u} * z[i];
      x[i] = static_cast<uint32_t>(b >> 32) ^ y[i] ^ key0;
      z[i] = static_cast<uint32_t>(a >> 32) ^ w[i] ^ key1;
      y[i] = static_cast<uint32_t>(b);
      w[i] = static_cast<uint32_t>(a);
    }
  }
  for (int i = 0; i < AT_ONCE; ++i) {
    uint32_t words[4] = {x[i], y[i], z[i], w[i]};
    std::memcpy(numbers[i], words, sizeof words);
  }
}

template <typename T>
__attribute__((target_clones("avx512f", "avx2", "default"))) void keep(
    const T* x, T* out, const uint16_t* numbers, int64_t count, uint16_t threshold, float scale) {
  using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Wide>(x[i]) * (numbers[i] >= threshold ? scale : 0.0f);
}

template <typename T>
void drop_line(const T* x, T* out, int64_t width, uint32_t block, uint32_t row, const Drop& drop, const int64_t* run) {
  uint16_t numbers[AT_ONCE][8];
  for (int64_t at = 0; at < width; at += AT_ONCE * 8) {
    auto seed = static_cast<uint64_t>(run[0]);
    draw(block + at / 8, row, drop.place, static_cast<uint32_t>(run[1]), seed, numbers);
    keep(x + at, out + at, numbers[0], std::min<int64_t>(AT_ONCE * 8, width - at), drop.threshold(), drop.scale());
  }
}

template <typename T>
at::Tensor dropped(const at::Tensor& given, const Drop& drop, const Lines& layout) {
  auto x = given.contiguous(), out = at::empty_like(x), state = drop.state.contiguous();
  int64_t width = x.size(-1), rows = x.numel() / (width * layout.lines * drop.runs());
  const T* from = x.const_data_ptr<T>();
  const int64_t* runs = state.const_data_ptr<int64_t>();
  // One element a line: libtorch's own threads share the lines.
  auto first_values = out.view({-1, width}).select(1, 0);
  auto iterator = at::TensorIterator::borrowing_nullary_op(first_values);
  T* base = out.data_ptr<T>();
  auto loop = [&](char** data, const int64_t* strides, int64_t size0, int64_t size1) {
    for (int64_t outer = 0; outer < size1; ++outer) {
      for (int64_t inner = 0; inner < size0; ++inner) {
        T* to = reinterpret_cast<T*>(data[0] + outer * strides[1] + inner * strides[0]);
        int64_t index = (to - base) / width, row = index / layout.lines;
        auto block = static_cast<uint32_t>((index % layout.lines + layout.first) * layout.pitch);
        drop_line(from + index * width, to, width, block, row % rows, drop, runs + row / rows * 2);
      }
    }
  };
  iterator.for_each(loop, std::max<int64_t>(1, 32768 / width));
  return out;
}

at::Tensor dropped(const at::Tensor& x, const Drop& drop, const Lines& layout) {
  switch (x.scalar_type()) {
    case at::kFloat: return dropped<float>(x, drop, layout);
    case at::kDouble: return dropped<double>(x, drop, layout);
    case at::kBFloat16: return dropped<at::BFloat16>(x, drop, layout);
    default: TORCH_CHECK(false, "no dropout for ", x.scalar_type());
  }
}

struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& state, int64_t place, double rate,
      int64_t lines, int64_t first, int64_t pitch) {
    Drop drop{state, place, rate};
    Lines layout{lines, first, pitch};
    // The numbers are drawn again in the backward pass: of the step's state as it is now.
    Drop{state.clone(), place, rate}.save(context);
    layout.save(context);
    return dropped(x, drop, layout);
  }
  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto grad = dropped(grads[0], Drop::saved(context), Lines::saved(context));
    return {grad, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};
}  // namespace

extern "C" {

int rb_dropout(
    const at::Tensor* x, const at::Tensor* state, long long place, double rate, long long lines, long long first,
    long long pitch, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(Dropout::apply(*x, *state, place, rate, lines, first, pitch)); });
}
}
