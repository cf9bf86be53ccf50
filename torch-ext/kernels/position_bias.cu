// Position bias of disentangled attention (DeBERTa, arXiv 2006.03654, section 3.1) and its gradient, each in one pass.
//
// c and p hold a product of every token with each of 2 length distances, [heads, rows * length, 2 * length], in f32 or
// bf16. out[b, h, i, j] = c[h, b * length + i, length - 1 - i + j] + p[h, b * length + j, length - 1 - j + i] + mask[b,
// j] with out [rows, heads, length, length] and mask [rows, length]. Used where attention.cu does not take the heads.

#include "position_bias_traits.h"
#include "values.cuh"

using position_bias_traits::THREAD_ROWS;
using position_bias_traits::TILE;

extern "C" __global__ void position_bias_forward(
    const T* c, const T* p, const T* mask, T* out, int rows, int heads, int length) {
  // p runs along i, so its tile is transposed on the way.
  __shared__ float transposed[TILE][TILE + 1];
  int b = blockIdx.z / heads, h = blockIdx.z % heads;
  int i0 = blockIdx.y * TILE, j0 = blockIdx.x * TILE, x = threadIdx.x;
  long width = 2L * length, base = (static_cast<long>(h) * rows + b) * length;
  for (int r = threadIdx.y; r < TILE; r += THREAD_ROWS) {
    int i = i0 + x, j = j0 + r;
    bool is_inside = i < length && j < length;
    transposed[r][x] = is_inside ? widened(p[(base + j) * width + length - 1 - j + i]) : 0.0f;
  }
  __syncthreads();
  for (int r = threadIdx.y; r < TILE; r += THREAD_ROWS) {
    int i = i0 + r, j = j0 + x;
    if (i < length && j < length) {
      float sum =
          widened(c[(base + i) * width + length - 1 - i + j]) + transposed[x][r] + widened(mask[b * length + j]);
      out[((static_cast<long>(b) * heads + h) * length + i) * length + j] = narrowed(sum);
    }
  }
}

// grad is [rows, heads, length, length]; every value of dc and dp is written.
extern "C" __global__ void position_bias_backward(
    const T* grad, T* dc, T* dp, int rows, int heads, int length) {
  int b = blockIdx.z / heads, h = blockIdx.z % heads, k = blockIdx.x * TILE + threadIdx.x;
  long width = 2L * length, base = (static_cast<long>(h) * rows + b) * length;
  const T* square = grad + (static_cast<long>(b) * heads + h) * length * length;
  for (int r = threadIdx.y; r < TILE; r += THREAD_ROWS) {
    int row = blockIdx.y * TILE + r, other = k - (length - 1) + row;
    if (row < length && k < width) {
      bool is_inside = other >= 0 && other < length;
      long at = (base + row) * width + k;
      dc[at] = is_inside ? square[static_cast<long>(row) * length + other] : narrowed(0.0f);
      dp[at] = is_inside ? square[static_cast<long>(other) * length + row] : narrowed(0.0f);
    }
  }
}
