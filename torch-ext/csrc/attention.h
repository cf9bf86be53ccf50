// Attention, kernels/attention.cu.
#pragma once

#include <ATen/Functions.h>

#include <algorithm>

#include "launch.h"

namespace {
// Of q, k and v in projected, [lines, 3 width]. What is written may be columns of wider lines. Rows have `length` lines each, or
// those that `starts` say, their first lines and the end of the last, [rows + 1], int32; the mask, [rows, .., length], may be
// undefined then.
struct Attending {
  at::Tensor mask, starts;
  int64_t rows, length;
  Drop drop;
  int64_t heads;
  double scale;

  // As in kernels/attention.cu, the paddings below, too.
  static constexpr int64_t TILE = 64, BAND = 80, MARGIN = 16;

  struct Shape {
    int rows, heads, length, has_positions, out_pitch, grad_pitch;
    float scale;
    const void* starts;
    int content_lines;
  };

  struct Chunks {
    float* partial;
    int runs, count, rows;
  };

  // Shared memory of each kernel, in values: tiles of heads, of scores and of bands with their padding.
  struct Bytes {
    int64_t line, square = TILE * (TILE + 8), margins = 2 * MARGIN * (TILE + 8), bands = 2 * TILE * (BAND + 8);
    int64_t distances = 2 * TILE * line;
    bool has_positions;
    Bytes(int64_t head, bool has_positions) : line(head + 8), has_positions(has_positions) {}
    int64_t positions(int64_t values) const { return has_positions ? values : 0; }
    int64_t forward() const { return 2 * (3 * TILE * line + positions(2 * distances) + bands); }
    int64_t keys() const {
      return 2 * (4 * TILE * line + positions(2 * distances) + std::max(bands, 2 * square + margins));
    }
    int64_t queries() const {
      int64_t of_queries = TILE * line + TILE * (TILE + 2 * MARGIN + 8) + positions(distances);
      return 2 * std::max(of_queries, positions(2 * (TILE * line + 2 * square)));
    }
  };

  static Launch how(int64_t x, int64_t y, int64_t z, int64_t bytes) {
    return {dim3(x, y, z), dim3(256), bytes};
  }

  // Lines of `projected` that are not a row's are those of distances.
  Shape shape_of(const at::Tensor& projected, const at::Tensor& out, int64_t grad_pitch) const {
    int64_t distances = projected.size(0) - out.size(0);
    TORCH_CHECK(distances == 0 || distances == 2 * length * drop.runs(), "attention: ", distances, " lines of distances");
    return {static_cast<int>(rows / drop.runs()), static_cast<int>(heads), static_cast<int>(length), distances > 0,
            static_cast<int>(out.stride(0)), static_cast<int>(grad_pitch), static_cast<float>(scale), pointer(starts),
            static_cast<int>(out.size(0))};
  }

  // Blocks for every row, and where rows have starts for the lines that none has.
  int64_t grid_rows() const { return rows + starts.defined(); }

  // Writes out, [lines, width], and gives the logarithms of the weights' sums.
  at::Tensor forward(const at::Tensor& projected, at::Tensor& out) const {
    auto shape = shape_of(projected, out, 0);
    int64_t head = projected.size(1) / 3 / heads;
    auto log_sum = at::empty({rows, heads, length}, projected.options().dtype(at::kFloat));
    auto bytes = Bytes(head, shape.has_positions).forward();
    launch("attention_forward", std::to_string(head), how(ceil_div(length, TILE), heads, grid_rows(), bytes),
           pointer(projected), pointer(mask), pointer(out), pointer(log_sum), Random(drop), shape);
    return log_sum;
  }

  // Writes the gradient of projected.
  void backward(const at::Tensor& projected, const at::Tensor& out, const at::Tensor& grad, const at::Tensor& log_sum,
                at::Tensor& d_projected) const {
    auto shape = shape_of(projected, out, d_projected.stride(0));
    int64_t width = projected.size(1) / 3, tiles = ceil_div(length, TILE);
    Bytes bytes(width / heads, shape.has_positions);
    auto of = std::to_string(width / heads);
    auto d_scores = at::empty({rows, heads, length, (length + 7) / 8 * 8}, projected.options());
    launch("attention_backward_keys", of, how(tiles, heads, grid_rows(), bytes.keys()), pointer(projected), pointer(mask),
           pointer(out), pointer(grad), pointer(log_sum), pointer(d_projected), pointer(d_scores), Random(drop), shape);
    // Rows are shared out so that there are blocks for every processor, and summed in one order.
    int runs = drop.runs(), rows_a_chunk = ceil_div(shape.rows, ceil_div(8, runs));
    int chunks = shape.has_positions ? ceil_div(shape.rows, rows_a_chunk) : 0;
    auto partial = at::empty({chunks, runs, 2 * length, 2 * width}, log_sum.options());
    int64_t of_positions = static_cast<int64_t>(chunks) * runs * 2 * heads * ceil_div(2 * length, TILE);
    Chunks of_chunks{static_cast<float*>(partial.data_ptr()), runs, chunks, rows_a_chunk};
    launch("attention_backward_queries", of, how(of_positions + tiles * heads * rows, 1, 1, bytes.queries()),
           pointer(projected), pointer(d_scores), pointer(d_projected), of_chunks, shape);
    if (shape.has_positions) {
      launch("attention_backward_distances", of, how(2 * length, runs, 1, 0), pointer(d_projected), of_chunks, shape);
    }
  }
};

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& given, const at::Tensor& mask, const at::Tensor& state,
      int64_t place, double rate, int64_t heads, double scale) {
    auto projected = given.contiguous();
    auto masked = mask.to(given.scalar_type()).contiguous();
    Attending attending{masked, at::Tensor(), mask.size(0), mask.size(-1), {state, place, rate}, heads, scale};
    auto out = at::empty({mask.size(0) * mask.size(-1), projected.size(1) / 3}, projected.options());
    auto log_sum = attending.forward(projected, out);
    context->save_for_backward({projected, attending.mask, out, log_sum});
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    attending.drop.save(context);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const auto& mask = saved[1];
    Attending attending{mask, at::Tensor(), mask.size(0), mask.size(-1), Drop::saved(context), data["heads"].toInt(),
                        data["scale"].toDouble()};
    auto d_projected = at::empty_like(saved[0]);
    attending.backward(saved[0], saved[2], grads[0].contiguous(), saved[3], d_projected);
    torch::autograd::variable_list result(7);
    result[0] = d_projected;
    return result;
  }
};
}  // namespace
