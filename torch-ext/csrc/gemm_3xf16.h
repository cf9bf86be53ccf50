// float32 products on tensor cores that multiply float16, kernels/gemm_3xf16.cu (ADR 0019).
#pragma once

#include <ATen/Functions.h>

#include <array>

#include "launch.h"
#include "lora_linear.h"

namespace {
// Factor of a product. The order of its parts pairs low with high, high with low, and high with high.
enum class Side { LEFT, RIGHT };

// Three matrices in float16, and the factors that undo their rows' scales.
struct F16Parts {
  at::Tensor halves, unscale;
};

// Writes the parts of [main | beside] (which may be undefined), columns multiplied by `factors` where those are
// defined, from row `first` on: parts `part` values apart, rows `pitch`.
void split_to_f16(
    const at::Tensor& main, const at::Tensor& beside, const at::Tensor& factors, Side side, int64_t first, long part,
    int pitch, const F16Parts& out) {
  int width = main.size(1), beside_width = beside.defined() ? beside.size(1) : 0, is_left = side == Side::LEFT;
  void* halves = static_cast<char*>(out.halves.data_ptr()) + first * pitch * out.halves.element_size();
  void* unscale = out.unscale.data_ptr<float>() + first;
  launch("split_to_f16", "f32", {{static_cast<unsigned>(main.size(0))}, {192}}, pointer(main), pointer(beside),
         pointer(factors), halves, unscale, width, beside_width, part, pitch, is_left);
}

F16Parts empty_parts(std::array<int64_t, 2> size, int64_t rows, const at::Tensor& like) {
  return {at::empty({size[0], size[1]}, like.options().dtype(at::kHalf)), at::empty({rows}, like.options())};
}

// The parts of each row one after the other: [rows, 3 (width + width beside)].
F16Parts parts_in_rows(const at::Tensor& main, const at::Tensor& beside, const at::Tensor& factors, Side side) {
  int64_t width = main.size(1) + (beside.defined() ? beside.size(1) : 0), rows = main.size(0);
  auto out = empty_parts({rows, 3 * width}, rows, main);
  split_to_f16(main, beside, factors, side, 0, width, 3 * width, out);
  return out;
}

// The parts of [main ; below] one below the other: [3 (rows + rows below), width].
F16Parts parts_in_columns(const at::Tensor& main, const at::Tensor& below, Side side) {
  int64_t width = main.size(1), rows = main.size(0) + (below.defined() ? below.size(0) : 0);
  at::Tensor none;
  auto out = empty_parts({3 * rows, width}, rows, main);
  split_to_f16(main, none, none, side, 0, rows * width, width, out);
  if (below.defined()) split_to_f16(below, none, none, side, main.size(0), rows * width, width, out);
  return out;
}

// The product of the parts, unscaled, plus a bias where that is defined.
at::Tensor product(const F16Parts& left, const at::Tensor& right, const at::Tensor& column_factors,
                   const at::Tensor& bias) {
  auto y = mm_f16(left.halves, right);
  int width = y.size(1);
  long groups = y.numel() / 4;
  launch("unscale", "f32", {{ceil_div(groups, 256)}, {256}}, pointer(y), pointer(left.unscale), pointer(column_factors),
         pointer(bias), groups, width);
  return y;
}

// One run's branch is part of an augmented weight [W U; A .]; branches of stacked runs are products of their own.
struct Gemm3xF16 : NarrowProducts {
  static at::Tensor output(
      const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& low,
      const at::Tensor& scaled_b) {
    bool is_stack = low.dim() == 3;
    at::Tensor none;
    auto left = parts_in_rows(x.contiguous(), is_stack ? none : low, none, Side::LEFT);
    auto right = parts_in_rows(weight.contiguous(), is_stack ? none : scaled_b.contiguous(), none, Side::RIGHT);
    auto y = product(left, right.halves.t(), right.unscale, bias);
    if (is_stack) add_product(y, low, scaled_b.transpose(1, 2));
    return y;
  }

  // The sum runs over the weight's rows, whose scales go to the gradient's columns.
  static at::Tensor input(
      const at::Tensor& grad, const at::Tensor& weight, const at::Tensor& d_low, const at::Tensor& lora_a) {
    bool is_stack = d_low.dim() == 3;
    at::Tensor none;
    auto right = parts_in_columns(weight.contiguous(), is_stack ? none : lora_a.contiguous(), Side::RIGHT);
    auto left = parts_in_rows(grad, is_stack ? none : d_low, right.unscale, Side::LEFT);
    auto d_x = product(left, right.halves, none, none);
    if (is_stack) add_product(d_x, d_low, lora_a);
    return d_x;
  }
};
}  // namespace
