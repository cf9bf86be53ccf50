// Attention of a row's head as one function on a CPU: softmax(scale q k^T + mask), dropout, times v. The weights are
// never tensors; the gradient's pass makes them again, block by block.

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <vector>

#include "attention_cpu_blocks.h"
#include "autograd.h"
#include "guarded.h"

#ifdef __x86_64__
namespace {
using namespace cpu_blocks;

// Queries whose scores are made together.
constexpr int64_t BLOCK = 48;
// What an additive mask has at padding is far below, so that the weight is exactly 0.
constexpr float PADDING = -1e9f;

// Arguments beside the tensors that have gradients.
struct CpuAttentionPass {
  at::Tensor mask;  // [runs * rows, length], float32
  DropoutSpec drop;
  int64_t heads;
  double scale;

  int64_t rows() const { return mask.size(0); }
  int64_t length() const { return mask.size(1); }
};

// One row's head: q | k | v of its tokens, and dropout's numbers of its weights.
template <typename T>
struct HeadOfRow {
  const CpuAttentionPass& pass;
  int64_t length, width, head, pitch;  // pitch: of q | k | v
  int64_t token, column;               // its first token and column in a matrix [tokens, width]
  int64_t sums_at;
  int64_t keys;             // up to the last that is no padding
  std::vector<float> mask;  // of its keys, padded
  Philox philox;

  HeadOfRow(const CpuAttentionPass& pass, int64_t index, int64_t width) : pass(pass), width(width) {
    int64_t row = index / pass.heads, which = index % pass.heads, run_rows = pass.rows() / pass.drop.runs();
    length = pass.length(), head = width / pass.heads, pitch = 3 * width;
    token = row * length, column = which * head, sums_at = index * length;
    const float* of_row = pass.mask.const_data_ptr<float>() + row * length;
    for (keys = length; keys > 1 && of_row[keys - 1] < PADDING; --keys) {}
    // A row of padding alone has equal weights.
    if (keys == 1 && of_row[0] < PADDING) keys = length;
    mask.assign(padded(keys), -std::numeric_limits<float>::infinity());
    std::copy(of_row, of_row + keys, mask.begin());
    const int64_t* run = pass.drop.state.const_data_ptr<int64_t>() + row / run_rows * 3;
    auto seed = static_cast<uint64_t>(run[0]);
    auto place = (row % run_rows + run[2]) * pass.heads + which;
    philox = {static_cast<uint32_t>(place), static_cast<uint32_t>(pass.drop.stream), static_cast<uint32_t>(run[1]),
              static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  }

  // Queries, keys or values in [tokens, 3 width], from the row's token `from` on.
  template <typename P>
  P* projected(P* base, int part, int64_t from) const {
    return base + (token + from) * pitch + part * width + column;
  }

  // The same in [tokens, width].
  template <typename P>
  P* context(P* base, int64_t from) const {
    return base + (token + from) * width + column;
  }

  Kept kept(int64_t query, std::vector<uint16_t>& numbers) const {
    unsigned threshold = pass.drop.threshold();
    constexpr int64_t VALUES = Philox::AT_ONCE * 8;
    numbers.resize((keys + VALUES - 1) / VALUES * VALUES);
    for (int64_t at = 0; threshold > 0 && at < keys; at += VALUES) {
      auto block = static_cast<uint32_t>(query * dropout_traits::WEIGHTS_PITCH + at / 8);
      philox.draw(block, reinterpret_cast<uint16_t(*)[8]>(numbers.data() + at));
    }
    return {numbers.data(), threshold, pass.drop.scale()};
  }

  void forward(const T* base, T* out, Sums* sums) const {
    int64_t wide = padded(keys);
    std::vector<float> key(keys * head), turned(head * wide), value(keys * head), query(BLOCK * head);
    std::vector<float> scores(BLOCK * wide), block(BLOCK * head);
    std::vector<uint16_t> numbers;
    gather(projected(base, 1, 0), pitch, keys, head, 1, key.data());
    transpose(key.data(), keys, head, turned.data());
    gather(projected(base, 2, 0), pitch, keys, head, 1, value.data());
    for (int64_t at = 0; at < length; at += BLOCK) {
      int64_t count = std::min(BLOCK, length - at);
      gather(projected(base, 0, at), pitch, count, head, pass.scale, query.data());
      multiply<false>(query.data(), turned.data(), scores.data(), {count, wide, head, head, 1, wide, wide});
      for (int64_t i = 0; i < count; ++i) {
        sums[sums_at + at + i] = softmax(&scores[i * wide], mask.data(), wide, kept(at + i, numbers));
      }
      multiply<false>(scores.data(), value.data(), block.data(), {count, head, keys, wide, 1, head, head});
      scatter(block.data(), count, head, 1, context(out, at), width);
    }
  }

  void backward(const T* base, const T* grad, const Sums* sums, T* d_base) const {
    int64_t wide = padded(keys);
    std::vector<float> key(keys * head), turned_key(head * wide), value(keys * head), turned_value(head * wide);
    std::vector<float> query(BLOCK * head), d_out(BLOCK * head), scores(BLOCK * wide), d_scores(BLOCK * wide);
    std::vector<float> d_query(BLOCK * head), d_key(length * head), d_value(length * head);
    std::vector<uint16_t> numbers;
    gather(projected(base, 1, 0), pitch, keys, head, 1, key.data());
    transpose(key.data(), keys, head, turned_key.data());
    gather(projected(base, 2, 0), pitch, keys, head, 1, value.data());
    transpose(value.data(), keys, head, turned_value.data());
    for (int64_t at = 0; at < length; at += BLOCK) {
      int64_t count = std::min(BLOCK, length - at);
      gather(projected(base, 0, at), pitch, count, head, pass.scale, query.data());
      gather(context(grad, at), width, count, head, 1, d_out.data());
      multiply<false>(query.data(), turned_key.data(), scores.data(), {count, wide, head, head, 1, wide, wide});
      multiply<false>(d_out.data(), turned_value.data(), d_scores.data(), {count, wide, head, head, 1, wide, wide});
      for (int64_t i = 0; i < count; ++i) {
        softmax_backward(&scores[i * wide], &d_scores[i * wide], mask.data(), sums[sums_at + at + i], wide,
                         kept(at + i, numbers));
      }
      multiply<true>(scores.data(), d_out.data(), d_value.data(), {keys, head, count, 1, wide, head, head});
      multiply<true>(d_scores.data(), query.data(), d_key.data(), {keys, head, count, 1, wide, head, head});
      multiply<false>(d_scores.data(), key.data(), d_query.data(), {count, head, keys, wide, 1, head, head});
      scatter(d_query.data(), count, head, pass.scale, projected(d_base, 0, at), pitch);
    }
    scatter(d_key.data(), length, head, 1, projected(d_base, 1, 0), pitch);
    scatter(d_value.data(), length, head, 1, projected(d_base, 2, 0), pitch);
  }
};

template <typename Work>
void each_head(const CpuAttentionPass& pass, const at::Tensor& projected, const Work& work) {
  int64_t width = projected.size(1) / 3;
  auto heads = [&](auto value) {
    at::parallel_for(0, pass.rows() * pass.heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) work(HeadOfRow<decltype(value)>(pass, i, width), value);
    });
  };
  if (projected.scalar_type() == at::kBFloat16) return heads(at::BFloat16());
  TORCH_CHECK(projected.scalar_type() == at::kFloat, "no attention for ", projected.scalar_type());
  heads(0.0f);
}

