// AdaLoRA (arXiv 2303.10512): the distance of components from orthonormal ones with its gradient (spec 2.2), and the
// importance of values and components (spec 2.3). All of float32. Of so few values, an operation by itself has no time
// but its launch's.
//
// gram_distance: of a matrix M of `rank` components of `width` values, H = M M^T - I; distance = ||H||_F; dM = d 2 H M /
//   distance. Matrices are the A [rank, width] and B [width, rank] of all modules and runs; of each run `total`.
//   Distances are [runs, total], H [runs, total, rank, rank]. Block (m, run, p) has matrix m of parameter p.
// importance: I = |w g|; I' <- I' + (1 - beta1) (I - I'); U' <- U' + (1 - beta2) (|I - I'| - U'), of flat values [n].
// component_scores: with s = I' U', s(E) + mean s(A) + mean s(B) of every component, [components], shape by shape.

#include "adalora_traits.h"
#include "warp.cuh"

using adalora_traits::FactorList;
using adalora_traits::Factors;
using adalora_traits::ScoredShape;
using adalora_traits::ScoredShapes;

const int GRAM_THREADS = adalora_traits::THREADS, GRAM_COLUMNS = adalora_traits::COLUMNS;
const int MAX_RANK = adalora_traits::MAX_RANK;

extern "C" __global__ void gram_distance_forward(FactorList list, float* differences, float* distances, int rank,
                                                 int total) {
  __shared__ float tile[MAX_RANK][GRAM_COLUMNS + 1];
  __shared__ float sums[GRAM_THREADS];
  const Factors& of = list.of[blockIdx.z];
  if (static_cast<int>(blockIdx.x) >= of.count) return;
  // A thread has a pair of components; groups of as many threads as pairs share their columns out.
  int pairs = rank * (rank + 1) / 2, groups = GRAM_THREADS / pairs, thread = threadIdx.x, group = thread / pairs;
  int i = 0, j = thread % pairs;
  while (j >= rank - i) j -= rank - i, ++i;
  j += i;
  const float* matrix = of.values + blockIdx.y * of.pitch + static_cast<long>(blockIdx.x) * rank * of.width;
  float sum = 0.0f;
  for (int start = 0; start < of.width; start += GRAM_COLUMNS) {
    int columns = min(GRAM_COLUMNS, of.width - start);
    __syncthreads();
    for (int at = thread; at < rank * columns; at += GRAM_THREADS) {
      int row = of.is_rows ? at / columns : at % rank, column = of.is_rows ? at % columns : at / rank;
      tile[row][column] = of.is_rows ? matrix[row * of.width + start + column] : matrix[start * rank + at];
    }
    __syncthreads();
    for (int c = group; group < groups && c < columns; c += groups) sum += tile[i][c] * tile[j][c];
  }
  sums[thread] = sum;
  __syncthreads();
  long index = static_cast<long>(blockIdx.y) * total + of.first + blockIdx.x;
  float square = 0.0f;
  if (thread < pairs) {
    for (int other = 1; other < groups; ++other) sum += sums[other * pairs + thread];
    float difference = i == j ? sum - 1.0f : sum;
    differences[(index * rank + i) * rank + j] = differences[(index * rank + j) * rank + i] = difference;
    square = (i == j ? 1.0f : 2.0f) * difference * difference;
  }
  square = block_sum(square);
  if (thread == 0) distances[index] = sqrtf(square);
}

extern "C" __global__ void gram_distance_backward(FactorList list, const float* differences, const float* distances,
                                                  const float* grads, int rank, int total) {
  __shared__ float factors[MAX_RANK * MAX_RANK];
  const Factors& of = list.of[blockIdx.z];
  if (static_cast<int>(blockIdx.x) >= of.count) return;
  long index = static_cast<long>(blockIdx.y) * total + of.first + blockIdx.x;
  float scale = 2.0f * grads[index] / distances[index];
  for (int at = threadIdx.x; at < rank * rank; at += GRAM_THREADS) {
    factors[at] = scale * differences[index * rank * rank + at];
  }
  __syncthreads();
  const float* matrix = of.values + blockIdx.y * of.pitch + static_cast<long>(blockIdx.x) * rank * of.width;
  float* grad = of.grad + (static_cast<long>(blockIdx.y) * of.count + blockIdx.x) * rank * of.width;
  for (int at = threadIdx.x; at < rank * of.width; at += GRAM_THREADS) {
    int row = of.is_rows ? at / of.width : at % rank, step = of.is_rows ? of.width : 1;
    const float* column = of.is_rows ? matrix + at % of.width : matrix + at - row;
    float sum = 0.0f;
    for (int j = 0; j < rank; ++j) sum += factors[row * rank + j] * column[j * step];
    grad[at] = sum;
  }
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

// Block (m, s) has module m of shape s, a warp each of its components.
extern "C" __global__ void component_scores(ScoredShapes shapes, const float* average, const float* uncertainty,
                                            float* scores, int rank) {
  const ScoredShape& of = shapes.of[blockIdx.y];
  int module = blockIdx.x, lane = threadIdx.x % 32;
  if (module >= of.count) return;
  for (int component = threadIdx.x / 32; component < rank; component += blockDim.x / 32) {
    int index = module * rank + component;
    long a = of.a + static_cast<long>(index) * of.d_in;
    long b = of.b + static_cast<long>(module) * of.d_out * rank + component;
    float of_a = 0.0f, of_b = 0.0f;
    for (int i = lane; i < of.d_in; i += 32) of_a += average[a + i] * uncertainty[a + i];
    for (int i = lane; i < of.d_out; i += 32) of_b += average[b + i * rank] * uncertainty[b + i * rank];
    of_a = warp_sum(of_a) / of.d_in, of_b = warp_sum(of_b) / of.d_out;
    if (lane == 0) scores[of.first + index] = of_a + of_b + average[of.gate + index] * uncertainty[of.gate + index];
  }
}
