// Passes over tokens between the products of a fused layer (ADR 0018), in bf16, and copies to the augmented weights [W
// U; A .].
//
// gather_tokens: out = [x ; distances].  gelu: out = x Phi(x), dx = g (Phi(x) + x phi(x)) (Hendrycks and Gimpel 2016).
// mask_other_runs: low[t, c] = 0 where column c is another run's than token t's (ADR 0017).
//
// Matrices are [tokens, width]; `pitch` is the number of values from token to token where columns for a branch are
// reserved behind them. Widths and ranks are multiples of 8. A thread a group of eight values.

#include "branch_blocks.h"
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

// Phi(x), the distribution function of a standard normal value.
__device__ float phi(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

// x Phi(x) of [count, width].
extern "C" __global__ void gelu_forward(const T* x, const T*, T* out, long count, int width, int pitch) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, token = group / (width / 8);
  if (token >= count) return;
  int column = static_cast<int>(group % (width / 8)) * 8;
  Eight values = reinterpret_cast<const Eight*>(x)[group];
  for (int e = 0; e < 8; ++e) {
    float value = widened(values.at[e]);
    values.at[e] = narrowed(value * phi(value));
  }
  *reinterpret_cast<Eight*>(out + token * pitch + column) = values;
}

// The gradient of x. GELU's values replace the gradient of out, because the branch's gradient needs them.
extern "C" __global__ void gelu_backward(const T* x, T* grad, T* dx, long count, int width, int pitch) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, token = group / (width / 8);
  if (token >= count) return;
  int column = static_cast<int>(group % (width / 8)) * 8;
  Eight values = reinterpret_cast<const Eight*>(x)[group], grads = reinterpret_cast<Eight*>(grad)[group], out;
  for (int e = 0; e < 8; ++e) {
    float value = widened(values.at[e]), below = phi(value);
    float density = 0.39894228040143268f * expf(-0.5f * value * value);
    out.at[e] = narrowed(widened(grads.at[e]) * (below + value * density));
    values.at[e] = narrowed(value * below);
  }
  *reinterpret_cast<Eight*>(dx + token * pitch + column) = out;
  reinterpret_cast<Eight*>(grad)[group] = values;
}

// Copies U or A of every linear to its block; a row of the grid each.
extern "C" __global__ void write_branch_blocks(BranchBlocks blocks) {
  BranchBlock block = blocks.of[blockIdx.y];
  int groups = block.columns / 8;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < block.rows * groups;
       index += gridDim.x * blockDim.x) {
    int row = index / groups, column = index % groups * 8;
    *reinterpret_cast<Eight*>(static_cast<T*>(block.to) + static_cast<long>(row) * block.pitch + column) =
        static_cast<const Eight*>(block.from)[index];
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
