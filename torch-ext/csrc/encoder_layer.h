// A whole transformer layer with a low-rank branch at each of its linears, as one differentiable function.
//
// A frozen linear and its branch are one bordered matrix, [[W, U], [A, .]]: y = [x | low] [W | U]^T with low = x A^T, and
// dx = [g | d_low] [W ; A] with d_low = g U. So whoever writes x or g leaves room behind every line, and the branch costs no
// pass over y or dx of its own. Of runs side by side the border has all branches, and low and d_low are zero but for those of a
// line's own run. Lines are those of padded rows, or of tokens alone and some more that no row has, whose gradient is zero.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/custom_class.h>

#include <array>

#include "attention.h"
#include "norm.h"

namespace {
// Lines of `width` values and room behind them.
struct Wide {
  at::Tensor all;
  int64_t width;

  Wide(at::Tensor all, int64_t width) : all(std::move(all)), width(width) {}
  Wide(int64_t lines, int64_t width, int64_t room, const at::TensorOptions& options)
      : all(at::empty({lines, width + room}, options)), width(width) {}
  at::Tensor content() const { return all.narrow(1, 0, width); }
  at::Tensor room() const { return all.narrow(1, width, all.size(1) - width); }
};

// As kernels/encoder_layer.cu sees them.
struct Border {
  const void* from;
  void* to;
  int lines, columns, pitch;
};
struct Borders {
  Border of[4];
};

// A frozen linear, [out + room, in + room], and its branch: A [r, in], U [out, r], of several runs those of each, one below the
// other and side by side.
struct Adapted {
  at::Tensor whole, bias, a, up;
  int64_t runs = 1;
  bool is_stack = false;

  // Branches come as a stack where there are several runs: [runs, r, in] and [runs, out, r].
  Adapted() = default;
  Adapted(at::Tensor given_whole, at::Tensor bias, const at::Tensor& given_a, const at::Tensor& given_up)
      : whole(std::move(given_whole)), bias(std::move(bias)), is_stack(given_a.dim() == 3) {
    if (is_stack) runs = given_a.size(0);
    a = given_a.reshape({-1, given_a.size(-1)}).contiguous();
    up = (is_stack ? given_up.transpose(0, 1).flatten(1) : given_up).contiguous();
    if (whole.size(1) < in() + room()) {
      auto wider = at::empty({out() + room(), in() + room()}, whole.options());
      wider.narrow(0, 0, out()).narrow(1, 0, in()).copy_(block(out(), in()));
      whole = wider;
    }
  }

  int64_t in() const { return a.size(1); }
  int64_t out() const { return up.size(0); }
  int64_t room() const { return a.size(0); }
  at::Tensor block(int64_t lines, int64_t columns) const { return whole.narrow(0, 0, lines).narrow(1, 0, columns); }

  Border upper() const { return border(up, whole.narrow(1, in(), room())); }
  Border lower() const { return border(a, whole.narrow(0, out(), room())); }
  static Border border(const at::Tensor& from, const at::Tensor& to) {
    auto aligned = [](const at::Tensor& x) { return reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0; };
    TORCH_CHECK(from.scalar_type() == to.scalar_type() && aligned(from) && aligned(to), "a branch that cannot be a border");
    return {from.data_ptr(), to.data_ptr(), static_cast<int>(from.size(0)), static_cast<int>(from.size(1)),
            static_cast<int>(to.stride(0))};
  }

  at::Tensor d_a(const at::Tensor& d_low, const at::Tensor& x) const {
    auto all = at::mm(d_low.t(), x);
    return is_stack ? all.view({runs, -1, in()}) : all;
  }

  at::Tensor d_up(const Wide& grad, const at::Tensor& low) const {
    auto all = at::mm(grad.content().t(), low);
    return is_stack ? all.view({out(), runs, -1}).transpose(0, 1) : all;
  }

  // The gradient of x, added to `sum` where that is defined.
  at::Tensor d_input(const Wide& grad, at::Tensor sum) const {
    auto matrix = block(out() + room(), in());
    return sum.defined() ? sum.addmm_(grad.all, matrix) : at::mm(grad.all, matrix);
  }
};

struct Layer : torch::autograd::Function<Layer> {
  // What one pass is given beside x: what is frozen, and the branches, which autograd sees by themselves.
  struct Given : torch::CustomClassHolder {
    // `starts` are the first lines of rows; of tokens alone `order` names the line of [runs * rows, length] that each is, and
    // where padding has lines there is a mask.
    at::Tensor distances, order, starts, mask, state;
    // Query, key and value as one; attention's output; intermediate; output.
    std::array<Adapted, 4> linears;
    std::array<std::array<at::Tensor, 2>, 2> norms;
    // Lines of x; rows of one run, and their length with padding; attention heads.
    int64_t content, rows, length, heads;
    double scale, eps;
    std::array<Drop, 3> drops;

