// A frozen linear with a low-rank branch, as one differentiable function: what would be a sum of two gradients is the second
// product's own, and nothing but the branch's narrow middle is kept.

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "branch.h"
#include "guarded.h"

namespace {
// x weight^T + bias. libtorch gives float32 products on a CPU to MKL; oneDNN, which it gives those in bfloat16, is a tenth
// faster where the processor is not Intel's.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  using Signature = at::Tensor(
      const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
      c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static auto one_dnn = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  bool serves = one_dnn && x.is_cpu() && x.scalar_type() == at::kFloat && x.numel() > 0;
  if (!serves) return at::linear(x, weight, bias);
  at::AutoDispatchBelowADInplaceOrView below;
  return one_dnn->typed<Signature>().call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

struct AdaptedLinear : torch::autograd::Function<AdaptedLinear> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
      const at::Tensor& a, const at::Tensor& up) {
    auto y = product(x, weight, bias);
    auto low = at::matmul(stacked(x, a), a.transpose(-1, -2));
    add_product(y, low, up.transpose(-1, -2));
    context->save_for_backward({x, weight, a, up, low});
    return y;
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
    if (context->needs_input_grad(0)) {
      d_x = product(grad, weight.t(), std::nullopt);
      add_product(d_x, d_low, a);
    }
    return {d_x, at::Tensor(), at::Tensor(), d_a, d_up};
  }
};
}  // namespace

extern "C" {

int rb_adapted_linear(
    const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* a, const at::Tensor* up,
    at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(AdaptedLinear::apply(*x, *weight, *bias, *a, *up)); });
}
}
