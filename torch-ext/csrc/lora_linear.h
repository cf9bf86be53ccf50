// What every low-rank branch does, for one run or for several side by side.
#pragma once

#include <ATen/Functions.h>

#include "autograd.h"

namespace {
// x as the stack of its runs where there are several: [runs, rows, width].
at::Tensor stacked(const at::Tensor& x, const at::Tensor& a) {
  return a.dim() == 3 ? x.view({a.size(0), -1, x.size(-1)}) : x;
}

// y += left right, for one run's matrices or a stack of them.
void add_product(at::Tensor& y, const at::Tensor& left, const at::Tensor& right) {
  if (left.dim() == 3) {
    y.view({left.size(0), left.size(1), right.size(2)}).baddbmm_(left, right);
  } else {
    y.addmm_(left, right);
  }
}

// A linear with a low-rank branch, as one differentiable function: what would be a sum of two gradients is one product, and
// nothing but the branch's narrow middle is kept. The linear is frozen in most uses; where it is not, its gradients are made. How the wide products are made is the device's own:
// Products::output is x weight^T + bias + low up^T, and Products::input is grad weight + d_low a.
template <typename Products>
struct LoraLinear : torch::autograd::Function<LoraLinear<Products>> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
      const at::Tensor& a, const at::Tensor& up) {
    auto low = at::matmul(stacked(x, a), a.transpose(-1, -2));
    context->save_for_backward({x, weight, a, up, low});
    return Products::output(x, weight, bias, low, up);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &a = saved[2], &up = saved[3], &low = saved[4];
    auto grad = grads[0].contiguous(), of_runs = stacked(grad, a);
    auto d_low = at::matmul(of_runs, up);
    auto d_up = at::matmul(of_runs.transpose(-1, -2), low);
    auto d_a = at::matmul(d_low.transpose(-1, -2), stacked(x, a));
    at::Tensor d_x;
    if (context->needs_input_grad(0)) d_x = Products::input(grad, weight, d_low, a);
    at::Tensor d_weight, d_bias;
    if (context->needs_input_grad(1)) d_weight = at::matmul(grad.t(), x);
    if (context->needs_input_grad(2)) d_bias = grad.sum(0);
    return {d_x, d_weight, d_bias, d_a, d_up};
  }
};
}  // namespace
