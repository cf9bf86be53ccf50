// Products of a block's eight tokens with a branch's A or U, by the kernel that writes the tokens:
// low[t, c] = sum_k x[t, k] matrix[c, k].
//
// A warp writes a token, to shared memory too, where the warps share its columns: lane (g, q) = (lane / 4, lane % 4) has
// eight neighbouring columns of token g and of rank g at a step. The tensor cores' k may be any order of the columns as
// long as both factors have the same: a lane's first four columns are its k of one product, the last four that of the
// next. The ranks are the rows of the product, the tokens its columns.
#pragma once

#include "low_product_traits.h"
#include "values.cuh"

// The token of a warp, and of a lane of the product.
__device__ long token_of_warp() {
  return static_cast<long>(blockIdx.x) * low_product_traits::TOKENS + threadIdx.x / low_product_traits::WARP;
}
__device__ long token_of_lane() {
  return static_cast<long>(blockIdx.x) * low_product_traits::TOKENS + threadIdx.x % low_product_traits::WARP / 4;
}

#ifdef BF16
__device__ int run_of_token(const TokenRuns& of, long token) {
  if (token >= of.content) return static_cast<int>(token - of.content) / of.run_distances;
  return static_cast<int>(of.indices ? of.indices[token] : token) / of.run_tokens;
}

// The product of a block's tokens. One pass has RANKS_PER_PASS of one run; the first is made chunk by chunk while the
// tokens are written, and `finish` makes the others from what was written.
struct TileProduct {
  const LowProduct& to;
  long first, count;  // first token of the block; tokens of all blocks
  int width, last_run, run, rank;
  float sums[low_product_traits::TILES][4];

  __device__ TileProduct(const LowProduct& to, long count, int width)
      : to(to), first(static_cast<long>(blockIdx.x) * low_product_traits::TOKENS), count(count), width(width),
        last_run(0), run(0), rank(0) {
    clear();
    if (to.runs > 1) begin_with_runs();
  }

  __device__ void clear() {
    for (int n = 0; n < low_product_traits::TILES; ++n)
      for (int e = 0; e < 4; ++e) sums[n][e] = 0.0f;
  }

  // Zeroes all columns, and finds the runs of the block's tokens.
  __device__ void begin_with_runs() {
    int groups = to.runs * to.r / 8;
    for (int i = threadIdx.x; i < low_product_traits::TOKENS * groups; i += low_product_traits::THREADS) {
      long token = first + i / groups;
      int column = i % groups * 8;
      if (token < count) *reinterpret_cast<Eight*>(static_cast<T*>(to.low) + token * to.pitch + column) = Eight{};
    }
    // A group of tokens of a rank.
    for (int c = threadIdx.x; c < to.runs * to.r; c += low_product_traits::THREADS) {
      *reinterpret_cast<Eight*>(transposed(c, first)) = Eight{};
    }
    bool is_inside = token_of_lane() < count;
    run = is_inside ? run_of_token(to.tokens, token_of_lane()) : to.runs;
    last_run = is_inside ? run : 0;
    for (int offset = 4; offset < 32; offset *= 2) {
      run = min(run, __shfl_xor_sync(0xffffffffu, run, offset));
      last_run = max(last_run, __shfl_xor_sync(0xffffffffu, last_run, offset));
    }
    // A block may have no token at all.
    run = min(run, last_run);
  }

  __device__ T* transposed(int c, long token) const {
    return static_cast<T*>(to.transposed) + c * low_product_traits::transposed_pitch(count) + token;
  }

  // Eight columns of row `row` of the pass; zeros beyond the ranks and the width.
  __device__ uint4 of_matrix(int row, int column) const {
    if (rank + row >= to.r || column >= width) return make_uint4(0, 0, 0, 0);
    const T* matrix = static_cast<const T*>(to.matrix) + run * to.run_stride;
    return __ldg(reinterpret_cast<const uint4*>(matrix + static_cast<long>(rank + row) * width + column));
  }

