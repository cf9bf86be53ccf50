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

#include "../kernels/branches.h"
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

// A frozen linear, [out + ranks, in + ranks], and its branch: A [runs, r, in], U [runs, out, r], or both without the
// first dimension for one run. A stack may be a view with a step of its own from run to run.
struct AugmentedLinear {
  at::Tensor augmented, bias, lora_a, scaled_b;
  // Version of the augmented weight that has this branch.
  int64_t written = -1;

  AugmentedLinear() = default;
  AugmentedLinear(at::Tensor weight, at::Tensor bias, const at::Tensor& a, const at::Tensor& b)
      : augmented(std::move(weight)), bias(std::move(bias)), lora_a(readable(a)), scaled_b(readable(b)) {
    if (augmented.size(1) < in() + ranks()) {
      auto wider = at::empty({out() + ranks(), in() + ranks()}, augmented.options());
      wider.narrow(0, 0, out()).narrow(1, 0, in()).copy_(block(out(), in()));
      augmented = wider;
    }
    bool has_kind = a.scalar_type() == augmented.scalar_type() && b.scalar_type() == augmented.scalar_type();
    TORCH_CHECK(has_kind, "branches in ", a.scalar_type(), " and ", b.scalar_type(), " for a weight in ",
                augmented.scalar_type(), ", expected its own");
  }

  // A matrix whose rows are read eight values at a time.
  static at::Tensor readable(const at::Tensor& x) {
    bool is_aligned = x.stride(-1) == 1 && reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0;
    for (int64_t dim = 0; dim + 1 < x.dim(); ++dim) is_aligned &= x.stride(dim) % 8 == 0;
    return is_aligned ? x : x.clone(at::MemoryFormat::Contiguous);
  }

  int64_t in() const { return lora_a.size(-1); }
  int64_t out() const { return scaled_b.size(-2); }
  int64_t r() const { return lora_a.size(-2); }
  int64_t runs() const { return lora_a.dim() == 3 ? lora_a.size(0) : 1; }
  int64_t ranks() const { return runs() * r(); }
  static int64_t run_stride(const at::Tensor& x) { return x.dim() == 3 ? x.stride(0) : 0; }
  at::Tensor block(int64_t rows, int64_t columns) const { return augmented.narrow(0, 0, rows).narrow(1, 0, columns); }
  // In the augmented weight: A of all runs one below the other, below W, and U side by side, beside W.
  at::Tensor all_lora_a() const { return augmented.narrow(0, out(), ranks()).narrow(1, 0, in()); }
  at::Tensor all_scaled_b() const { return augmented.narrow(1, in(), ranks()).narrow(0, 0, out()); }

  BranchBlock scaled_b_block() const {
    auto block = branch_block(scaled_b, all_scaled_b());
    block.columns_per_run = r();
    return block;
  }
  BranchBlock lora_a_block() const {
    auto block = branch_block(lora_a, all_lora_a());
    block.rows_per_run = r();
    return block;
  }
  BranchBlock branch_block(const at::Tensor& from, const at::Tensor& to) const {
    return {pointer(from), pointer(to), run_stride(from), from.stride(-2), static_cast<int>(runs()),
            static_cast<int>(from.size(-2)), static_cast<int>(from.size(-1)), static_cast<int>(to.stride(0)), 0, 0};
  }

  // The gradient of x, added to `sum` where that is defined.
  at::Tensor d_input(const AugmentedRows& grad, at::Tensor sum) const {
    auto matrix = block(out() + ranks(), in());
    return sum.defined() ? sum.addmm_(grad.all, matrix) : at::mm(grad.all, matrix);
  }

  at::Tensor output(const AugmentedRows& x) const { return at::addmm(bias, x.all, block(out(), in() + ranks()).t()); }
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

  int64_t runs() const { return linears[QKV].runs(); }
  AttentionPass attention() const { return {mask, cu_seqlens, rows * runs(), length, drops[0], heads, scale}; }
  Norm norm(int index) const { return {norms[index][0], norms[index][1], indices, drops[1 + index], rows, length}; }

  // Writes the branches into the augmented weights, unless they are there: another pass may have written its own.
  void write_branches() {
    bool is_written = true;
    for (const auto& linear : linears) is_written &= linear.written == linear.augmented._version();
    if (is_written) return;
    BranchBlocks blocks;
    for (int i = 0; i < LINEARS; ++i) {
      blocks.of[2 * i] = linears[i].scaled_b_block(), blocks.of[2 * i + 1] = linears[i].lora_a_block();
      // Views share the version of their tensor.
      linears[i].augmented.unsafeGetTensorImpl()->bump_version();
    }
    for (auto& linear : linears) linear.written = linear.augmented._version();
    launch("write_branches", variant(linears[QKV].augmented), {{16, 2 * LINEARS}, {256}}, blocks);
  }

