// A linear with a low-rank branch, by libtorch's own products.

#include <ATen/core/dispatch/Dispatcher.h>

#include "lora_linear.h"
#include "guarded.h"

namespace {
// x weight^T + bias. libtorch makes float32 products on a CPU with MKL. oneDNN, which it uses for bfloat16, is a tenth
// faster where the processor is not Intel's.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  using Signature = at::Tensor(
      const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
      c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static auto one_dnn = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  bool is_supported = one_dnn && x.is_cpu() && x.scalar_type() == at::kFloat && x.numel() > 0;
  if (!is_supported) return at::linear(x, weight, bias);
  at::AutoDispatchBelowADInplaceOrView below;
  return one_dnn->typed<Signature>().call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

struct Plain {
  static at::Tensor output(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& low,
                           const at::Tensor& scaled_b) {
    auto y = product(x, weight, bias);
    add_product(y, low, scaled_b.transpose(-1, -2));
    return y;
  }

  static at::Tensor input(const at::Tensor& grad, const at::Tensor& weight, const at::Tensor& d_low,
                          const at::Tensor& lora_a) {
    auto d_x = product(grad, weight.t(), std::nullopt);
    add_product(d_x, d_low, lora_a);
    return d_x;
  }
};
}  // namespace

extern "C" {

int rb_lora_linear(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* lora_a,
                   const at::Tensor* scaled_b, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(LoraLinear<Plain>::apply(*x, *weight, *bias, *lora_a, *scaled_b)); });
}
}
