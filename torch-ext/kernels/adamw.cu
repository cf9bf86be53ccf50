// Clipping, AdamW (Loshchilov and Hutter 2019) and AdaLoRA's importance (arXiv 2303.10512, spec 2.3) of flat float32
// values [n].
//
// square_sums, clip_factor: norm = sqrt(sum g^2) over all gradients; factor = min(1, bound / (norm + 1e-6)). adamw: g
// <- factor g; m <- m + (1 - beta1) (g - m); v <- beta2 v + (1 - beta2) g^2; w <- w - size m / (sqrt(v) root + eps),
// and
//   w <- decay w before or after that.
// importance: I = |w g|; I' <- I' + (1 - beta1) (I - I'); U' <- U' + (1 - beta2) (|I - I'| - U').

#include "warp.cuh"

// Each block's share of the sum of squares.
extern "C" __global__ void square_sums(const float* x, float* partial, long count) {
  float sum = 0.0f;
  for (long i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The norm of partial sums, and min(1, bound / (norm + 1e-6)). A norm that is not a number stays so in both. One block.
extern "C" __global__ void clip_factor(const float* partial, float* norm_and_factor, int count, float bound) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x > 0) return;
  float norm = sqrtf(sum), factor = bound / (norm + 1e-6f);
  norm_and_factor[0] = norm;
  norm_and_factor[1] = factor > 1.0f ? 1.0f : factor;
}

// A thread a value. `table` is [steps, 3]: decay factor, step size and root factor of every step. `decay` is
// adamw.rs's: 0 none, 1 before, 2 after the update.
extern "C" __global__ void adamw(
    float* values, float* grads, float* exp_avg, float* exp_avg_sq, const float* table, const long long* step,
    const float* factor, long count, float one_minus_beta1, float beta2, float one_minus_beta2, float eps, int decay) {
  long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float* row = table + 3 * *step;
  float grad = grads[i] * *factor, value = values[i];
  if (decay == 1) value *= row[0];
  float m = exp_avg[i] + one_minus_beta1 * (grad - exp_avg[i]),
        v = exp_avg_sq[i] * beta2 + grad * grad * one_minus_beta2;
  value -= m * row[1] / (sqrtf(v) * row[2] + eps);
  if (decay == 2) value *= row[0];
  grads[i] = grad, exp_avg[i] = m, exp_avg_sq[i] = v, values[i] = value;
}

// A thread a value.
extern "C" __global__ void importance(
    const float* values, const float* grads, float* average, float* uncertainty, long count, float one_minus_beta1,
    float one_minus_beta2) {
  long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float now = fabsf(values[i] * grads[i]), mean = average[i], distance = uncertainty[i];
  mean += one_minus_beta1 * (now - mean);
  average[i] = mean;
  uncertainty[i] = distance + one_minus_beta2 * (fabsf(now - mean) - distance);
}
