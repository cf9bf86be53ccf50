// float32 products on the tensor cores, kernels/gemm_3xf16.cu (ADR 0019).
#pragma once

#include <ATen/Functions.h>

#include <array>

#include "lora_linear.h"
#include "launch.h"

namespace {
// Which factor of a product: the order of its parts pairs low with high, high with low, and high with high.
enum class Side { LEFT, RIGHT };

// Three matrices in float16, and what their lines' values are to be multiplied with.
struct F16Parts {
  at::Tensor halves, unscale;
};

// Writes the parts of [main | beside] (which may be undefined), columns multiplied by `factors` where there are any, from
// line `first` on: part by part `part` values apart, line by line `pitch`.
void split_to_f16(
    const at::Tensor& main, const at::Tensor& beside, const at::Tensor& factors, Side side, int64_t first, long part,
    int pitch, const F16Parts& out) {
  int width = main.size(1), beside_width = beside.defined() ? beside.size(1) : 0, is_left = side == Side::LEFT;
  auto* halves = static_cast<char*>(out.halves.data_ptr()) + first * pitch * out.halves.element_size();
  auto* unscale = out.unscale.data_ptr<float>() + first;
  launch("split_to_f16", "f32", {dim3(main.size(0)), dim3(192)}, pointer(main), pointer(beside), pointer(factors),
         static_cast<void*>(halves), static_cast<void*>(unscale), width, beside_width, part, pitch, is_left);
}

F16Parts empty_f16_parts(std::array<int64_t, 2> size, int64_t lines, const at::Tensor& like) {
  return {at::empty({size[0], size[1]}, like.options().dtype(at::kHalf)), at::empty({lines}, like.options())};
}

// The parts of a line side by side: [lines, 3 (width + width beside)].
F16Parts split_columns(const at::Tensor& main, const at::Tensor& beside, const at::Tensor& factors, Side side) {
  int64_t width = main.size(1) + (beside.defined() ? beside.size(1) : 0), lines = main.size(0);
  auto out = empty_f16_parts({lines, 3 * width}, lines, main);
  split_to_f16(main, beside, factors, side, 0, width, 3 * width, out);
  return out;
}

// The parts of [main ; below] one below the other: [3 (lines + lines below), width].
F16Parts split_rows(const at::Tensor& main, const at::Tensor& below, Side side) {
  int64_t width = main.size(1), lines = main.size(0) + (below.defined() ? below.size(0) : 0);
  auto out = empty_f16_parts({3 * lines, width}, lines, main);
  split_to_f16(main, at::Tensor(), at::Tensor(), side, 0, lines * width, width, out);
  if (below.defined()) split_to_f16(below, at::Tensor(), at::Tensor(), side, main.size(0), lines * width, width, out);
  return out;
}

// The product of the parts, whose columns are unscaled and get a bias where those are given.
at::Tensor product(const F16Parts& left, const at::Tensor& right, const at::Tensor& of_columns, const at::Tensor& bias) {
  auto y = at::mm(left.halves, right, at::kFloat);
  int width = y.size(1);
  long blocks = y.numel() / 4;
  launch("unscale", "f32", {dim3(ceil_div(blocks, 256)), dim3(256)}, pointer(y), pointer(left.unscale), pointer(of_columns),
         pointer(bias), blocks, width);
  return y;
}

// One run's branch is a border of the frozen matrix, [[W, U], [A, .]]; runs side by side have theirs apart.
struct Gemm3xF16 {
  static at::Tensor output(
      const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& low, const at::Tensor& up) {
    bool is_stack = low.dim() == 3;
    at::Tensor none;
    auto left = split_columns(x.contiguous(), is_stack ? none : low, none, Side::LEFT);
    auto right = split_columns(weight.contiguous(), is_stack ? none : up.contiguous(), none, Side::RIGHT);
    auto y = product(left, right.halves.t(), right.unscale, bias);
    if (is_stack) add_product(y, low, up.transpose(1, 2));
    return y;
  }

  // The sum runs over the weight's lines, whose scales go to the gradient's columns.
  static at::Tensor input(const at::Tensor& grad, const at::Tensor& weight, const at::Tensor& d_low, const at::Tensor& a) {
    bool is_stack = d_low.dim() == 3;
    at::Tensor none;
    auto right = split_rows(weight.contiguous(), is_stack ? none : a.contiguous(), Side::RIGHT);
    auto left = split_columns(grad, is_stack ? none : d_low, right.unscale, Side::LEFT);
    auto d_x = product(left, right.halves, none, none);
    if (is_stack) add_product(d_x, d_low, a);
    return d_x;
  }
};
}  // namespace
