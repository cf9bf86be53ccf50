// A post-norm transformer layer with a low-rank branch at each linear, as one differentiable function (ADR 0018).
//
// A frozen linear and its branch are one augmented weight [W U; A .]: y = [x | low] [W | U]^T with low = x A^T, and
// dx = [g | d_low] [W ; A] with d_low = g U. Columns for low are reserved behind every x and g, so a branch costs no
// pass over y or dx of its own. With stacked runs the augmented weight has the branches of all, and low and d_low are
// zero but for those of a token's own run. Tokens are those of padded rows, or packed ones and some more that no row
// has, whose gradient is zero.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/custom_class.h>

#include <array>

#include "../kernels/branch_blocks.h"
#include "attention.h"
#include "norm.h"

namespace {
// Rows of `width` values, and columns reserved behind them.
struct AugmentedRows {
  at::Tensor all;
  int64_t width;

  AugmentedRows(at::Tensor all, int64_t width) : all(std::move(all)), width(width) {}
  AugmentedRows(int64_t tokens, int64_t width, int64_t reserved, const at::TensorOptions& options)
      : all(at::empty({tokens, width + reserved}, options)), width(width) {}
  at::Tensor content() const { return all.narrow(1, 0, width); }
  at::Tensor reserved() const { return all.narrow(1, width, all.size(1) - width); }
};

// A frozen linear, [out + rank, in + rank], and its branch: A [rank, in], U [out, rank]. With stacked runs, the A of
// all one below the other and the U side by side.
struct AugmentedLinear {
  at::Tensor augmented, bias, lora_a, scaled_b;
  int64_t runs = 1;
  bool is_stack = false;

  // Branches of stacked runs come as [runs, r, in] and [runs, out, r].
  AugmentedLinear() = default;
  AugmentedLinear(at::Tensor weight, at::Tensor bias, const at::Tensor& a, const at::Tensor& b)
      : augmented(std::move(weight)), bias(std::move(bias)), is_stack(a.dim() == 3) {
    if (is_stack) runs = a.size(0);
    lora_a = a.reshape({-1, a.size(-1)}).contiguous();
    scaled_b = (is_stack ? b.transpose(0, 1).flatten(1) : b).contiguous();
    if (augmented.size(1) < in() + rank()) {
      auto wider = at::empty({out() + rank(), in() + rank()}, augmented.options());
      wider.narrow(0, 0, out()).narrow(1, 0, in()).copy_(block(out(), in()));
      augmented = wider;
    }
  }

  int64_t in() const { return lora_a.size(1); }
  int64_t out() const { return scaled_b.size(0); }
  int64_t rank() const { return lora_a.size(0); }
  at::Tensor block(int64_t rows, int64_t columns) const { return augmented.narrow(0, 0, rows).narrow(1, 0, columns); }

  BranchBlock scaled_b_block() const { return branch_block(scaled_b, augmented.narrow(1, in(), rank())); }
  BranchBlock lora_a_block() const { return branch_block(lora_a, augmented.narrow(0, out(), rank())); }
  static BranchBlock branch_block(const at::Tensor& from, const at::Tensor& to) {
    auto aligned = [](const at::Tensor& x) { return reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0; };
    TORCH_CHECK(from.scalar_type() == to.scalar_type() && aligned(from) && aligned(to), "a branch in ",
                from.scalar_type(), " for a weight in ", to.scalar_type(), ", both must be aligned to 16 bytes");
    return {from.data_ptr(), to.data_ptr(), static_cast<int>(from.size(0)), static_cast<int>(from.size(1)),
            static_cast<int>(to.stride(0))};
  }

  at::Tensor d_lora_a(const at::Tensor& d_low, const at::Tensor& x) const {
    auto all = at::mm(d_low.t(), x);
    return is_stack ? all.view({runs, -1, in()}) : all;
  }

  at::Tensor d_scaled_b(const AugmentedRows& grad, const at::Tensor& low) const {
    auto all = at::mm(grad.content().t(), low);
    return is_stack ? all.view({out(), runs, -1}).transpose(0, 1) : all;
  }