  // The product of x with A^T or U, [x's width, ranks], in the columns reserved behind x. Those of other runs are zero.
  void make_low(const AugmentedRows& x, const at::Tensor& matrix) const {
    auto low = x.reserved();
    at::mm_out(low, x.content(), matrix);
    if (runs() > 1) {
      long count = low.size(0), first_distance = content;
      int run_tokens = rows * length, run_distances = 2 * length, rank = low.size(1) / runs(), all = runs();
      int pitch = low.stride(0);
      launch("mask_other_runs", variant(low), {{ceil_div(count * low.size(1) / 8, 256)}, {256}}, pointer(low),
             pointer(indices), count, first_distance, run_tokens, run_distances, rank, all, pitch);
    }
  }

  // The tokens of x, then the distances.
  AugmentedRows gather(const at::Tensor& x) const {
    long tokens = x.size(0), count = tokens + (distances.defined() ? distances.size(0) : 0);
    AugmentedRows out(count, x.size(1), linears[QKV].ranks(), x.options());
    int width = x.size(1), pitch = out.all.size(1);
    launch("gather_tokens", variant(x), {{ceil_div(count * width / 8, 256)}, {256}}, pointer(x), pointer(distances),
           pointer(out.all), count, tokens, width, pitch);
    return out;
  }
};

// Gradients of branches, made by one launch.
class BranchGradientLaunch {
 public:
  BranchGradientLaunch(const LayerParams& params) : params(params) {
    all.cu_seqlens = static_cast<const int*>(pointer(params.cu_seqlens));
    all.rows = params.rows, all.content = params.content, all.run_distances = 2 * params.length;
  }

  // Of A, [r, in] or [runs, r, in].
  at::Tensor lora_a(const AugmentedLinear& linear, const at::Tensor& d_low, const at::Tensor& x) {
    auto out = at::empty(linear.lora_a.sizes(), linear.lora_a.options());
    add(linear, x, d_low, out, out.stride(-2), out.stride(-1));
    return out;
  }
  // Of U, [out, r] or [runs, out, r], the runs side by side in memory as they are beside W.
  at::Tensor scaled_b(const AugmentedLinear& linear, const AugmentedRows& grad, const at::Tensor& low) {
    auto all = at::empty({linear.out(), linear.runs(), linear.r()}, linear.scaled_b.options()).transpose(0, 1);
    auto out = linear.scaled_b.dim() == 3 ? all : all.squeeze(0);
    add(linear, grad.content(), low, out, out.stride(-1), out.stride(-2));
    return out;
  }

  void run() {
    using namespace branch_gradient_traits;
    Launch how{{static_cast<unsigned>(strips), static_cast<unsigned>(params.runs())}, {THREADS}};
    launch("branch_gradients", "bf16", how, all);
  }

 private:
  void add(const AugmentedLinear& linear, const at::Tensor& x, const at::Tensor& low, const at::Tensor& out,
           int64_t rank_stride, int64_t column_stride) {
    all.of[all.count++] = {pointer(x), pointer(low), pointer(out), AugmentedLinear::run_stride(out), rank_stride,
                           column_stride, static_cast<int>(x.stride(0)), static_cast<int>(low.stride(0)),
                           static_cast<int>(x.size(1)), static_cast<int>(linear.r()), x.size(0) > params.content,
                           strips};
    strips += ceil_div(x.size(1), branch_gradient_traits::COLUMNS);
  }

  const LayerParams& params;
  BranchGradients all{};
  int strips = 0;
};

struct FusedLayer : torch::autograd::Function<FusedLayer> {
  // Tensors that a forward pass saves for the backward pass.
  enum Saved {
    INPUT, PROJECTED, ATTENDED, LOG_SUM,
    FIRST_SUM, FIRST_MEAN, FIRST_RSTD,
    HIDDEN, INNER, OUTPUT_LOW,
    SECOND_SUM, SECOND_MEAN, SECOND_RSTD,
    COUNT
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
    params->write_branches();

    auto input = params->gather(x);
    params->distances.reset();
    params->make_low(input, qkv.all_lora_a().t());
    auto projected = qkv.output(input);
    AugmentedRows attended(x.size(0), x.size(1), attention_output.ranks(), x.options());
    auto context_rows = attended.content();
    auto log_sum = params->attention().forward(projected, context_rows);
    params->make_low(attended, attention_output.all_lora_a().t());
    AugmentedRows hidden(x.size(0), x.size(1), intermediate.ranks(), x.options());
    auto hidden_rows = hidden.content();
    auto first = params->norm(0).forward(attention_output.output(attended), x, hidden_rows, params->eps);

    params->make_low(hidden, intermediate.all_lora_a().t());
    auto inner = intermediate.output(hidden);
    AugmentedRows active(x.size(0), output.in(), output.ranks(), x.options());
    at::Tensor none;
    gelu("gelu_forward", inner, none, active.all);
    params->make_low(active, output.all_lora_a().t());
    auto y = output.output(active);
    auto out = at::empty_like(x);
    auto second = params->norm(1).forward(y, hidden.content(), out, params->eps);

