// A linear with a low-rank branch, by libtorch's own products.

#include <ATen/core/dispatch/Dispatcher.h>

#include "lora_linear.h"
#include "guarded.h"

namespace {
bool is_cpu_float(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// x weight^T + bias. libtorch makes float32 products on a CPU with MKL. oneDNN, which it uses for bfloat16, is a tenth
// faster where the processor is not Intel's.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  using Signature = at::Tensor(
      const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
      c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static auto one_dnn = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!one_dnn || !is_cpu_float(x) || x.numel() == 0) return at::linear(x, weight, bias);
  at::AutoDispatchBelowADInplaceOrView below;
  return one_dnn->typed<Signature>().call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

struct Plain : NarrowProducts {
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

  // MKL takes 1.5 to 7 times as long as oneDNN for a matrix of few rows or columns.
  static at::Tensor low(const at::Tensor& x, const at::Tensor& factor) {
    return is_one_run_of_cpu(x) ? product(x, factor, std::nullopt) : NarrowProducts::low(x, factor);
  }

  // oneDNN wants the wide matrix as its weight.
  static at::Tensor over_tokens(const at::Tensor& left, const at::Tensor& right) {
    if (!is_one_run_of_cpu(left)) return NarrowProducts::over_tokens(left, right);
    bool is_left_wide = left.size(1) > right.size(1);
    const auto &narrow = is_left_wide ? right : left, &wide = is_left_wide ? left : right;
    auto y = product(narrow.t().contiguous(), wide.t(), std::nullopt);
    return is_left_wide ? y.t() : y;
  }

  static bool is_one_run_of_cpu(const at::Tensor& x) { return x.dim() == 2 && is_cpu_float(x); }
};
}  // namespace

extern "C" {

int rb_lora_linear(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* lora_a,
                   const at::Tensor* scaled_b, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(LoraLinear<Plain>::apply(*x, *weight, *bias, *lora_a, *scaled_b)); });
}
}
