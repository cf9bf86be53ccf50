// Attention, kernels/attention.cu.
#pragma once

#include <ATen/Functions.h>

#include "../kernels/attention_traits.h"
#include "launch.h"

namespace {
// Attention of q, k and v in `projected`, [tokens, 3 width]. What is written may be columns of wider matrices. Rows
// have `length` tokens each, or those that `cu_seqlens` says, [rows + 1], int32; `mask`, [rows, .., length], may be
// undefined then.
struct AttentionPass {
  at::Tensor mask, cu_seqlens;
  int64_t rows, length;
  DropoutSpec drop;
  int64_t heads;
  double scale;

  static Launch grid(int64_t x, int64_t y, int64_t z, long shared_values) {
    auto size = [](int64_t n) { return static_cast<unsigned>(n); };
    return {{size(x), size(y), size(z)}, {attention_traits::THREADS}, attention_traits::VALUE_BYTES * shared_values};
  }

  // Tokens of `projected` that are not of out are distances.
  AttentionParams params_of(const at::Tensor& projected, const at::Tensor& out, int64_t grad_pitch) const {
    int64_t distances = projected.size(0) - out.size(0);
    TORCH_CHECK(distances == 0 || distances == 2 * length * drop.runs(), "attention: ", distances,
                " distances, expected ", 2 * length * drop.runs(), " or none");
    return {static_cast<int>(rows / drop.runs()), static_cast<int>(heads), static_cast<int>(length), distances > 0,
            static_cast<int>(out.stride(0)), static_cast<int>(grad_pitch), static_cast<float>(scale),
            static_cast<const int*>(pointer(cu_seqlens)), static_cast<int>(out.size(0))};
  }

  // Blocks for every row, and with cu_seqlens for the tokens that no row has.
  int64_t grid_rows() const { return rows + cu_seqlens.defined(); }

  // Writes out, [tokens, width], and returns the logarithms of the weights' sums.
  at::Tensor forward(const at::Tensor& projected, at::Tensor& out) const {
    auto shape = params_of(projected, out, 0);
    int64_t head = projected.size(1) / 3 / heads;
    auto log_sum = at::empty({rows, heads, length}, projected.options().dtype(at::kFloat));
    attention_traits::SharedMemory shared{head, shape.has_positions != 0};
    launch("attention_forward", std::to_string(head),
           grid(ceil_div(length, attention_traits::TILE), heads, grid_rows(), shared.forward()), pointer(projected),
           pointer(mask), pointer(out), pointer(log_sum), params(drop), shape);
    return log_sum;
  }

  // Writes the gradient of projected.
  void backward(const at::Tensor& projected, const at::Tensor& out, const at::Tensor& grad, const at::Tensor& log_sum,
                at::Tensor& d_projected) const {
    auto shape = params_of(projected, out, d_projected.stride(0));
    int64_t width = projected.size(1) / 3, head = width / heads, tiles = ceil_div(length, attention_traits::TILE);
    attention_traits::SharedMemory shared{head, shape.has_positions != 0};
    auto of_head = std::to_string(head);
    auto d_scores = at::empty({rows, heads, length, attention_traits::aligned(length)}, projected.options());
    launch("attention_backward_keys", of_head, grid(tiles, heads, grid_rows(), shared.backward_keys()),
           pointer(projected), pointer(mask), pointer(out), pointer(grad), pointer(log_sum), pointer(d_projected),
           pointer(d_scores), params(drop), shape);
    // As many chunks of rows as give every processor a block; they are summed in one order.
    int runs = drop.runs(), chunk_rows = ceil_div(shape.rows, ceil_div(8, runs));
    int count = shape.has_positions ? ceil_div(shape.rows, chunk_rows) : 0;
    auto partial = at::empty({count, runs, 2 * length, 2 * width}, log_sum.options());
    RowChunks chunks{static_cast<float*>(partial.data_ptr()), runs, count, chunk_rows};
    int64_t distance_blocks =
        static_cast<int64_t>(count) * runs * 2 * heads * ceil_div(2 * length, attention_traits::TILE);
    launch("attention_backward_queries", of_head,
           grid(distance_blocks + tiles * heads * rows, 1, 1, shared.backward_queries()), pointer(projected),
           pointer(d_scores), pointer(d_projected), chunks, shape);
    if (shape.has_positions) {
      launch("attention_backward_distances", of_head, grid(2 * length, runs, 1, 0), pointer(d_projected), chunks,
             shape);
    }
  }
};

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& given, const at::Tensor& mask,
                            const at::Tensor& state, int64_t stream, double p, int64_t heads, double scale) {
    auto projected = given.contiguous();
    auto masked = mask.to(given.scalar_type()).contiguous();
    AttentionPass attention{masked, at::Tensor(), mask.size(0), mask.size(-1), {state, stream, p}, heads, scale};
    auto out = at::empty({mask.size(0) * mask.size(-1), projected.size(1) / 3}, projected.options());
    auto log_sum = attention.forward(projected, out);
    context->save_for_backward({projected, attention.mask, out, log_sum});
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    attention.drop.save(context);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const auto& mask = saved[1];
    AttentionPass attention{mask, at::Tensor(), mask.size(0), mask.size(-1), DropoutSpec::saved(context),
                            data["heads"].toInt(), data["scale"].toDouble()};
    auto d_projected = at::empty_like(saved[0]);
    attention.backward(saved[0], saved[2], grads[0].contiguous(), saved[3], d_projected);
    torch::autograd::variable_list result(7);
    result[0] = d_projected;
    return result;
  }
};
}  // namespace