  // The gradient of x, added to `sum` where that is defined.
  at::Tensor d_input(const AugmentedRows& grad, at::Tensor sum) const {
    auto matrix = block(out() + rank(), in());
    return sum.defined() ? sum.addmm_(grad.all, matrix) : at::mm(grad.all, matrix);
  }
};

// Linears of a layer: query, key and value as one; attention's output; intermediate; output.
enum Linear { QKV, ATTENTION_OUTPUT, INTERMEDIATE, OUTPUT, LINEARS };

// Arguments of a pass beside x. Autograd sees the branches by themselves; everything else is frozen.
struct LayerParams : torch::CustomClassHolder {
  // Of packed tokens `indices` names the place of each in [runs * rows, length]. There is a mask where padding is among
  // the tokens.
  at::Tensor distances, indices, cu_seqlens, mask, state;
  std::array<AugmentedLinear, LINEARS> linears;
  std::array<std::array<at::Tensor, 2>, 2> norms;
  // Tokens of x; rows of one run, and their length with padding; attention heads.
  int64_t content, rows, length, heads;
  double scale, eps;
  std::array<DropoutSpec, 3> drops;

  LayerParams(const at::Tensor* const* tensors, const double* numbers) {
    auto next = [&] { return *tensors++ ? *tensors[-1] : at::Tensor(); };
    at::NoGradGuard guard;
    content = next().size(0);
    distances = next(), indices = next(), cu_seqlens = next(), mask = next(), state = next();
    for (auto& linear : linears) {
      auto weight = next(), bias = next(), lora_a = next(), scaled_b = next();
      linear = AugmentedLinear(weight, bias, lora_a, scaled_b);
    }
    for (auto& norm : norms) norm = {next(), next()};
    rows = numbers[0], length = numbers[1], heads = numbers[2], scale = numbers[3], eps = numbers[4];
    for (int i = 0; i < 3; ++i) drops[i] = {state, static_cast<int64_t>(numbers[5 + 2 * i]), numbers[6 + 2 * i]};
    if (distances.defined()) distances = distances.contiguous();
    if (mask.defined()) mask = mask.to(linears[QKV].augmented.scalar_type()).contiguous();
    TORCH_CHECK(cu_seqlens.numel() == rows * runs() + 1, "a layer of ", rows * runs(), " rows with ",
                cu_seqlens.numel(), " values of cu_seqlens, expected one more than rows");
  }

  int64_t runs() const { return linears[QKV].runs; }
  AttentionPass attention() const { return {mask, cu_seqlens, rows * runs(), length, drops[0], heads, scale}; }
  Norm norm(int index) const { return {norms[index][0], norms[index][1], indices, drops[1 + index], rows, length}; }

  void write_branch_blocks(BranchBlock (AugmentedLinear::*block)() const) const {
    BranchBlocks blocks;
    for (int i = 0; i < LINEARS; ++i) blocks.of[i] = (linears[i].*block)();
    launch("write_branch_blocks", variant(linears[QKV].augmented), {{16, LINEARS}, {256}}, blocks);
  }

  // The product of x with a branch's first or second matrix, written to the columns reserved behind x.
  at::Tensor low_product(const AugmentedLinear& linear, const AugmentedRows& x, const at::Tensor& matrix) const {
    auto low = x.reserved();
    at::mm_out(low, x.content(), matrix);
    if (runs() > 1) {
      long count = low.size(0), first_distance = content;
      int run_tokens = rows * length, run_distances = 2 * length, rank = linear.rank() / runs(), all = runs();
      int pitch = low.stride(0);
      launch("mask_other_runs", variant(low), {{ceil_div(count * linear.rank() / 8, 256)}, {256}}, pointer(low),
             pointer(indices), count, first_distance, run_tokens, run_distances, rank, all, pitch);
    }
    return low;
  }

  // y. The gradient needs `low`, which is in the columns reserved behind x.
  at::Tensor forward(const AugmentedLinear& linear, const AugmentedRows& x, at::Tensor& low) const {
    low = low_product(linear, x, linear.lora_a.t());
    return at::addmm(linear.bias, x.all, linear.block(linear.out(), linear.in() + linear.rank()).t());
  }

  // In the columns reserved behind the gradient.
  at::Tensor d_low(const AugmentedLinear& linear, const AugmentedRows& grad) const {
    return low_product(linear, grad, linear.scaled_b);
  }

