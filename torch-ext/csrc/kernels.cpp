// The project's kernels as functions for Rust, differentiable where they have gradients. Every function gives 0, or -1
// with the message in rb_kernel_error(). No header of CUDA is needed: launch.h.

#include <algorithm>
#include <memory>
#include <numeric>

#include "../kernels/adamw_lists.h"
#include "../kernels/position_bias_traits.h"
#include "adalora.h"
#include "attention.h"
#include "encoder_layer.h"
#include "gemm_3xf16.h"
#include "guarded.h"
#include "norm.h"

namespace {
using position_bias_traits::THREAD_ROWS;
using position_bias_traits::TILE;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PositionBias : torch::autograd::Function<PositionBias> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& c, const at::Tensor& p,
                            const at::Tensor& mask) {
    int heads = c.size(0), rows = mask.size(0), length = mask.size(3);
    TORCH_CHECK(c.sizes() == p.sizes() && c.size(1) == rows * length && c.size(2) == 2 * length,
                "position_bias: shapes");
    auto contents = c.contiguous(), positions = p.contiguous(), masked = mask.to(c.scalar_type()).contiguous();
    auto out = at::empty({rows, heads, length, length}, c.options());
    auto tiles = ceil_div(length, TILE);
    Launch how{{tiles, tiles, static_cast<unsigned>(rows * heads)}, {TILE, THREAD_ROWS}};
    launch("position_bias_forward", variant(c), how, pointer(contents), pointer(positions), pointer(masked),
           pointer(out), rows, heads, length);
    context->saved_data["length"] = static_cast<int64_t>(length);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    auto grad = grads[0].contiguous();
    int rows = grad.size(0), heads = grad.size(1), length = context->saved_data["length"].toInt();
    auto dc = at::empty({heads, static_cast<int64_t>(rows) * length, 2 * length}, grad.options());
    auto dp = at::empty_like(dc);
    Launch how{{ceil_div(2 * length, TILE), ceil_div(length, TILE), static_cast<unsigned>(rows * heads)},
               {TILE, THREAD_ROWS}};
    launch("position_bias_backward", variant(grad), how, pointer(grad), pointer(dc), pointer(dp), rows, heads, length);
    return {dc, dp, at::Tensor()};
  }
};

at::Tensor dropped(const at::Tensor& given, const DropoutSpec& drop, const CounterLayout& layout) {
  auto x = given.contiguous(), out = at::empty_like(x);
  long count = x.numel();
  int width = x.size(-1), tokens = layout.tokens, first = layout.first, pitch = layout.pitch, per_row = layout.per_row;
  int rows = count / (static_cast<int64_t>(width) * tokens * drop.runs());
  TORCH_CHECK(width % 8 == 0, "dropout: a width of ", width);
  Launch how{{ceil_div(count, 8 * 256)}, {256}};
  launch("dropout", variant(x), how, pointer(x), pointer(out), params(drop), count, rows, tokens, first, pitch, per_row,
         width);
  return out;
}

using Dropout = DropoutBy<dropped>;

float* floats(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous(), "a tensor of an update: flat float32 values");
  return tensor.data_ptr<float>();
}

AdamWUpdate adamw_update(const at::Tensor* const* tensors, const double* numbers) {
  auto at = [=](int index) { return floats(*tensors[index]); };
  double beta1 = numbers[0], beta2 = numbers[1];
  return {at(0), at(1), at(2), at(3), at(4), reinterpret_cast<const long long*>(tensors[5]->data_ptr()), at(6),
          tensors[0]->numel(), static_cast<float>(1.0 - beta1), static_cast<float>(beta2),
          static_cast<float>(1.0 - beta2), static_cast<float>(numbers[2]), static_cast<int>(numbers[3])};
}
}  // namespace

extern "C" {

const char* rb_kernel_error() { return last_error.c_str(); }

int rb_position_bias(const at::Tensor* c, const at::Tensor* p, const at::Tensor* mask, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(PositionBias::apply(*c, *p, *mask)); });
}

int rb_cuda_dropout(
    const at::Tensor* x, const at::Tensor* state, long long stream, double p, long long tokens, long long first,
    long long pitch, long long per_row, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(Dropout::apply(*x, *state, stream, p, tokens, first, pitch, per_row)); });
}

// In float32 (ADR 0019).
int rb_lora_linear_3xf16(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                         const at::Tensor* lora_a, const at::Tensor* scaled_b, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(LoraLinear<Gemm3xF16>::apply(*x, *weight, *bias, *lora_a, *scaled_b)); });
}

int rb_drop_add_norm(
    const at::Tensor* x, const at::Tensor* residual, const at::Tensor* weight, const at::Tensor* bias,
    const at::Tensor* state, long long stream, double p, double eps, long long length, at::Tensor** out) {
  return guarded([=] {
    *out = new at::Tensor(DropAddNorm::apply(*x, *residual, *weight, *bias, *state, stream, p, eps, length));
  });
}

