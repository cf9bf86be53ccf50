// Products of a block's sixteen tokens with a branch's A or U, by the kernel that writes the tokens:
// low[t, c] = sum_k x[t, k] matrix[c, k].
//
// A warp writes a token, to shared memory too, where the warps share the columns: lane (g, q) = (lane / 4, lane % 4) has
// eight neighbouring columns of tokens g and g + 8 and of ranks g and g + 8 at a step. The tensor cores' k may be any
// order of the columns as long as both factors have the same: a lane's first four columns are its k of one product, the
// last four that of the next. The ranks are the rows of the product, the tokens its columns.
#pragma once

#include "low_product_traits.h"
#include "values.cuh"

// The token of a warp.
__device__ long token_of_warp() {
  return static_cast<long>(blockIdx.x) * low_product_traits::TOKENS + threadIdx.x / low_product_traits::WARP;
}

// A place of eight values of the warp's token in shared memory.
__device__ Eight& of_tile(Eight* tile, int column) {
  return tile[threadIdx.x / low_product_traits::WARP * low_product_traits::TILE_PITCH + column / 8];
}

#ifdef BF16
// Tokens of a block in shared memory, and after the product the warps' parts of its sums.
union SharedTokens {
  Eight tile[low_product_traits::TOKENS * low_product_traits::TILE_PITCH];
  float parts[low_product_traits::TOKENS][low_product_traits::TOKENS][low_product_traits::RANKS_PER_TILE];
};

// Eight columns of a rank; zeros beyond the ranks and the width.
__device__ uint4 of_matrix(const LowProduct& low, int rank, int column, int width) {
  if (rank >= low.r || column >= width) return make_uint4(0, 0, 0, 0);
  return *reinterpret_cast<const uint4*>(static_cast<const T*>(low.matrix) + static_cast<long>(rank) * width + column);
}

// Makes the product of the tokens that a block has in shared memory, a tile of ranks at a time: the warps' parts are
// summed in one order. `tile` is overwritten.
__device__ void make_product(const LowProduct& low, SharedTokens& shared, long count, int width) {
  using namespace low_product_traits;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first_column = warp * COLUMNS_PER_WARP + lane % 4 * 8;
  Eight values[STEPS][TOKEN_GROUPS];
  __syncthreads();
#pragma unroll
  for (int step = 0; step < STEPS; ++step) {
    int column = first_column + step * TOKENS * COLUMNS_PER_WARP;
#pragma unroll
    for (int group = 0; group < TOKEN_GROUPS; ++group) {
      // Zeros beyond the width. Rows beyond the last token count for themselves alone, and are not stored.
      values[step][group] = Eight{};
      if (column < width) {
        values[step][group] = shared.tile[(group * TOKENS_PER_GROUP + lane / 4) * TILE_PITCH + column / 8];
      }
    }
  }
  for (int rank = 0; rank < low.r; rank += RANKS_PER_TILE) {
    float sums[TOKEN_GROUPS][4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      int column = first_column + step * TOKENS * COLUMNS_PER_WARP;
      uint4 a = of_matrix(low, rank + lane / 4, column, width), b = of_matrix(low, rank + lane / 4 + 8, column, width);
      unsigned first_half[4] = {a.x, b.x, a.y, b.y}, second_half[4] = {a.z, b.z, a.w, b.w};
#pragma unroll
      for (int group = 0; group < TOKEN_GROUPS; ++group) {
        const unsigned* x = reinterpret_cast<const unsigned*>(&values[step][group]);
        mma_m16n8k16(sums[group], first_half, x[0], x[1]);
        mma_m16n8k16(sums[group], second_half, x[2], x[3]);
      }
    }
    // The parts take the place of the tokens, or of the parts before, which have been read then.
    __syncthreads();
#pragma unroll
    for (int group = 0; group < TOKEN_GROUPS; ++group) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        shared.parts[warp][group * TOKENS_PER_GROUP + lane % 4 * 2 + e % 2][lane / 4 + e / 2 * 8] = sums[group][e];
      }
    }
    __syncthreads();
    int row = threadIdx.x / RANKS_PER_TILE, c = threadIdx.x % RANKS_PER_TILE;
    long token = static_cast<long>(blockIdx.x) * TOKENS + row;
    if (row >= TOKENS || token >= count || rank + c >= low.r) continue;
    float sum = 0.0f;
    for (int part = 0; part < TOKENS; ++part) sum += shared.parts[part][row][c];
    static_cast<T*>(low.low)[token * low.pitch + rank + c] = narrowed(sum);
  }
}
#else
// Float32 multiplies branches as other matrices.
union SharedTokens {
  Eight tile[1];
};
__device__ void make_product(const LowProduct&, SharedTokens&, long, int) {}
#endif