  // The tokens of x, then the distances.
  AugmentedRows gather(const at::Tensor& x) const {
    long tokens = x.size(0), count = tokens + (distances.defined() ? distances.size(0) : 0);
    AugmentedRows out(count, x.size(1), linears[QKV].rank(), x.options());
    int width = x.size(1), pitch = out.all.size(1);
    launch("gather_tokens", variant(x), {{ceil_div(count * width / 8, 256)}, {256}}, pointer(x), pointer(distances),
           pointer(out.all), count, tokens, width, pitch);
    return out;
  }
};

struct FusedLayer : torch::autograd::Function<FusedLayer> {
  // Tensors that a forward pass saves for the backward pass.
  enum Saved {
    INPUT, PROJECTED, ATTENDED, LOG_SUM,
    FIRST_SUM, FIRST_MEAN, FIRST_RSTD,
    HIDDEN, INNER,
    SECOND_SUM, SECOND_MEAN, SECOND_RSTD,
    LOW,  // one for each linear
    COUNT = LOW + LINEARS
  };
  // Positions of the arguments of `forward` that may need gradients: x, then A and U of every linear.
  static constexpr int X = 0, ARGUMENTS = 2 + 2 * LINEARS;
  static constexpr int lora_a_of(Linear linear) { return 1 + 2 * linear; }
  static constexpr int scaled_b_of(Linear linear) { return 2 + 2 * linear; }

  using Tensors = torch::autograd::variable_list;

  static void gelu(const char* pass, const at::Tensor& inner, at::Tensor& values, const at::Tensor& augmented) {
    long count = inner.size(0);
    int width = inner.size(1), pitch = augmented.size(1);
    launch(pass, variant(inner), {{ceil_div(count * width / 8, 256)}, {256}}, pointer(inner), pointer(values),
           pointer(augmented), count, width, pitch);
  }

  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& given_x, const at::Tensor&, const at::Tensor&,
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      const c10::intrusive_ptr<LayerParams>& params) {
    const auto& [qkv, attention_output, intermediate, output] = params->linears;
    auto x = given_x.contiguous();
    std::array<at::Tensor, LINEARS> low;
    params->write_branch_blocks(&AugmentedLinear::scaled_b_block);

    auto input = params->gather(x);
    params->distances.reset();
    auto projected = params->forward(qkv, input, low[QKV]);
    AugmentedRows attended(x.size(0), x.size(1), attention_output.rank(), x.options());
    auto context_rows = attended.content();
    auto log_sum = params->attention().forward(projected, context_rows);
    AugmentedRows hidden(x.size(0), x.size(1), intermediate.rank(), x.options());
    auto hidden_rows = hidden.content();
    auto first = params->norm(0).forward(
        params->forward(attention_output, attended, low[ATTENTION_OUTPUT]), x, hidden_rows, params->eps);

    auto inner = params->forward(intermediate, hidden, low[INTERMEDIATE]);
    AugmentedRows active(x.size(0), output.in(), output.rank(), x.options());
    at::Tensor none;
    gelu("gelu_forward", inner, none, active.all);
    auto y = params->forward(output, active, low[OUTPUT]);
    // The gradient computes GELU's values again. A view of `active` would keep them.
    low[OUTPUT] = low[OUTPUT].contiguous();
    auto out = at::empty_like(x);
    auto second = params->norm(1).forward(y, hidden.content(), out, params->eps);

    Tensors saved(COUNT);
    saved[INPUT] = input.all, saved[PROJECTED] = projected, saved[ATTENDED] = attended.all, saved[LOG_SUM] = log_sum;
    saved[FIRST_SUM] = first.sum, saved[FIRST_MEAN] = first.mean, saved[FIRST_RSTD] = first.rstd;
    saved[HIDDEN] = hidden.all, saved[INNER] = inner;
    saved[SECOND_SUM] = second.sum, saved[SECOND_MEAN] = second.mean, saved[SECOND_RSTD] = second.rstd;
    for (int i = 0; i < LINEARS; ++i) saved[LOW + i] = low[i];
    context->save_for_backward(std::move(saved));
    context->saved_data["params"] = c10::IValue::make_capsule(params);
    return out;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, Tensors grads) {
    auto params = c10::static_intrusive_pointer_cast<LayerParams>(context->saved_data["params"].toCapsule());
    auto saved = context->get_saved_variables();
    Tensors result(ARGUMENTS);
    params->write_branch_blocks(&AugmentedLinear::lora_a_block);
    // Each half frees its tensors before the other begins.
    auto d_hidden = feed_forward_backward(*params, saved, grads[0].contiguous(), result);
    auto dx = attention_backward(*params, saved, d_hidden, context->needs_input_grad(X), result);
    result[X] = dx;
    return result;
  }

