// Constants of dropout + residual + LayerNorm, for host and device.
#pragma once

namespace norm_traits {
// A warp has a token, and a lane of it so many groups of eight values.
constexpr int WARP = 32, GROUPS_PER_LANE = 4;
constexpr int MAX_WIDTH = GROUPS_PER_LANE * WARP * 8;
constexpr int TOKENS_PER_BLOCK = 4;
}  // namespace norm_traits
