// Dropout + residual + LayerNorm, kernels/dropout.cu.
#pragma once

#include <ATen/Functions.h>

#include "launch.h"

namespace {
// LayerNorm(dropout(x) + residual) of hidden states; weight and bias are frozen. Residual, out and dx may be columns of wider
// lines. Lines are those of [runs * rows, length], or where they are packed those that `order` names, [lines], int64.
struct Norm {
  at::Tensor weight, bias, order;
  Drop drop;
  // Of one run.
  int64_t rows, length;

  // What the gradient's pass needs.
  struct Kept {
    at::Tensor sum, mean, deviation;
  };

  // Four warps a block, a row a warp.
  static Launch how(const at::Tensor& x) { return {dim3(ceil_div(x.size(0), 4)), dim3(128)}; }

  Kept forward(const at::Tensor& x, const at::Tensor& residual, at::Tensor& out, double eps) const {
    auto sum = at::empty_like(x), mean = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
    auto deviation = at::empty_like(mean);
    long count = x.size(0);
    int width = x.size(1), of_run = rows, lines = length, residual_pitch = residual.stride(0), out_pitch = out.stride(0);
    launch("norm_forward", variant(x), how(x), pointer(x), pointer(residual), pointer(weight), pointer(bias), pointer(sum),
           pointer(out), pointer(mean), pointer(deviation), Random(drop), pointer(order), count, of_run, lines, width,
           residual_pitch, out_pitch, static_cast<float>(eps));
    return {sum, mean, deviation};
  }

  // Gives the residual's gradient and writes that of x.
  at::Tensor backward(const at::Tensor& grad, const Kept& kept, at::Tensor& dx) const {
    auto d_residual = at::empty_like(grad);
    long count = grad.size(0);
    int width = grad.size(1), of_run = rows, lines = length, dx_pitch = dx.stride(0);
    launch("norm_backward", variant(grad), how(grad), pointer(grad), pointer(kept.sum), pointer(weight), pointer(kept.mean),
           pointer(kept.deviation), pointer(dx), pointer(d_residual), Random(drop), pointer(order), count, of_run, lines,
           width, dx_pitch);
    return d_residual;
  }
};

struct DropAddNorm : torch::autograd::Function<DropAddNorm> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
      const at::Tensor& bias, const at::Tensor& state, int64_t place, double rate, double eps, int64_t length) {
    Drop drop{state, place, rate};
    Norm norm{weight, bias, at::Tensor(), drop, x.size(0) / (length * drop.runs()), length};
    auto out = at::empty(x.sizes(), x.options());
    auto kept = norm.forward(x.contiguous(), residual.contiguous(), out, eps);
    context->save_for_backward({kept.sum, weight, kept.mean, kept.deviation});
    context->saved_data["length"] = length;
    norm.drop.save(context);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    auto grad = grads[0].contiguous(), dx = at::empty_like(grad);
    auto drop = Drop::saved(context);
    int64_t length = context->saved_data["length"].toInt();
    Norm norm{saved[1], at::Tensor(), at::Tensor(), drop, grad.size(0) / (length * drop.runs()), length};
    torch::autograd::variable_list result(9);
    result[1] = norm.backward(grad, {saved[0], saved[2], saved[3]}, dx);
    result[0] = dx;
    return result;
  }
};
}  // namespace
