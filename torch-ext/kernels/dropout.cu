// Dropout of hidden states, and its gradient.
//
// out[i] = x[i] is kept ? x[i] / (1 - p) : 0, for x [runs * rows * tokens, width] in f32 or bf16; width is a multiple
// of 8. Numbers: philox.cuh (ADR 0016). The backward pass draws them again instead of keeping a mask.

#include "philox.cuh"
#include "values.cuh"

// A thread a group of eight values; the gradient's pass is the same function of the gradient.
extern "C" __global__ void dropout(
    const T* x, T* out, DropoutParams params, long count, int rows, int tokens, int first, int pitch, int per_row,
    int width) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (group * 8 >= count) return;
  Eight values = reinterpret_cast<const Eight*>(x)[group];
  int column = static_cast<int>(group * 8 % width);
  uint4 bits = bits_of_hidden(params, group * 8 / width, column, rows, tokens, first, pitch, per_row);
  for (int e = 0; e < 8; ++e) {
    values.at[e] = is_kept(bits, e, params.threshold) ? narrowed(widened(values.at[e]) * params.scale) : narrowed(0.0f);
  }
  reinterpret_cast<Eight*>(out)[group] = values;
}
