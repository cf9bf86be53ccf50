// Clipping, AdamW and importance of flat float32 values, as adamw.rs and importance.rs have them with plain tensors.

// The sum of a block's values, for its first thread, in one order.
__device__ float block_sum(float value) {
  __shared__ float sums[32];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x < 32) value = warp_sum(threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : 0.0f);
  return value;
}

// Each block's share of the sum of squares.
extern "C" __global__ void square_sums(const float* x, float* partial, long count) {
  float sum = 0.0f;
  for (long i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += x[i] * x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The norm of which those are the parts, and min(1, bound / (norm + 1e-6)), which keeps a norm that is no number.
extern "C" __global__ void clip_factor(const float* partial, float* norm_and_factor, int count, float bound) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x > 0) return;
  float norm = sqrtf(sum), factor = bound / (norm + 1e-6f);
  norm_and_factor[0] = norm;
  norm_and_factor[1] = factor > 1.0f ? 1.0f : factor;
}

// `table` holds decay factor, step size and factor of the root of every step; `rest1` and `rest2` are what is left of 1 beside
// the moments' decays; decay: 0 none, 1 before, 2 after the update.
extern "C" __global__ void adamw(
    float* values, float* grads, float* first, float* second, const float* table, const long long* step,
    const float* factor, long count, float rest1, float beta2, float rest2, float eps, int decay) {
  long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float* row = table + 3 * *step;
  float grad = grads[i] * *factor, value = values[i];
  if (decay == 1) value *= row[0];
  float m = first[i] + rest1 * (grad - first[i]), v = second[i] * beta2 + grad * grad * rest2;
  value -= m * row[1] / (sqrtf(v) * row[2] + eps);
  if (decay == 2) value *= row[0];
  grads[i] = grad, first[i] = m, second[i] = v, values[i] = value;
}

// AdaLoRA's averages of the importance |w g| and of its distance from that average; `rest1` and `rest2` as above.
extern "C" __global__ void importance(
    const float* values, const float* grads, float* average, float* uncertainty, long count, float rest1, float rest2) {
  long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float now = fabsf(values[i] * grads[i]), mean = average[i], distance = uncertainty[i];
  mean += rest1 * (now - mean);
  average[i] = mean;
  uncertainty[i] = distance + rest2 * (fabsf(now - mean) - distance);
}
