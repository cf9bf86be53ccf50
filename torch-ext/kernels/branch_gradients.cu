// Gradients of the branches of a layer's linears (ADR 0018), in bf16, several in one launch:
// of A [r, columns]: sum_t d_low[t, :]^T x[t, :]; of U [columns, r]: sum_t g[t, :]^T low[t, :].
//
// A block has a strip of 64 columns of one of them and the tokens of a run, which its warps share and sum in one
// order: x is read once. Lane (g, q) = (lane / 4, lane % 4) reads columns 8 g to 8 g + 7 of tokens 4 q to 4 q + 3 of a
// tile of sixteen and pairs them by tokens for the tensor cores: their m is the columns in the order 2 i, 2 i + 1 of
// every eight, their k the tokens. Tiles begin at multiples of sixteen; of the tokens in them that are not asked for x
// counts as zero.

#include "branches.h"
#include "values.cuh"

namespace gradient_traits = branch_gradient_traits;

// A lane's share of a tile: eight columns of four tokens of x, and of them one rank of every tile of ranks.
struct TileValues {
  uint4 x[4];
  T low[gradient_traits::TILES][4];
};

// The lane's values of the tile at `tile`, of tokens from `begin` to `end`. `low` is the lane's rank.
__device__ void read_tile(TileValues& to, const BranchGradient& gradient, int tile, int begin, int end, int column,
                          const T* low, int ranks) {
  int first = tile + threadIdx.x % 4 * 4;
  const T* x = static_cast<const T*>(gradient.x) + static_cast<long>(first) * gradient.x_pitch + column;
  low += static_cast<long>(first) * gradient.low_pitch;
#pragma unroll
  for (int i = 0; i < 4; ++i, x += gradient.x_pitch, low += gradient.low_pitch) {
    bool is_inside = first + i >= begin && first + i < end;
    to.x[i] = is_inside && column < gradient.columns ? ld_once(x) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int n = 0; n < gradient_traits::TILES; ++n) {
      bool has_rank = is_inside && n * gradient_traits::RANKS_PER_TILE < ranks;
      to.low[n][i] = has_rank ? __ldg(low + n * gradient_traits::RANKS_PER_TILE) : T{};
    }
  }
}

// The lower halves of two words, and the upper ones.
__device__ unsigned lower_halves(unsigned a, unsigned b) { return (a & 0xffffu) | b << 16; }
__device__ unsigned upper_halves(unsigned a, unsigned b) { return a >> 16 | (b & 0xffff0000u); }

// Four pairs of 16 columns: sums[i] has columns 8 g + 2 i and the next.
__device__ void add_product(float (&sums)[4][4], const TileValues& x, unsigned b0, unsigned b1) {
  const unsigned* of[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) of[i] = reinterpret_cast<const unsigned*>(&x.x[i]);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    unsigned a[4] = {lower_halves(of[0][i], of[1][i]), upper_halves(of[0][i], of[1][i]),
                     lower_halves(of[2][i], of[3][i]), upper_halves(of[2][i], of[3][i])};
    mma_m16n8k16(sums[i], a, b0, b1);
  }
}

// Adds the tiles of the tokens from `begin` to `end`. `low` is the lane's rank.
__device__ void add_tokens(float (&sums)[gradient_traits::TILES][4][4], const BranchGradient& gradient, int begin,
                           int end, int column, const T* low, int ranks) {
  using gradient_traits::TOKENS_PER_TILE;
  const int STEP = gradient_traits::WARPS * TOKENS_PER_TILE;
  int tile = begin / TOKENS_PER_TILE * TOKENS_PER_TILE + threadIdx.x / 32 * TOKENS_PER_TILE;
  if (tile >= end) return;
  TileValues now, next;
  read_tile(next, gradient, tile, begin, end, column, low, ranks);
  for (; tile < end; tile += STEP) {
    now = next;
    if (tile + STEP < end) read_tile(next, gradient, tile + STEP, begin, end, column, low, ranks);
#pragma unroll
    for (int n = 0; n < gradient_traits::TILES; ++n) {
      if (n * gradient_traits::RANKS_PER_TILE >= ranks) break;
      unsigned b0 = now.low[n][0] | static_cast<unsigned>(now.low[n][1]) << 16;
      unsigned b1 = now.low[n][2] | static_cast<unsigned>(now.low[n][3]) << 16;
      add_product(sums[n], now, b0, b1);
    }
  }
}

// Sums the warps' parts and stores ranks `rank` to rank + 7 of the strip. A thread a column and rank.
__device__ void store_tile(const float (&sums)[4][4], const BranchGradient& gradient, int run, int strip, int rank) {
  using gradient_traits::COLUMNS;
  using gradient_traits::RANKS_PER_TILE;
  // Column 8 a + b lies at 8 b + a, and ranks are padded: against bank conflicts.
  __shared__ float parts[gradient_traits::WARPS][RANKS_PER_TILE][COLUMNS + 4];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) parts[warp][lane % 4 * 2 + e % 2][(2 * i + e / 2) * 8 + lane / 4] = sums[i][e];
  }
  __syncthreads();
  int column = threadIdx.x % COLUMNS, of_tile = threadIdx.x / COLUMNS;
  float sum = 0.0f;
  for (int part = 0; part < gradient_traits::WARPS; ++part) sum += parts[part][of_tile][column % 8 * 8 + column / 8];
  // The parts are written again.
  __syncthreads();
  column += strip * COLUMNS;
  if (column >= gradient.columns) return;
  long place = run * gradient.run_stride + (rank + of_tile) * gradient.rank_stride + column * gradient.column_stride;
  static_cast<T*>(gradient.out)[place] = narrowed(sum);
}

extern "C" __global__ void __launch_bounds__(gradient_traits::THREADS, 1) branch_gradients(BranchGradients all) {
  using gradient_traits::COLUMNS;
  using gradient_traits::RANKS_PER_TILE;
  static_assert(gradient_traits::THREADS == COLUMNS * RANKS_PER_TILE, "a thread a column and rank of a tile");
  int which = 0, run = blockIdx.y, lane = threadIdx.x % 32;
  while (which + 1 < all.count && static_cast<int>(blockIdx.x) >= all.of[which + 1].first_strip) ++which;
  const BranchGradient gradient = all.of[which];
  int strip = blockIdx.x - gradient.first_strip, column = strip * COLUMNS + lane / 4 * 8;
  int begin = all.cu_seqlens[run * all.rows], end = all.cu_seqlens[(run + 1) * all.rows];
  for (int rank = 0; rank < gradient.r; rank += gradient_traits::RANKS_PER_PASS) {
    float sums[gradient_traits::TILES][4][4] = {};
    int ranks = min(gradient.r - rank, gradient_traits::RANKS_PER_PASS);
    const T* low = static_cast<const T*>(gradient.low) + run * gradient.r + rank + lane / 4;
    add_tokens(sums, gradient, begin, end, column, low, ranks);
    if (gradient.has_distances) {
      int distances = all.content + run * all.run_distances;
      add_tokens(sums, gradient, distances, distances + all.run_distances, column, low, ranks);
    }
#pragma unroll
    for (int n = 0; n < gradient_traits::TILES; ++n) {
      if (n * RANKS_PER_TILE < ranks) store_tile(sums[n], gradient, run, strip, rank + n * RANKS_PER_TILE);
    }
  }
}