    Given(const at::Tensor* const* tensors, const double* numbers) {
      auto next = [&] { return *tensors++ ? *tensors[-1] : at::Tensor(); };
      at::NoGradGuard guard;
      content = next().size(0);
      distances = next(), order = next(), starts = next(), mask = next(), state = next();
      for (auto& linear : linears) {
        auto whole = next(), bias = next(), a = next(), up = next();
        linear = Adapted(whole, bias, a, up);
      }
      for (auto& norm : norms) norm = {next(), next()};
      rows = numbers[0], length = numbers[1], heads = numbers[2], scale = numbers[3], eps = numbers[4];
      for (int i = 0; i < 3; ++i) drops[i] = {state, static_cast<int64_t>(numbers[5 + 2 * i]), numbers[6 + 2 * i]};
      if (distances.defined()) distances = distances.contiguous();
      if (mask.defined()) mask = mask.to(linears[0].whole.scalar_type()).contiguous();
      TORCH_CHECK(starts.numel() == rows * runs() + 1, "a layer of ", rows * runs(), " rows with ", starts.numel(), " starts");
    }

    int64_t runs() const { return linears[0].runs; }
    Attending attending() const { return {mask, starts, rows * runs(), length, drops[0], heads, scale}; }
    Norm norm(int index) const { return {norms[index][0], norms[index][1], order, drops[1 + index], rows, length}; }

    void fill(Border (Adapted::*border)() const) const {
      Borders borders;
      for (int i = 0; i < 4; ++i) borders.of[i] = (linears[i].*border)();
      launch("write_branch_blocks", variant(linears[0].whole), {dim3(16, 4), dim3(256)}, borders);
    }

    // The product of wide lines with a branch's first or second matrix, in the room behind them.
    at::Tensor narrowed(const Adapted& linear, const Wide& x, const at::Tensor& matrix) const {
      auto low = x.room();
      at::mm_out(low, x.content(), matrix);
      if (runs() > 1) {
        long count = low.size(0), first_distance = content;
        int of_run = rows * length, others = 2 * length, rank = linear.room() / runs(), all = runs(), pitch = low.stride(0);
        launch("mask_other_runs", variant(low), {dim3(ceil_div(count * linear.room() / 8, 256)), dim3(256)}, pointer(low),
               pointer(order), count, first_distance, of_run, others, rank, all, pitch);
      }
      return low;
    }

    // y; low, in the room behind x, is what the gradient needs.
    at::Tensor forward(const Adapted& linear, const Wide& x, at::Tensor& low) const {
      low = narrowed(linear, x, linear.a.t());
      return at::addmm(linear.bias, x.all, linear.block(linear.out(), linear.in() + linear.room()).t());
    }

    // In the room behind the gradient.
    at::Tensor d_low(const Adapted& linear, const Wide& grad) const { return narrowed(linear, grad, linear.up); }

    // The lines of x, and of the distances after them.
    Wide gathered(const at::Tensor& x) const {
      long content = x.size(0), count = content + (distances.defined() ? distances.size(0) : 0);
      Wide out(count, x.size(1), linears[0].room(), x.options());
      int width = x.size(1), pitch = out.all.size(1);
      launch("gather_tokens", variant(x), {dim3(ceil_div(count * width / 8, 256)), dim3(256)}, pointer(x), pointer(distances),
             pointer(out.all), count, content, width, pitch);
      return out;
    }
  };
  using Holder = c10::intrusive_ptr<Given>;

