// Constants of dropout + residual + LayerNorm, for host and device.
#pragma once

#include "low_product_traits.h"

namespace norm_traits {
// A warp has a token, and a lane of it so many groups of eight values.
constexpr int GROUPS_PER_LANE = low_product_traits::GROUPS_PER_LANE, MAX_WIDTH = low_product_traits::CHUNK;
}  // namespace norm_traits
