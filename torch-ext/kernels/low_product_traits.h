// Arguments of the product of tokens with a branch's A or U (ADR 0018), made by the kernel that writes the tokens, and the
// shape of its blocks, for host and device.
#pragma once

// low[t, c] = x[t, :] . matrix[c, :], in the columns behind x.
struct LowProduct {
  const void* matrix;  // [r, width]
  void* low;           // `pitch` values from token to token
  int pitch, r;        // r = 0: no product
};

namespace low_product_traits {
// A block has so many tokens, a warp each. Their values are in shared memory in groups of eight, rows padded against bank
// conflicts.
constexpr int TOKENS = 16, WARP = 32, THREADS = TOKENS * WARP;
constexpr int GROUPS_PER_LANE = 4, MAX_WIDTH = GROUPS_PER_LANE * WARP * 8, TILE_PITCH = MAX_WIDTH / 8 + 4;
// Columns of the product that a warp takes at a step, and steps of all.
constexpr int COLUMNS_PER_WARP = 32, STEPS = MAX_WIDTH / (TOKENS * COLUMNS_PER_WARP);
// Tokens and ranks of a product of the tensor cores.
constexpr int TOKENS_PER_GROUP = 8, TOKEN_GROUPS = TOKENS / TOKENS_PER_GROUP, RANKS_PER_TILE = 16;
}  // namespace low_product_traits
