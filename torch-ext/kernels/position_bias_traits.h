// Tiles of the position bias, for host and device: blocks of TILE x THREAD_ROWS threads on tiles of TILE x TILE scores.
#pragma once

namespace position_bias_traits {
constexpr int TILE = 32, THREAD_ROWS = 8;
}  // namespace position_bias_traits
