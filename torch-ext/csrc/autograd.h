// Dropout's arguments and autograd function, shared by all devices.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

namespace {
// Dropout at one place of the network. Which values it keeps is a function of each run's seed and step, of the stream,
// which is the place's number, and of a value's row, token and column (ADR 0016). `state` has seed, step and the number of
// the batch's first row among those of the step, [runs, 3], int64.
struct DropoutSpec {
  at::Tensor state;
  int64_t stream;
  double p;

  // Of 65,536 equally likely numbers, those below it drop a value.
  unsigned threshold() const { return static_cast<unsigned>(std::lround(p * 65536.0)); }
  float scale() const { return 65536.0f / static_cast<float>(65536 - threshold()); }
  int64_t runs() const { return state.size(0); }

  void save(torch::autograd::AutogradContext* context) const {
    context->saved_data["state"] = state;
    context->saved_data["stream"] = stream;
    context->saved_data["p"] = p;
  }
  static DropoutSpec saved(torch::autograd::AutogradContext* context) {
    auto& data = context->saved_data;
    return {data["state"].toTensor(), data["stream"].toInt(), data["p"].toDouble()};
  }
};

// Counters of values [runs * rows * tokens, width]: token t of a row has those from (first + t) * pitch on, each for
// eight values. A row of the batch has `per_row` rows of values; 0 where all rows of a step share them.
struct CounterLayout {
  int64_t tokens, first, pitch, per_row;

  void save(torch::autograd::AutogradContext* context) const {
    context->saved_data["tokens"] = std::vector<int64_t>{tokens, first, pitch, per_row};
  }
  static CounterLayout saved(torch::autograd::AutogradContext* context) {
    auto values = context->saved_data["tokens"].toIntVector();
    return {values[0], values[1], values[2], values[3]};
  }
};

// Dropout by a device's function `dropped`. The gradient's pass applies the same function to the gradient and draws the
// numbers again, so the step must not advance between the two.
template <at::Tensor (*dropped)(const at::Tensor&, const DropoutSpec&, const CounterLayout&)>
struct DropoutBy : torch::autograd::Function<DropoutBy<dropped>> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& state, int64_t stream, double p,
      int64_t tokens, int64_t first, int64_t pitch, int64_t per_row) {
    DropoutSpec drop{state, stream, p};
    CounterLayout layout{tokens, first, pitch, per_row};
    drop.save(context);
    layout.save(context);
    return dropped(x, drop, layout);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    torch::autograd::variable_list result(8);
    result[0] = dropped(grads[0], DropoutSpec::saved(context), CounterLayout::saved(context));
    return result;
  }
};
}  // namespace
