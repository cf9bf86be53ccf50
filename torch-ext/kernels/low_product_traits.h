// Arguments of the products of tokens with a branch's A or U (ADR 0018), and the shape of the blocks that make them, for
// host and device.
#pragma once

// Which run a token is of (ADR 0017). The first `content` tokens have `run_tokens` a run, or where they are packed the
// places that `indices` names; then come `run_distances` distances a run.
struct TokenRuns {
  const long long* indices;
  int content, run_tokens, run_distances;
};

// low[t, run r + c] = x[t, :] . matrix[run, c, :] for the run of token t, and 0 in the columns of other runs.
struct LowProduct {
  const void* matrix;  // [runs, r, width], `run_stride` values from run to run
  void* low;           // columns behind x, `pitch` values from token to token
  void* transposed;    // the same as [runs r, transposed_pitch(tokens)], zeros behind the last token
  long run_stride;
  int pitch, r, runs;  // r = 0: no product
  TokenRuns tokens;
};

namespace low_product_traits {
// A block has so many tokens, a warp each. Their values are in shared memory in chunks of columns, groups of eight, rows
// padded against bank conflicts.
constexpr int TOKENS = 8, WARP = 32, THREADS = TOKENS * WARP;
constexpr int GROUPS_PER_LANE = 4, CHUNK = GROUPS_PER_LANE * WARP * 8, TILE_PITCH = CHUNK / 8 + 4;
// Columns of the product that a warp takes at a step.
constexpr int COLUMNS_PER_WARP = 32;
// Ranks of a product of the tensor cores, and of a pass over a token's columns.
constexpr int RANKS_PER_TILE = 16, TILES = 3, RANKS_PER_PASS = TILES * RANKS_PER_TILE;
// Tokens of a product over tokens (branch_gradients.cu).
constexpr int TOKENS_PER_TILE = 16;
constexpr long transposed_pitch(long tokens) {
  return (tokens + TOKENS_PER_TILE - 1) / TOKENS_PER_TILE * TOKENS_PER_TILE;
}
}  // namespace low_product_traits