    Tensors saved(COUNT);
    saved[INPUT] = input.all, saved[PROJECTED] = projected, saved[ATTENDED] = attended.all, saved[LOG_SUM] = log_sum;
    saved[FIRST_SUM] = first.sum, saved[FIRST_MEAN] = first.mean, saved[FIRST_RSTD] = first.rstd;
    saved[HIDDEN] = hidden.all, saved[INNER] = inner;
    // The gradient computes GELU's values again. A view of `active` would keep them.
    saved[OUTPUT_LOW] = active.reserved().contiguous();
    saved[SECOND_SUM] = second.sum, saved[SECOND_MEAN] = second.mean, saved[SECOND_RSTD] = second.rstd;
    context->save_for_backward(std::move(saved));
    context->saved_data["params"] = c10::IValue::make_capsule(params);
    return out;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, Tensors grads) {
    auto params = c10::static_intrusive_pointer_cast<LayerParams>(context->saved_data["params"].toCapsule());
    auto saved = context->get_saved_variables();
    Tensors result(ARGUMENTS);
    params->write_branches();
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
    AugmentedRows d_output(grad.size(0), grad.size(1), output.ranks(), grad.options());
    auto d_output_rows = d_output.content();
    Norm::Kept kept{saved[SECOND_SUM], saved[SECOND_MEAN], saved[SECOND_RSTD]};
    auto d_hidden = params.norm(1).backward(grad, kept, d_output_rows);
    params.make_low(d_output, output.all_scaled_b());
    // The gradient of GELU's values, which gelu_backward replaces with the values.
    auto active = output.d_input(d_output, at::Tensor());
    AugmentedRows d_inner(grad.size(0), output.in(), intermediate.ranks(), grad.options());
    gelu("gelu_backward", inner, active, d_inner.all);
    params.make_low(d_inner, intermediate.all_scaled_b());
    BranchGradientLaunch gradients(params);
    result[scaled_b_of(OUTPUT)] = gradients.scaled_b(output, d_output, saved[OUTPUT_LOW]);
    result[lora_a_of(OUTPUT)] = gradients.lora_a(output, d_output.reserved(), active);
    result[scaled_b_of(INTERMEDIATE)] = gradients.scaled_b(intermediate, d_inner, hidden.reserved());
    result[lora_a_of(INTERMEDIATE)] = gradients.lora_a(intermediate, d_inner.reserved(), hidden.content());
    gradients.run();
    return intermediate.d_input(d_inner, d_hidden);
  }

  // Returns the gradient of x, where that is needed.
  static at::Tensor attention_backward(
      const LayerParams& params, const Tensors& saved, const at::Tensor& d_hidden, bool needs_input, Tensors& result) {
    const auto &qkv = params.linears[QKV], &attention_output = params.linears[ATTENTION_OUTPUT];
    const auto& projected = saved[PROJECTED];
    AugmentedRows input(saved[INPUT], qkv.in()), attended(saved[ATTENDED], attention_output.in());
    AugmentedRows d_attended(d_hidden.size(0), d_hidden.size(1), attention_output.ranks(), d_hidden.options());
    auto d_attended_rows = d_attended.content();
    Norm::Kept kept{saved[FIRST_SUM], saved[FIRST_MEAN], saved[FIRST_RSTD]};
    auto dx = params.norm(0).backward(d_hidden, kept, d_attended_rows);
    params.make_low(d_attended, attention_output.all_scaled_b());
    auto d_context = attention_output.d_input(d_attended, at::Tensor());
    AugmentedRows d_projected(projected.size(0), projected.size(1), qkv.ranks(), d_hidden.options());
    auto d_projected_rows = d_projected.content();
    params.attention().backward(projected, attended.content(), d_context, saved[LOG_SUM], d_projected_rows);
    params.make_low(d_projected, qkv.all_scaled_b());
    BranchGradientLaunch gradients(params);
    result[scaled_b_of(ATTENTION_OUTPUT)] = gradients.scaled_b(attention_output, d_attended, attended.reserved());
    result[lora_a_of(ATTENTION_OUTPUT)] =
        gradients.lora_a(attention_output, d_attended.reserved(), attended.content());
    result[scaled_b_of(QKV)] = gradients.scaled_b(qkv, d_projected, input.reserved());
    result[lora_a_of(QKV)] = gradients.lora_a(qkv, d_projected.reserved(), input.content());
    gradients.run();
    // Distances, the last tokens, need no gradient.
    AugmentedRows d_content(d_projected.all.narrow(0, 0, dx.size(0)), d_projected.width);
    return needs_input ? qkv.d_input(d_content, dx) : at::Tensor();
  }
};
}  // namespace