  // Returns the gradient of the hidden tokens between the halves.
  static at::Tensor feed_forward_backward(
      const LayerParams& params, const Tensors& saved, const at::Tensor& grad, Tensors& result) {
    const auto &intermediate = params.linears[INTERMEDIATE], &output = params.linears[OUTPUT];
    const auto& inner = saved[INNER];
    AugmentedRows hidden(saved[HIDDEN], intermediate.in());
    AugmentedRows d_output(grad.size(0), grad.size(1), output.rank(), grad.options());
    auto d_output_rows = d_output.content();
    Norm::Kept kept{saved[SECOND_SUM], saved[SECOND_MEAN], saved[SECOND_RSTD]};
    auto d_hidden = params.norm(1).backward(grad, kept, d_output_rows);
    auto d_low = params.d_low(output, d_output);
    result[scaled_b_of(OUTPUT)] = output.d_scaled_b(d_output, saved[LOW + OUTPUT]);
    // The gradient of GELU's values, which gelu_backward replaces with the values.
    auto active = output.d_input(d_output, at::Tensor());
    AugmentedRows d_inner(grad.size(0), output.in(), intermediate.rank(), grad.options());
    gelu("gelu_backward", inner, active, d_inner.all);
    result[lora_a_of(OUTPUT)] = output.d_lora_a(d_low, active);
    d_low = params.d_low(intermediate, d_inner);
    result[scaled_b_of(INTERMEDIATE)] = intermediate.d_scaled_b(d_inner, saved[LOW + INTERMEDIATE]);
    result[lora_a_of(INTERMEDIATE)] = intermediate.d_lora_a(d_low, hidden.content());
    return intermediate.d_input(d_inner, d_hidden);
  }

  // Returns the gradient of x, where that is needed.
  static at::Tensor attention_backward(
      const LayerParams& params, const Tensors& saved, const at::Tensor& d_hidden, bool needs_input, Tensors& result) {
    const auto &qkv = params.linears[QKV], &attention_output = params.linears[ATTENTION_OUTPUT];
    const auto& projected = saved[PROJECTED];
    AugmentedRows input(saved[INPUT], qkv.in()), attended(saved[ATTENDED], attention_output.in());
    AugmentedRows d_attended(d_hidden.size(0), d_hidden.size(1), attention_output.rank(), d_hidden.options());
    auto d_attended_rows = d_attended.content();
    Norm::Kept kept{saved[FIRST_SUM], saved[FIRST_MEAN], saved[FIRST_RSTD]};
    auto dx = params.norm(0).backward(d_hidden, kept, d_attended_rows);
    auto d_low = params.d_low(attention_output, d_attended);
    result[scaled_b_of(ATTENTION_OUTPUT)] = attention_output.d_scaled_b(d_attended, saved[LOW + ATTENTION_OUTPUT]);
    result[lora_a_of(ATTENTION_OUTPUT)] = attention_output.d_lora_a(d_low, attended.content());
    auto d_context = attention_output.d_input(d_attended, at::Tensor());
    AugmentedRows d_projected(projected.size(0), projected.size(1), qkv.rank(), d_hidden.options());
    auto d_projected_rows = d_projected.content();
    params.attention().backward(projected, attended.content(), d_context, saved[LOG_SUM], d_projected_rows);
    d_low = params.d_low(qkv, d_projected);
    result[scaled_b_of(QKV)] = qkv.d_scaled_b(d_projected, saved[LOW + QKV]);
    result[lora_a_of(QKV)] = qkv.d_lora_a(d_low, input.content());
    // Distances, the last tokens, need no gradient.
    AugmentedRows d_content(d_projected.all.narrow(0, 0, dx.size(0)), d_projected.width);
    return needs_input ? qkv.d_input(d_content, dx) : at::Tensor();
  }
};
}  // namespace
