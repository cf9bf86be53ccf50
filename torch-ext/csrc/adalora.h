// AdaLoRA's kernels, kernels/adalora.cu.
#pragma once

#include <ATen/Functions.h>

#include <algorithm>

#include "../kernels/adalora_traits.h"
#include "launch.h"

namespace {
// Distances [runs, matrices of a run] of the A [runs, k, rank, width] and B [runs, k, width, rank] of several shapes, A
// and B by turns.
struct GramDistance : torch::autograd::Function<GramDistance> {
  static constexpr auto FORWARD = "gram_distance_forward", BACKWARD = "gram_distance_backward";
  using Tensors = torch::autograd::variable_list;

  static bool is_rows(size_t index) { return index % 2 == 0; }

  // Matrices [k, x, y] of a run lie one behind the other, which those of a flat group do.
  static at::Tensor dense(const at::Tensor& x) { return x.select(0, 0).is_contiguous() ? x : x.contiguous(); }

  // Launches a kernel for all factors; `more` are its arguments between the factors and the numbers.
  template <typename... Arguments>
  static void launch_all(const char* kernel, const Tensors& factors, const Tensors& grads, Arguments... more) {
    using adalora_traits::FactorList;
    int rank = factors[0].size(2), total = 0, first = 0;
    for (const auto& x : factors) total += x.size(1);
    for (size_t begin = 0; begin < factors.size(); begin += FactorList::MOST) {
      auto end = std::min(factors.size(), begin + FactorList::MOST);
      FactorList list;
      unsigned most = 0;
      for (size_t i = begin; i < end; ++i) {
        const auto& x = factors[i];
        auto* grad = grads.empty() ? nullptr : grads[i].data_ptr<float>();
        int count = x.size(1), width = x.size(is_rows(i) ? 3 : 2);
        list.of[i - begin] = {x.data_ptr<float>(), grad, x.stride(0), count, first, width, is_rows(i)};
        first += count, most = std::max<unsigned>(most, count);
      }
      Launch how{{most, static_cast<unsigned>(factors[0].size(0)), static_cast<unsigned>(end - begin)},
                 {adalora_traits::THREADS}};
      launch(kernel, "f32", how, list, more..., rank, total);
    }
  }

  static at::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList given) {
    Tensors saved;
    int64_t rank = given[0].size(2), total = 0;
    for (const auto& x : given) saved.push_back(dense(x)), total += x.size(1);
    TORCH_CHECK(rank <= adalora_traits::MAX_RANK, "gram_distance: a rank of ", rank);
    auto distances = at::empty({given[0].size(0), total}, given[0].options());
    auto differences = at::empty({given[0].size(0), total, rank, rank}, given[0].options());
    launch_all(FORWARD, saved, {}, pointer(differences), pointer(distances));
    saved.insert(saved.end(), {differences, distances});
    context->save_for_backward(saved);
    return distances;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, Tensors given) {
    auto saved = context->get_saved_variables();
    auto distances = saved.back(), differences = saved[saved.size() - 2], grad = given[0].contiguous();
    saved.resize(saved.size() - 2);
    Tensors grads;
    for (const auto& x : saved) grads.push_back(at::empty(x.sizes(), x.options()));
    launch_all(BACKWARD, saved, grads, pointer(differences), pointer(distances), pointer(grad));
    return grads;
  }
};

// Scores [components] of `all` shapes, six numbers each: where A, B and E begin; modules, d_in and d_out.
at::Tensor component_scores(const at::Tensor& average, const at::Tensor& uncertainty, const long long* numbers, int all,
                            int rank) {
  using adalora_traits::ScoredShapes;
  int components = 0;
  for (int shape = 0; shape < all; ++shape) components += static_cast<int>(numbers[6 * shape + 3]) * rank;
  auto scores = at::empty({components}, average.options());
  int next = 0;
  for (int begin = 0; begin < all; begin += ScoredShapes::MOST) {
    int count = std::min(all - begin, ScoredShapes::MOST);
    ScoredShapes shapes;
    unsigned most = 0;
    for (int i = 0; i < count; ++i, numbers += 6) {
      auto number = [=](int index) { return static_cast<int>(numbers[index]); };
      shapes.of[i] = {static_cast<long>(numbers[0]), static_cast<long>(numbers[1]), static_cast<long>(numbers[2]),
                      number(3), number(4), number(5), next};
      next += number(3) * rank, most = std::max<unsigned>(most, number(3));
    }
    launch("component_scores", "f32", {{most, static_cast<unsigned>(count)}, {256}}, shapes, pointer(average),
           pointer(uncertainty), pointer(scores), rank);
  }
  return scores;
}
}  // namespace
