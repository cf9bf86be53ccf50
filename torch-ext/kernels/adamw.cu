// Clipping and AdamW (Loshchilov and Hutter 2019) of flat float32 values [n], the tensors of many runs in one launch: of
// few values, a launch each would be all their time.
//
// square_sums, clip_factor: norm = sqrt(sum g^2) over all gradients of a run; factor = min(1, bound / (norm + 1e-6)).
// adamw: g <- factor g; m <- m + (1 - beta1) (g - m); v <- beta2 v + (1 - beta2) g^2; w <- w - size m / (sqrt(v) root +
//   eps), and w <- decay w before or after that.

#include "adamw_lists.h"
#include "warp.cuh"

// Each block's share of the sum of squares of gradient blockIdx.y: partial is [gradients, gridDim.x].
extern "C" __global__ void square_sums(Gradients gradients, float* partial) {
  const float* x = gradients.of[blockIdx.y].values;
  long count = gradients.of[blockIdx.y].count;
  float sum = 0.0f;
  for (long i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// The norm of a run's partial sums, and min(1, bound / (norm + 1e-6)): [runs, 2]. A norm that is not a number stays so
// in both. A block a run.
extern "C" __global__ void clip_factor(ClippedRuns runs, const float* partial, float* norm_and_factor) {
  int run = blockIdx.x;
  float sum = 0.0f;
  for (int i = runs.starts[run] + threadIdx.x; i < runs.starts[run + 1]; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x > 0) return;
  float norm = sqrtf(sum), factor = runs.bounds[run] / (norm + 1e-6f);
  norm_and_factor[2 * run] = norm;
  norm_and_factor[2 * run + 1] = factor > 1.0f ? 1.0f : factor;
}

// The update of tensor blockIdx.y.
extern "C" __global__ void adamw(AdamWUpdates updates) {
  const AdamWUpdate& of = updates.of[blockIdx.y];
  const float* row = of.table + 3 * *of.step;
  float decay = row[0], size = row[1], root = row[2], factor = *of.factor;
  long stride = static_cast<long>(gridDim.x) * blockDim.x;
  for (long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x; i < of.count; i += stride) {
    float grad = of.grads[i] * factor, value = of.values[i];
    if (of.decay == 1) value *= decay;
    float m = of.exp_avg[i] + of.one_minus_beta1 * (grad - of.exp_avg[i]),
          v = of.exp_avg_sq[i] * of.beta2 + grad * grad * of.one_minus_beta2;
    value -= m * size / (sqrtf(v) * root + of.eps);
    if (of.decay == 2) value *= decay;
    of.grads[i] = grad, of.exp_avg[i] = m, of.exp_avg_sq[i] = v, of.values[i] = value;
  }
}