  static void gelu(const char* pass, const at::Tensor& inner, at::Tensor& values, const at::Tensor& wide) {
    long count = inner.size(0);
    int width = inner.size(1), pitch = wide.size(1);
    launch(pass, variant(inner), {dim3(ceil_div(count * width / 8, 256)), dim3(256)}, pointer(inner), pointer(values),
           pointer(wide), count, width, pitch);
  }

  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& given_x, const at::Tensor&, const at::Tensor&,
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      const Holder& given) {
    const auto& [projection, attention_output, intermediate, output] = given->linears;
    auto x = given_x.contiguous();
    std::array<at::Tensor, 4> low;
    given->fill(&Adapted::upper);

    auto input = given->gathered(x);
    given->distances.reset();
    auto projected = given->forward(projection, input, low[0]);
    Wide attended(x.size(0), x.size(1), attention_output.room(), x.options());
    auto of_context = attended.content();
    auto log_sum = given->attending().forward(projected, of_context);
    Wide hidden(x.size(0), x.size(1), intermediate.room(), x.options());
    auto of_hidden = hidden.content();
    auto first = given->norm(0).forward(given->forward(attention_output, attended, low[1]), x, of_hidden, given->eps);

    auto inner = given->forward(intermediate, hidden, low[2]);
    Wide active(x.size(0), output.in(), output.room(), x.options());
    at::Tensor none;
    gelu("gelu_forward", inner, none, active.all);
    auto y = given->forward(output, active, low[3]);
    // GELU's values are computed again for the gradient; they would be kept for the sake of these.
    low[3] = low[3].contiguous();
    auto out = at::empty_like(x);
    auto second = given->norm(1).forward(y, hidden.content(), out, given->eps);

    context->save_for_backward({input.all, projected, attended.all, log_sum, first.sum, first.mean, first.deviation,
                                hidden.all, inner, second.sum, second.mean, second.deviation, low[0], low[1], low[2], low[3]});
    context->saved_data["given"] = c10::IValue::make_capsule(given);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto given = c10::static_intrusive_pointer_cast<Given>(context->saved_data["given"].toCapsule());
    auto saved = context->get_saved_variables();
    torch::autograd::variable_list result(10);
    given->fill(&Adapted::lower);
    // What each half needs is given back before the other begins.
    auto d_hidden = feed_forward_backward(*given, saved, grads[0].contiguous(), result);
    auto dx = attention_backward(*given, saved, d_hidden, context->needs_input_grad(0), result);
    result[0] = dx;
    return result;
  }

  // Gives the gradient of the hidden lines between the halves.
  static at::Tensor feed_forward_backward(
      const Given& given, const torch::autograd::variable_list& saved, const at::Tensor& grad,
      torch::autograd::variable_list& result) {
    const auto &intermediate = given.linears[2], &output = given.linears[3];
    const auto& inner = saved[8];
    Wide hidden(saved[7], intermediate.in());
    Wide d_output(grad.size(0), grad.size(1), output.room(), grad.options());
    auto of_output = d_output.content();
    auto d_hidden = given.norm(1).backward(grad, {saved[9], saved[10], saved[11]}, of_output);
    auto d_low = given.d_low(output, d_output);
    result[8] = output.d_up(d_output, saved[15]);
    // GELU's values, once their gradient has been read.
    auto active = output.d_input(d_output, at::Tensor());
    Wide d_inner(grad.size(0), output.in(), intermediate.room(), grad.options());
    gelu("gelu_backward", inner, active, d_inner.all);
    result[7] = output.d_a(d_low, active);
    d_low = given.d_low(intermediate, d_inner);
    result[6] = intermediate.d_up(d_inner, saved[14]);
    result[5] = intermediate.d_a(d_low, hidden.content());
    return intermediate.d_input(d_inner, d_hidden);
  }

  // Gives the gradient of x, where it is needed.
  static at::Tensor attention_backward(
      const Given& given, const torch::autograd::variable_list& saved, const at::Tensor& d_hidden, bool needs_input,
      torch::autograd::variable_list& result) {
    const auto &projection = given.linears[0], &attention_output = given.linears[1];
    const auto &projected = saved[1], &log_sum = saved[3];
    Wide input(saved[0], projection.in()), attended(saved[2], attention_output.in());
    Wide d_attended(d_hidden.size(0), d_hidden.size(1), attention_output.room(), d_hidden.options());
    auto of_attended = d_attended.content();
    auto dx = given.norm(0).backward(d_hidden, {saved[4], saved[5], saved[6]}, of_attended);
    auto d_low = given.d_low(attention_output, d_attended);
    result[4] = attention_output.d_up(d_attended, saved[13]);
    result[3] = attention_output.d_a(d_low, attended.content());
    auto d_context = attention_output.d_input(d_attended, at::Tensor());
    Wide d_projected(projected.size(0), projected.size(1), projection.room(), d_hidden.options());
    auto of_projected = d_projected.content();
    given.attending().backward(projected, attended.content(), d_context, log_sum, of_projected);
    d_low = given.d_low(projection, d_projected);
    result[2] = projection.d_up(d_projected, saved[12]);
    result[1] = projection.d_a(d_low, input.content());
    // Distances, the last lines, need no gradient.
    Wide of_content(d_projected.all.narrow(0, 0, dx.size(0)), d_projected.width);
    return needs_input ? projection.d_input(of_content, dx) : at::Tensor();
  }
};
}  // namespace