  // Adds the columns from `begin` on of the tokens in `tile`, CHUNK of them at most.
  __device__ void add_chunk(const Eight* tile, int begin) {
    using namespace low_product_traits;
    const int STEPS = CHUNK / (TOKENS * COLUMNS_PER_WARP);
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      int first_column = (step * TOKENS + threadIdx.x / WARP) * COLUMNS_PER_WARP, column = first_column + lane % 4 * 8;
      if (begin + first_column >= width) break;
      bool is_inside = token_of_lane() < count && begin + column < width;
      add(is_inside ? tile[lane / 4 * TILE_PITCH + column / 8] : Eight{}, begin + column);
    }
  }

  // Adds the lane's columns of its token. A lane without any gives zeros.
  __device__ void add(const Eight& values, int column) {
    const unsigned* x = reinterpret_cast<const unsigned*>(&values);
    int row = threadIdx.x % 32 / 4;
#pragma unroll
    for (int n = 0; n < low_product_traits::TILES; ++n) {
      int begin = n * low_product_traits::RANKS_PER_TILE;
      if (rank + begin >= to.r) break;
      uint4 low = of_matrix(begin + row, column), high = of_matrix(begin + row + 8, column);
      unsigned first_half[4] = {low.x, high.x, low.y, high.y}, second_half[4] = {low.z, high.z, low.w, high.w};
      mma_m16n8k16(sums[n], first_half, x[0], x[1]);
      mma_m16n8k16(sums[n], second_half, x[2], x[3]);
    }
  }

  // Sums the warps' parts of a pass in one order and stores them. A thread a token and rank.
  __device__ void store_pass() {
    using low_product_traits::RANKS_PER_PASS;
    using low_product_traits::RANKS_PER_TILE;
    using low_product_traits::TILES;
    using low_product_traits::TOKENS;
    __shared__ float parts[TOKENS][TOKENS][RANKS_PER_PASS];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, ranks = min(to.r - rank, RANKS_PER_PASS);
    for (int n = 0; n < TILES; ++n) {
      for (int e = 0; e < 4; ++e) {
        parts[warp][lane % 4 * 2 + e % 2][n * RANKS_PER_TILE + lane / 4 + e / 2 * 8] = sums[n][e];
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TOKENS * ranks; i += low_product_traits::THREADS) {
      int row = i % TOKENS, c = i / TOKENS, column = run * to.r + rank + c;
      long token = first + row;
      bool is_inside = token < count;
      if (is_inside && to.runs > 1 && run_of_token(to.tokens, token) != run) continue;
      float sum = 0.0f;
      for (int part = 0; part < TOKENS; ++part) sum += parts[part][row][c];
      T value = is_inside ? narrowed(sum) : narrowed(0.0f);
      if (is_inside) static_cast<T*>(to.low)[token * to.pitch + column] = value;
      *transposed(column, token) = value;
    }
  }

  // Stores the first pass and makes the others, of the tokens that the block has written to `x`.
  __device__ void finish(const T* x, int x_pitch) {
    using namespace low_product_traits;
    // Its barrier also orders the block's zeros and tokens before what follows.
    store_pass();
    for (;;) {
      rank += RANKS_PER_PASS;
      if (rank >= to.r) rank = 0, ++run;
      if (run > last_run) return;
      clear();
      for (int first_column = threadIdx.x / WARP * COLUMNS_PER_WARP; first_column < width;
           first_column += TOKENS * COLUMNS_PER_WARP) {
        int column = first_column + threadIdx.x % 4 * 8;
        bool is_inside = token_of_lane() < count && column < width;
        add(is_inside ? *reinterpret_cast<const Eight*>(x + token_of_lane() * x_pitch + column) : Eight{}, column);
      }
      // The parts of the pass before have been read.
      __syncthreads();
      store_pass();
    }
  }
};
#else
// Float32 multiplies branches as other matrices.
struct TileProduct {
  __device__ TileProduct(const LowProduct&, long, int) {}
  __device__ void add_chunk(const Eight*, int) {}
  __device__ void finish(const T*, int) {}
};
#endif
