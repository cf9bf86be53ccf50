// Dropout + residual + LayerNorm, kernels/norm.cu.
#pragma once

#include <ATen/Functions.h>

#include "../kernels/norm_traits.h"
#include "launch.h"

namespace {
// LayerNorm(dropout(x) + residual) of tokens [tokens, width]; weight and bias are frozen. Residual, out and dx may be
// columns of wider matrices. Tokens are those of [runs * rows, length], or where they are packed those that `indices`
// names, int64.
struct Norm {
  at::Tensor weight, bias, indices;
  DropoutSpec drop;
  // Of one run.
  int64_t rows, length;

  // Needed for the gradient.
  struct Kept {
    at::Tensor sum, mean, rstd;
  };

  static Launch grid(const at::Tensor& x) {
    constexpr int TOKENS = norm_traits::TOKENS_PER_BLOCK;
    return {{ceil_div(x.size(0), TOKENS)}, {TOKENS * norm_traits::WARP}};
  }

  Kept forward(const at::Tensor& x, const at::Tensor& residual, at::Tensor& out, double eps) const {
    auto sum = at::empty_like(x), mean = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
    auto rstd = at::empty_like(mean);
    long tokens = x.size(0);
    int width = x.size(1), run_rows = rows, row_length = length;
    int residual_pitch = residual.stride(0), out_pitch = out.stride(0);
    launch("norm_forward", variant(x), grid(x), pointer(x), pointer(residual), pointer(weight), pointer(bias),
           pointer(sum), pointer(out), pointer(mean), pointer(rstd), params(drop), pointer(indices), tokens, run_rows,
           row_length, width, residual_pitch, out_pitch, static_cast<float>(eps));
    return {sum, mean, rstd};
  }

  // Returns the residual's gradient and writes that of x.
  at::Tensor backward(const at::Tensor& grad, const Kept& kept, at::Tensor& dx) const {
    auto d_residual = at::empty_like(grad);
    long tokens = grad.size(0);
    int width = grad.size(1), run_rows = rows, row_length = length, dx_pitch = dx.stride(0);
    launch("norm_backward", variant(grad), grid(grad), pointer(grad), pointer(kept.sum), pointer(weight),
           pointer(kept.mean), pointer(kept.rstd), pointer(dx), pointer(d_residual), params(drop), pointer(indices),
           tokens, run_rows, row_length, width, dx_pitch);
    return d_residual;
  }
};

struct DropAddNorm : torch::autograd::Function<DropAddNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& residual,
                            const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& state, int64_t stream,
                            double p, double eps, int64_t length) {
    DropoutSpec drop{state, stream, p};
    Norm norm{weight, bias, at::Tensor(), drop, x.size(0) / (length * drop.runs()), length};
    auto out = at::empty(x.sizes(), x.options());
    auto kept = norm.forward(x.contiguous(), residual.contiguous(), out, eps);
    context->save_for_backward({kept.sum, weight, kept.mean, kept.rstd});
    context->saved_data["length"] = length;
    norm.drop.save(context);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    auto grad = grads[0].contiguous(), dx = at::empty_like(grad);
    auto drop = DropoutSpec::saved(context);
    int64_t length = context->saved_data["length"].toInt();
    Norm norm{saved[1], at::Tensor(), at::Tensor(), drop, grad.size(0) / (length * drop.runs()), length};
    torch::autograd::variable_list result(9);
    result[1] = norm.backward(grad, {saved[0], saved[2], saved[3]}, dx);
    result[0] = dx;
    return result;
  }
};
}  // namespace