int rb_attention(
    const at::Tensor* projected, const at::Tensor* mask, const at::Tensor* state, long long stream, double p,
    long long heads, double scale, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(Attention::apply(*projected, *mask, *state, stream, p, heads, scale)); });
}

// Tensors and numbers in the order of LayerParams.
int rb_layer(const at::Tensor* const* tensors, const double* numbers, at::Tensor** out) {
  return guarded([=] {
    auto params = c10::make_intrusive<LayerParams>(tensors, numbers);
    // Weight, bias, A and U of each linear.
    const auto* const* of = tensors + 6;
    *out = new at::Tensor(FusedLayer::apply(
        *tensors[0], *of[2], *of[3], *of[6], *of[7], *of[10], *of[11], *of[14], *of[15], params));
  });
}

// The gradients of run after run, counts[run] of each.
int rb_clip(
    const at::Tensor* const* grads, const int* counts, const double* bounds, int runs, at::Tensor** out) {
  return guarded([=] {
    int all = std::accumulate(counts, counts + runs, 0);
    auto is_shorter = [](const at::Tensor* one, const at::Tensor* other) { return one->numel() < other->numel(); };
    int blocks = std::min(256u, ceil_div((*std::max_element(grads, grads + all, is_shorter))->numel(), 256));
    auto options = grads[0]->options();
    auto partial = at::empty({all, blocks}, options), result = at::empty({runs, 2}, options);
    for (int first = 0; first < all; first += Gradients::MOST) {
      Gradients some;
      int count = std::min(all - first, Gradients::MOST);
      for (int i = 0; i < count; ++i) some.of[i] = {floats(*grads[first + i]), grads[first + i]->numel()};
      Launch how{{static_cast<unsigned>(blocks), static_cast<unsigned>(count)}, {256}};
      launch("square_sums", "f32", how, some, pointer(partial[first]));
    }
    ClippedRuns some;
    some.starts[0] = 0;
    for (int first = 0; first < runs; first += ClippedRuns::MOST) {
      int count = std::min(runs - first, ClippedRuns::MOST);
      for (int i = 0; i < count; ++i) {
        some.starts[i + 1] = some.starts[i] + counts[first + i] * blocks;
        some.bounds[i] = static_cast<float>(bounds[first + i]);
      }
      launch("clip_factor", "f32", {{static_cast<unsigned>(count)}, {256}}, some, pointer(partial),
             pointer(result[first]));
      some.starts[0] = some.starts[count];
    }
    *out = new at::Tensor(result);
  });
}

// A [runs, k, rank, d_in] and B [runs, k, d_out, rank] of shape after shape.
int rb_gram_distance(const at::Tensor* const* factors, int count, at::Tensor** out) {
  return guarded([=] {
    std::vector<at::Tensor> all;
    for (int i = 0; i < count; ++i) all.push_back(*factors[i]);
    *out = new at::Tensor(GramDistance::apply(at::TensorList(all)));
  });
}

int rb_component_scores(const at::Tensor* average, const at::Tensor* uncertainty, const long long* shapes, int count,
                        int rank, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(component_scores(*average, *uncertainty, shapes, count, rank)); });
}

// Average and uncertainty of |values * grads|.
int rb_importance(const at::Tensor* const* tensors, double beta1, double beta2) {
  return guarded([=] {
    auto at = [=](int index) { return pointer(*tensors[index]); };
    long count = tensors[0]->numel();
    launch("importance", "f32", {{ceil_div(count, 256)}, {256}}, at(0), at(1), at(2), at(3), count,
           static_cast<float>(1.0 - beta1), static_cast<float>(1.0 - beta2));
  });
}

// Of each update: values, gradient, moments, table, step, factor; decays of the moments, epsilon, place of the weight decay.
int rb_adamw(const at::Tensor* const* tensors, const double* numbers, int all) {
  return guarded([=] {
    constexpr int TENSORS = 7, NUMBERS = 4;
    // Blocks of all tensors together: what a GPU has at once, several times.
    constexpr unsigned BLOCKS = 16384;
    for (int first = 0; first < all; first += AdamWUpdates::MOST) {
      AdamWUpdates some;
      int count = std::min(all - first, AdamWUpdates::MOST);
      long longest = 0;
      for (int i = 0; i < count; ++i) {
        some.of[i] = adamw_update(tensors + TENSORS * (first + i), numbers + NUMBERS * (first + i));
        longest = std::max(longest, some.of[i].count);
      }
      auto blocks = std::min(ceil_div(longest, 256), BLOCKS / count);
      launch("adamw", "f32", {{blocks, static_cast<unsigned>(count)}, {256}}, some);
    }
  });
}
}
