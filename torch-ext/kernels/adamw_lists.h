// Arguments of clipping and AdamW of many tensors at once, for host and device. A kernel takes 4 KiB of arguments.
#pragma once

// A gradient [count].
struct Gradient {
  const float* values;
  long count;
};

struct Gradients {
  static constexpr int MOST = 128;
  Gradient of[MOST];
};

// Runs: the partial sums of run i are those from starts[i] to before starts[i + 1].
struct ClippedRuns {
  static constexpr int MOST = 128;
  int starts[MOST + 1];
  float bounds[MOST];
};

// One tensor's step of AdamW. `table` is [steps, 3]: decay factor, step size and root factor of every step. `decay` is
// adamw.rs's: 0 none, 1 before, 2 after the update.
struct AdamWUpdate {
  float *values, *grads, *exp_avg, *exp_avg_sq;
  const float* table;
  const long long* step;
  const float* factor;
  long count;
  float one_minus_beta1, beta2, one_minus_beta2, eps;
  int decay;
};

struct AdamWUpdates {
  static constexpr int MOST = 32;
  AdamWUpdate of[MOST];
};
