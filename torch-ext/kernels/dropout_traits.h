// Arguments of dropout, and the constants of its numbers, for host and device (ADR 0016).
#pragma once

struct DropoutParams {
  const long long* state;  // seed, step and first row of each run, [runs, 3]
  unsigned stream;         // place in the network
  unsigned threshold;      // of 65,536 equally likely numbers, those below it drop a value
  float scale;             // 1 / (1 - p)
};

namespace dropout_traits {
// Counters of a query's attention weights, each for eight keys. A query has as many weights as a batch is padded to,
// and its numbers must not depend on that.
constexpr int WEIGHTS_PITCH = 4096;

// Philox 4x32-10: multipliers, and what is added to the key after a round.
constexpr int ROUNDS = 10;
constexpr unsigned MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_1 = 0xCD9E8D57u;
constexpr unsigned WEYL_0 = 0x9E3779B9u, WEYL_1 = 0xBB67AE85u;
}  // namespace dropout_traits
