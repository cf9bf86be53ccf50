// Arguments of the kernels of a layer's branches, for host and device (ADR 0018).
#pragma once

// U or A of runs side by side, [runs, rows, columns], and its block in the augmented weight [W U; A .]: U of the runs
// beside each other, A below each other.
struct BranchBlock {
  const void* from;
  void* to;
  long run_stride, row_stride;  // of `from`
  int runs, rows, columns, pitch;
  int rows_per_run, columns_per_run;  // from run to run in the block
};

// Blocks of U and A of a layer's four linears.
struct BranchBlocks {
  BranchBlock of[8];
};

// The gradient of A or U: the sum over a run's tokens of x[t, c] low[t, run r + i]; of U, x is the gradient of the
// linear's output.
struct BranchGradient {
  const void *x, *low;
  void* out;
  long run_stride, rank_stride, column_stride;  // of `out`
  int x_pitch, low_pitch, columns, r;
  int has_distances;  // whether the tokens of x end with distances
  int first_strip;    // of the grid's
};

struct BranchGradients {
  BranchGradient of[4];
  int count;
  // Of the runs: first token of every row, [runs * rows + 1]; distances begin at token `content`.
  const int* cu_seqlens;
  int rows, content, run_distances;
};

namespace branch_gradient_traits {
// A block has a strip of columns, its warps so many tokens at a time each.
constexpr int COLUMNS = 64, TOKENS_PER_TILE = 16, WARPS = 16, WARP = 32, THREADS = WARPS * WARP;
constexpr int RANKS_PER_TILE = 8, TILES = 3, RANKS_PER_PASS = TILES * RANKS_PER_TILE;
}  // namespace branch_gradient_traits
