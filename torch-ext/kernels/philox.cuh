// Numbers of dropout: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; ADR 0016).
//
// key = the run's seed; counter = (counter of the token and group of eight values, row, stream, the run's step). Of the
// 128 bits every value of the group has 16. So a value is kept whatever else is in the batch, however it is padded, on
// every device.
#pragma once

#include "dropout_traits.h"

__device__ uint4 philox(uint4 counter, uint2 key) {
  for (int round = 0; round < dropout_traits::ROUNDS; ++round) {
    unsigned high0 = __umulhi(dropout_traits::MULTIPLIER_0, counter.x), low0 = dropout_traits::MULTIPLIER_0 * counter.x;
    unsigned high1 = __umulhi(dropout_traits::MULTIPLIER_1, counter.z), low1 = dropout_traits::MULTIPLIER_1 * counter.z;
    counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
    key.x += dropout_traits::WEYL_0;
    key.y += dropout_traits::WEYL_1;
  }
  return counter;
}

// The 128 bits of a group of eight values.
__device__ uint4 bits_of_group(const DropoutParams& dropout, int run, unsigned row, unsigned counter) {
  unsigned long long seed = dropout.state[3 * run];
  uint2 key = make_uint2(static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32));
  return philox(make_uint4(counter, row, dropout.stream, static_cast<unsigned>(dropout.state[3 * run + 1])), key);
}

// Number of a run's first row in this batch among the rows of its step.
__device__ unsigned first_row(const DropoutParams& dropout, int run) {
  return static_cast<unsigned>(dropout.state[3 * run + 2]);
}

// The bits of the group at `column` of token `index` of [runs * rows * tokens, width]. A row's first token is at
// position `first`, a token has `pitch` counters, and a row of the batch has `per_row` such rows.
__device__ uint4 bits_of_hidden(
    const DropoutParams& dropout, long index, int column, int rows, int tokens, int first, int pitch, int per_row) {
  unsigned position = static_cast<unsigned>(index % tokens) + first;
  long row = index / tokens;
  int run = static_cast<int>(row / rows);
  return bits_of_group(dropout, run, static_cast<unsigned>(row % rows) + first_row(dropout, run) * per_row,
                       position * pitch + column / 8);
}

__device__ bool is_kept(const uint4& bits, int index, unsigned threshold) {
  unsigned word = index < 2 ? bits.x : index < 4 ? bits.y : index < 6 ? bits.z : bits.w;
  return (index % 2 ? word >> 16 : word & 0xffff) >= threshold;
}
