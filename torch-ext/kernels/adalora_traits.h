// Arguments of AdaLoRA's kernels, for host and device.
#pragma once

namespace adalora_traits {
// Threads of a block; pairs of components up to the largest rank are no more.
const int THREADS = 512;
const int MAX_RANK = 24;
// Values of every component that a block holds at once.
const int COLUMNS = 128;

// One parameter of all runs: `count` matrices a run, run by run `pitch` values apart. A matrix holds `rank` components of
// `width` values, one a row [rank, width], or one a column [width, rank]. Its first matrix is `first` of a run's.
struct Factors {
  const float* values;
  float* grad;
  long pitch;
  int count, first, width, is_rows;
};

struct FactorList {
  static constexpr int MOST = 32;
  Factors of[MOST];
};

// Modules of one shape in a run's averages: where the values of A [count, rank, d_in], B [count, d_out, rank] and E
// [count, rank] begin, and the first component of theirs among all.
struct ScoredShape {
  long a, b, gate;
  int count, d_in, d_out, first;
};

struct ScoredShapes {
  static constexpr int MOST = 32;
  ScoredShape of[MOST];
};
}  // namespace adalora_traits