struct CpuAttention : torch::autograd::Function<CpuAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& given, const at::Tensor& mask,
                            const at::Tensor& state, int64_t stream, double p, int64_t heads, double scale) {
    auto projected = given.contiguous();
    auto masked = mask.to(at::kFloat).reshape({mask.size(0), mask.size(-1)}).contiguous();
    CpuAttentionPass pass{masked, {state.contiguous(), stream, p}, heads, scale};
    auto out = at::empty({projected.size(0), projected.size(1) / 3}, projected.options());
    auto sums = at::empty({pass.rows() * heads * pass.length(), 2}, masked.options());
    each_head(pass, projected, [&](const auto& head, auto value) {
      using T = decltype(value);
      head.forward(projected.const_data_ptr<T>(), out.data_ptr<T>(), reinterpret_cast<Sums*>(sums.data_ptr<float>()));
    });
    context->save_for_backward({projected, masked, sums});
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    pass.drop.save(context);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &projected = saved[0], &sums = saved[2];
    auto& data = context->saved_data;
    CpuAttentionPass pass{saved[1], DropoutSpec::saved(context), data["heads"].toInt(), data["scale"].toDouble()};
    auto grad = grads[0].contiguous(), d_projected = at::empty_like(projected);
    each_head(pass, projected, [&](const auto& head, auto value) {
      using T = decltype(value);
      head.backward(projected.const_data_ptr<T>(), grad.const_data_ptr<T>(),
                    reinterpret_cast<const Sums*>(sums.const_data_ptr<float>()), d_projected.data_ptr<T>());
    });
    torch::autograd::variable_list result(7);
    result[0] = d_projected;
    return result;
  }
};
}  // namespace
#endif

extern "C" {

int rb_has_cpu_attention() { return has_avx512(); }

// Attention of padded rows without position terms, on a processor with AVX-512; heads are multiples of 16 wide.
int rb_cpu_attention(const at::Tensor* projected, const at::Tensor* mask, const at::Tensor* state, long long stream,
                     double p, long long heads, double scale, at::Tensor** out) {
  return guarded([=] {
#ifdef __x86_64__
    *out = new at::Tensor(CpuAttention::apply(*projected, *mask, *state, stream, p, heads, scale));
#else
    TORCH_CHECK(false, "no attention of our own for this processor");
#endif
  });
}
}
