// What the project's differentiable functions share.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

namespace {
// Dropout at one place of the network: what is kept is a function of each run's seed and step (`state`, [runs, 2], int64),
// of the place, and of a value's row, line and column.
struct Drop {
  at::Tensor state;
  int64_t place;
  double rate;

  // Of 65,536 equally likely numbers, those below it drop a value.
  unsigned threshold() const { return static_cast<unsigned>(std::lround(rate * 65536.0)); }
  float scale() const { return 65536.0f / static_cast<float>(65536 - threshold()); }
  int64_t runs() const { return state.size(0); }

  void save(torch::autograd::AutogradContext* context) const {
    context->saved_data["state"] = state;
    context->saved_data["place"] = place;
    context->saved_data["rate"] = rate;
  }
  static Drop saved(torch::autograd::AutogradContext* context) {
    auto& data = context->saved_data;
    return {data["state"].toTensor(), data["place"].toInt(), data["rate"].toDouble()};
  }
};

// How numbers are laid over [runs * rows * lines, width]: the number of a row's first line, and numbers a line.
struct Lines {
  int64_t lines, first, pitch;

  void save(torch::autograd::AutogradContext* context) const {
    context->saved_data["lines"] = std::vector<int64_t>{lines, first, pitch};
  }
  static Lines saved(torch::autograd::AutogradContext* context) {
    auto values = context->saved_data["lines"].toIntVector();
    return {values[0], values[1], values[2]};
  }
};

// Dropout by a device's own way to drop values; the gradient's pass is the same function of the gradient. The step must not
// go on between the two: its numbers are drawn again.
template <at::Tensor (*dropped)(const at::Tensor&, const Drop&, const Lines&)>
struct DropoutBy : torch::autograd::Function<DropoutBy<dropped>> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& state, int64_t place, double rate,
      int64_t lines, int64_t first, int64_t pitch) {
    Drop drop{state, place, rate};
    Lines layout{lines, first, pitch};
    drop.save(context);
    layout.save(context);
    return dropped(x, drop, layout);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    torch::autograd::variable_list result(7);
    result[0] = dropped(grads[0], Drop::saved(context), Lines::saved(context));
    return result;
  }
};
}  // namespace
