// Low-rank branches of one run, or of stacked runs.
#pragma once

#include <ATen/Functions.h>

#include "autograd.h"

namespace {
// x as the stack of its runs where there are several: [runs, rows, width].
at::Tensor stacked(const at::Tensor& x, const at::Tensor& lora_a) {
  return lora_a.dim() == 3 ? x.view({lora_a.size(0), -1, x.size(-1)}) : x;
}

// y += left right, for one run's matrices or a stack of them.
void add_product(at::Tensor& y, const at::Tensor& left, const at::Tensor& right) {
  if (left.dim() == 3) {
    y.view({left.size(0), left.size(1), right.size(2)}).baddbmm_(left, right);
  } else {
    y.addmm_(left, right);
  }
}

// Products of a branch by libtorch.
struct NarrowProducts {
  // x factor^T.
  static at::Tensor low(const at::Tensor& x, const at::Tensor& factor) {
    return at::matmul(x, factor.transpose(-1, -2));
  }
  // left^T right, a sum over tokens.
  static at::Tensor over_tokens(const at::Tensor& left, const at::Tensor& right) {
    return at::matmul(left.transpose(-1, -2), right);
  }
};

// A linear with a low-rank branch as one differentiable function. What would be a sum of two gradients is one product,
// and only low = x A^T is kept. Weight and bias get gradients where they need them.
// `Products` makes the products: `output` is x weight^T + bias + low U^T, `input` is grad weight + d_low A; and, of
// NarrowProducts or in their place, those with r columns.
template <typename Products>
struct LoraLinear : torch::autograd::Function<LoraLinear<Products>> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
      const at::Tensor& lora_a, const at::Tensor& scaled_b) {
    auto low = Products::low(stacked(x, lora_a), lora_a);
    context->save_for_backward({x, weight, lora_a, scaled_b, low});
    return Products::output(x, weight, bias, low, scaled_b);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &lora_a = saved[2], &scaled_b = saved[3], &low = saved[4];
    auto grad = grads[0].contiguous(), of_runs = stacked(grad, lora_a);
    auto d_low = Products::low(of_runs, scaled_b.transpose(-1, -2));
    auto d_scaled_b = Products::over_tokens(of_runs, low);
    auto d_lora_a = Products::over_tokens(d_low, stacked(x, lora_a));
    at::Tensor d_x;
    if (context->needs_input_grad(0)) d_x = Products::input(grad, weight, d_low, lora_a);
    at::Tensor d_weight, d_bias;
    if (context->needs_input_grad(1)) d_weight = at::matmul(grad.t(), x);
    if (context->needs_input_grad(2)) d_bias = grad.sum(0);
    return {d_x, d_weight, d_bias, d_lora_a, d_scaled_b};
  }
};
}  // namespace
