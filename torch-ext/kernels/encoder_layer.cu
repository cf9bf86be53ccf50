// Passes over tokens between the products of a fused layer (ADR 0018), in bf16, and the products of its branches.
//
// gather_tokens: out = [x ; distances].  gelu: out = x Phi(x), dx = g (Phi(x) + x phi(x)) (Hendrycks and Gimpel 2016).
// low = out A^T, or dx U, of what each of them writes, and low_product of what others wrote (low_product.cuh).
// write_branches: the blocks U and A of the augmented weights, and U transposed.
//
// Matrices are [tokens, width]; `pitch` is the number of values from token to token where columns for a branch are
// reserved behind them. Widths and ranks are multiples of 8. A block has eight tokens.

#include "branches.h"
#include "low_product.cuh"

#define KERNEL \
  extern "C" __global__ void __launch_bounds__(low_product_traits::MOST_WARPS * low_product_traits::WARP, 2)

// Eight values of a token that nothing writes before they are read, or zeros where the lane has none.
__device__ Eight of_token(const T* x, long token, int column, long count, int width, int pitch) {
  Eight values{};
  if (token < count && column < width) {
    *reinterpret_cast<uint4*>(&values) = ld_once(x + token * pitch + column);
  }
  return values;
}

// The tokens of x, then the distances.
KERNEL gather_tokens(const T* x, const T* distances, T* out, long count, int width, int pitch, LowProduct low) {
  const int BATCH = 3;
  long token = token_of_lane(), content = low.tokens.content;
  const T* from = token < content ? x + token * width : distances + (token - content) * width;
  TileProduct product(low, count, width);
  for (int step = 0; has_columns(step, width); step += BATCH) {
    Eight values[BATCH];
    MatrixColumns matrix[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      values[i] = of_token(from, 0, column_of_step(step + i), token < count, width, 0);
      matrix[i] = product.columns_of_matrix(column_of_step(step + i));
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      int column = column_of_step(step + i);
      if (token < count && column < width) *reinterpret_cast<Eight*>(out + token * pitch + column) = values[i];
      product.add(values[i], matrix[i], column);
    }
  }
  product.finish(out, pitch);
}

// The product of tokens that lie in memory.
KERNEL low_product(const T* x, long count, int width, int pitch, LowProduct low) {
  const int BATCH = 3;
  TileProduct product(low, count, width);
  for (int step = 0; has_columns(step, width); step += BATCH) {
    Eight values[BATCH];
    MatrixColumns matrix[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      values[i] = of_token(x, token_of_lane(), column_of_step(step + i), count, width, pitch);
      matrix[i] = product.columns_of_matrix(column_of_step(step + i));
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i) product.add(values[i], matrix[i], column_of_step(step + i));
  }
  product.finish(x, pitch);
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
KERNEL gelu_forward(const T* x, T* out, long count, int width, int pitch, LowProduct low) {
  const int BATCH = 3;
  long token = token_of_lane();
  TileProduct product(low, count, width);
  for (int step = 0; has_columns(step, width); step += BATCH) {
    Eight inner[BATCH];
    MatrixColumns matrix[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      inner[i] = of_token(x, token, column_of_step(step + i), count, width, width);
      matrix[i] = product.columns_of_matrix(column_of_step(step + i));
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      int column = column_of_step(step + i);
      float values[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float value = widened(inner[i].at[e]);
        values[e] = value * phi(value, gaussian(value));
      }
      Eight active = narrowed(values);
      if (token < count && column < width) *reinterpret_cast<Eight*>(out + token * pitch + column) = active;
      product.add(active, matrix[i], column);
    }
  }
  product.finish(out, pitch);
}

// The gradient of x. GELU's values replace the gradient of out, because the branch's gradient needs them; a lane reads
// its own before it writes them.
KERNEL gelu_backward(const T* x, T* grad, T* dx, long count, int width, int pitch, LowProduct low) {
  const int BATCH = 2;
  long token = token_of_lane();
  TileProduct product(low, count, width);
  for (int step = 0; has_columns(step, width); step += BATCH) {
    Eight inner[BATCH], of_out[BATCH];
    MatrixColumns matrix[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      int column = column_of_step(step + i);
      inner[i] = of_token(x, token, column, count, width, width);
      of_out[i] = of_token(grad, token, column, count, width, width);
      matrix[i] = product.columns_of_matrix(column);
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      int column = column_of_step(step + i);
      float values[8], of_x[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float value = widened(inner[i].at[e]), exponential = gaussian(value), below = phi(value, exponential);
        of_x[e] = widened(of_out[i].at[e]) * (below + value * 0.39894228040143268f * exponential);
        values[e] = value * below;
      }
      Eight gradient = narrowed(of_x);
      if (token < count && column < width) {
        *reinterpret_cast<Eight*>(dx + token * pitch + column) = gradient;
        *reinterpret_cast<Eight*>(grad + token * width + column) = narrowed(values);
      }
      product.add(gradient, matrix[i], column);
    }
  }
  product.finish(dx, pitch);
}

// Copies U or A of every linear to its block, and to its transpose where there is one; a row of the grid each.
extern "C" __global__ void write_branches(BranchBlocks blocks) {
  BranchBlock block = blocks.of[blockIdx.y];
  int groups = block.columns / 8, of_run = block.rows * groups;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < block.runs * of_run;
       index += gridDim.x * blockDim.x) {
    int run = index / of_run, row = index % of_run / groups, column = index % groups * 8;
    const T* from = static_cast<const T*>(block.from) + run * block.run_stride;
    Eight values = *reinterpret_cast<const Eight*>(from + static_cast<long>(row) * block.columns + column);
    T* to = static_cast<T*>(block.to) + static_cast<long>(row + run * block.rows_per_run) * block.pitch;
    *reinterpret_cast<Eight*>(to + column + run * block.columns_per_run) = values;
    if (!block.transposed) continue;
    T* transposed = static_cast<T*>(block.transposed) + static_cast<long>(run) * block.columns * block.rows;
    for (int e = 0; e < 8; ++e) transposed[static_cast<long>(column + e) * block.rows + row] = values.at[e];
  }
}
