// Passes over tokens between the products of a fused layer (ADR 0018), in bf16, and copies to the augmented weights [W
// U; A .].
//
// gather_tokens: out = [x ; distances].  gelu: out = x Phi(x), dx = g (Phi(x) + x phi(x)) (Hendrycks and Gimpel 2016).
// write_branches: the blocks U and A of the augmented weights.
// mask_other_runs: low[t, c] = 0 where column c is another run's than token t's (ADR 0017).
//
// Matrices are [tokens, width]; `pitch` is the number of values from token to token where columns for a branch are
// reserved behind them. Widths and ranks are multiples of 8. A thread a group of eight values.

#include "branches.h"
#include "values.cuh"

// The tokens of x, `content` of them, then the distances.
extern "C" __global__ void gather_tokens(
    const T* x, const T* distances, T* out, long count, long content, int width, int pitch) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, token = group / (width / 8);
  if (token >= count) return;
  int column = static_cast<int>(group % (width / 8)) * 8;
  const T* from = token < content ? x + token * width : distances + (token - content) * width;
  *reinterpret_cast<Eight*>(out + token * pitch + column) = *reinterpret_cast<const Eight*>(from + column);
}

// Phi(x), the distribution function of a standard normal value, by exp(-x^2 / 2): 7.1.26 of Abramowitz and Stegun, with
// an error of at most 7.5e-8.
__device__ float phi(float x, float exponential) {
  float t = rcp_approx(1.0f + 0.3275911f * 0.70710678118654752f * fabsf(x));
  float polynomial = 1.061405429f * t - 1.453152027f;
  polynomial = polynomial * t + 1.421413741f;
  polynomial = polynomial * t - 0.284496736f;
  polynomial = polynomial * t + 0.254829592f;
  float beyond = 0.5f * polynomial * t * exponential;
  return x < 0.0f ? beyond : 1.0f - beyond;
}

// exp(-x^2 / 2)
__device__ float gaussian(float x) { return ex2_approx(-0.72134752044448170f * x * x); }

// x Phi(x) of [count, width].
extern "C" __global__ void gelu_forward(const T* x, const T*, T* out, long count, int width, int pitch) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, token = group / (width / 8);
  if (token >= count) return;
  int column = static_cast<int>(group % (width / 8)) * 8;
  Eight values = reinterpret_cast<const Eight*>(x)[group];
  float active[8];
  for (int e = 0; e < 8; ++e) {
    float value = widened(values.at[e]);
    active[e] = value * phi(value, gaussian(value));
  }
  *reinterpret_cast<Eight*>(out + token * pitch + column) = narrowed(active);
}

// The gradient of x. GELU's values replace the gradient of out, because the branch's gradient needs them.
extern "C" __global__ void gelu_backward(const T* x, T* grad, T* dx, long count, int width, int pitch) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, token = group / (width / 8);
  if (token >= count) return;
  int column = static_cast<int>(group % (width / 8)) * 8;
  Eight inner = reinterpret_cast<const Eight*>(x)[group], grads = reinterpret_cast<Eight*>(grad)[group];
  float active[8], of_x[8];
  for (int e = 0; e < 8; ++e) {
    float value = widened(inner.at[e]), exponential = gaussian(value), below = phi(value, exponential);
    of_x[e] = widened(grads.at[e]) * (below + value * 0.39894228040143268f * exponential);
    active[e] = value * below;
  }
  *reinterpret_cast<Eight*>(dx + token * pitch + column) = narrowed(of_x);
  reinterpret_cast<Eight*>(grad)[group] = narrowed(active);
}

// Copies U or A of every linear to its block; a row of the grid each.
extern "C" __global__ void write_branches(BranchBlocks blocks) {
  BranchBlock block = blocks.of[blockIdx.y];
  int groups = block.columns / 8, of_run = block.rows * groups;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < block.runs * of_run;
       index += gridDim.x * blockDim.x) {
    int run = index / of_run, row = index % of_run / groups, column = index % groups * 8;
    const T* from = static_cast<const T*>(block.from) + run * block.run_stride;
    Eight values = *reinterpret_cast<const Eight*>(from + row * block.row_stride + column);
    T* to = static_cast<T*>(block.to) + static_cast<long>(row + run * block.rows_per_run) * block.pitch;
    *reinterpret_cast<Eight*>(to + column + run * block.columns_per_run) = values;
  }
}

// Zeroes what a token's x A^T has in the columns of other runs, `rank` columns a run. The first `content` tokens have
// `run_tokens` a run, or where they are packed the places that `indices` name; then come `run_distances` distances a
// run.
extern "C" __global__ void mask_other_runs(T* low, const long long* indices, long count, long content, int run_tokens,
                                           int run_distances, int rank, int runs, int pitch) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  int groups = runs * rank / 8, column = static_cast<int>(group % groups) * 8;
  long token = group / groups;
  if (token >= count) return;
  long run = token < content ? (indices ? indices[token] : token) / run_tokens : (token - content) / run_distances;
  if (column / rank != run) *reinterpret_cast<Eight*>(low + token * pitch + column) = Eight{};
}
