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

// Writes values of tokens to `out`, unless they lie there, and makes their product. `values` has two functions: `read`
// gives what eight values are made of, and `made` makes them. All of a lane's are read before any is made.
template <typename Values>
__device__ void write_tokens(const Values& values, T* out, bool is_written, long count, int width, int pitch,
                             const LowProduct& low) {
  using namespace low_product_traits;
  __shared__ Eight tile[TOKENS * TILE_PITCH];
  TileProduct product(low, count, width);
  long token = token_of_warp();
  for (int begin = 0; begin < width; begin += CHUNK) {
    typename Values::Read read[GROUPS_PER_LANE];
#pragma unroll
    for (int c = 0; c < GROUPS_PER_LANE; ++c) {
      int column = begin + (c * WARP + threadIdx.x % WARP) * 8;
      if (token < count && column < width) read[c] = values.read(token, column);
    }
#pragma unroll
    for (int c = 0; c < GROUPS_PER_LANE; ++c) {
      int column = begin + (c * WARP + threadIdx.x % WARP) * 8;
      if (token >= count || column >= width) break;
      Eight eight = values.made(read[c], token, column);
      if (!is_written) *reinterpret_cast<Eight*>(out + token * pitch + column) = eight;
      tile[threadIdx.x / WARP * TILE_PITCH + (column - begin) / 8] = eight;
    }
    __syncthreads();
    product.add_chunk(tile, begin);
    // The tile is written again.
    if (begin + CHUNK < width) __syncthreads();
  }
  product.finish(out, pitch);
}

// Eight values that nothing writes before they are read.
__device__ Eight read_once(const T* from) {
  Eight values;
  *reinterpret_cast<uint4*>(&values) = ld_once(from);
  return values;
}

struct GatheredTokens {
  typedef Eight Read;
  const T *x, *distances;
  long content;
  int width;
  __device__ Eight read(long token, int column) const {
    const T* from = token < content ? x + token * width : distances + (token - content) * width;
    return read_once(from + column);
  }
  __device__ Eight made(const Eight& values, long, int) const { return values; }
};

#define KERNEL extern "C" __global__ void __launch_bounds__(low_product_traits::THREADS)

// The tokens of x, then the distances.
KERNEL gather_tokens(const T* x, const T* distances, T* out, long count, int width, int pitch, LowProduct low) {
  write_tokens(GatheredTokens{x, distances, low.tokens.content, width}, out, false, count, width, pitch, low);
}

// The product of tokens that lie in memory.
KERNEL low_product(T* x, long count, int width, int pitch, LowProduct low) {
  write_tokens(GatheredTokens{x, nullptr, count, pitch}, x, true, count, width, pitch, low);
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

struct Gelu {
  typedef Eight Read;
  const T* x;
  int width;
  __device__ Eight read(long token, int column) const { return read_once(x + token * width + column); }
  __device__ Eight made(const Eight& inner, long, int) const {
    float values[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float value = widened(inner.at[e]);
      values[e] = value * phi(value, gaussian(value));
    }
    return narrowed(values);
  }
};

// x Phi(x) of [count, width].
KERNEL gelu_forward(const T* x, T* out, long count, int width, int pitch, LowProduct low) {
  write_tokens(Gelu{x, width}, out, false, count, width, pitch, low);
}

struct GeluGradient {
  struct Read {
    Eight inner, of_out;
  };
  const T* x;
  T* grad;
  int width;
  __device__ Read read(long token, int column) const {
    return {read_once(x + token * width + column), read_once(grad + token * width + column)};
  }
  // Also writes GELU's values in place of the gradient.
  __device__ Eight made(const Read& read, long token, int column) const {
    float values[8], of_x[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float value = widened(read.inner.at[e]), exponential = gaussian(value), below = phi(value, exponential);
      of_x[e] = widened(read.of_out.at[e]) * (below + value * 0.39894228040143268f * exponential);
      values[e] = value * below;
    }
    *reinterpret_cast<Eight*>(grad + token * width + column) = narrowed(values);
    return narrowed(of_x);
  }
};

// The gradient of x. GELU's values replace the gradient of out, because the branch's gradient needs them.
KERNEL gelu_backward(const T* x, T* grad, T* dx, long count, int width, int pitch, LowProduct low) {
  write_tokens(GeluGradient{x, grad, width}, dx, false, count, width, pitch, low);
}

// Copies U or A of every linear to its block, and to its transpose where there is one; a row of the grid each.
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
    if (!block.transposed) continue;
    T* transposed = static_cast<T*>(block.transposed) + static_cast<long>(run) * block.columns * block.rows;
    for (int e = 0; e < 8; ++e) transposed[static_cast<long>(column + e) * block.rows + row] = values.at[e];
  }
}
