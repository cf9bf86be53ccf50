// Dropout, residual and LayerNorm (Ba et al. 2016) as one, and their gradient.
//
// sum = dropout(x) + residual; out = (sum - mean) rstd weight + bias, with rstd = 1 / sqrt(var + eps) of each token.
// With g = grad weight and n = (sum - mean) rstd: d_sum = rstd (g - mean(g) - n mean(g n)); d_residual = d_sum,
// dx = dropout(d_sum).
//
// x, residual, out and their gradients are [tokens, width] in f32 or bf16, some with a pitch of their own; mean and
// rstd [tokens] in f32. Width is a multiple of 8, at most norm_traits::MAX_WIDTH. `sum`, mean and rstd are kept for the
// gradient. weight and bias are frozen. Where tokens are packed, `indices` names each one's place in [runs * rows,
// length], which decides its dropout. A warp a token. Sources: ADR 0016, 0018, 0020.

#include "norm_traits.h"
#include "philox.cuh"
#include "values.cuh"
#include "warp.cuh"

const int GROUPS = norm_traits::GROUPS_PER_LANE;

extern "C" __global__ void norm_forward(const T* x, const T* residual, const T* weight, const T* bias, T* sum, T* out,
                                        float* mean, float* rstd, DropoutParams dropout, const long long* indices,
                                        long tokens, int rows, int length, int width, int residual_pitch, int out_pitch,
                                        float eps) {
  long token = static_cast<long>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (token >= tokens) return;
  long padded = indices ? indices[token] : token;
  int lane = threadIdx.x % 32;
  float held[GROUPS][8];
  float total = 0.0f;
  for (int c = 0; c < GROUPS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    Eight a = *reinterpret_cast<const Eight*>(x + token * width + column);
    Eight b = *reinterpret_cast<const Eight*>(residual + token * residual_pitch + column), kept;
    uint4 bits = bits_of_hidden(dropout, padded, column, rows, length, 0, width / 8, 1);
    for (int e = 0; e < 8; ++e) {
      float dropped = is_kept(bits, e, dropout.threshold) ? widened(a.at[e]) * dropout.scale : 0.0f;
      kept.at[e] = narrowed(dropped + widened(b.at[e]));
      held[c][e] = widened(kept.at[e]);
      total += held[c][e];
    }
    *reinterpret_cast<Eight*>(sum + token * width + column) = kept;
  }
  float average = warp_sum(total) / width, square = 0.0f;
  for (int c = 0; c < GROUPS; ++c) {
    if ((c * 32 + lane) * 8 >= width) break;
    for (int e = 0; e < 8; ++e) square += (held[c][e] - average) * (held[c][e] - average);
  }
  float reciprocal = rsqrtf(warp_sum(square) / width + eps);
  for (int c = 0; c < GROUPS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    Eight w = *reinterpret_cast<const Eight*>(weight + column), b = *reinterpret_cast<const Eight*>(bias + column), y;
    for (int e = 0; e < 8; ++e) {
      y.at[e] = narrowed((held[c][e] - average) * reciprocal * widened(w.at[e]) + widened(b.at[e]));
    }
    *reinterpret_cast<Eight*>(out + token * out_pitch + column) = y;
  }
  if (lane == 0) {
    mean[token] = average;
    rstd[token] = reciprocal;
  }
}

extern "C" __global__ void norm_backward(
    const T* grad, const T* sum, const T* weight, const float* mean, const float* rstd, T* dx, T* dresidual,
    DropoutParams dropout, const long long* indices, long tokens, int rows, int length, int width, int dx_pitch) {
  long token = static_cast<long>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (token >= tokens) return;
  long padded = indices ? indices[token] : token;
  int lane = threadIdx.x % 32;
  float average = mean[token], reciprocal = rstd[token];
  float scaled[GROUPS][8], normal[GROUPS][8];
  float first = 0.0f, second = 0.0f;
  for (int c = 0; c < GROUPS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    Eight g = *reinterpret_cast<const Eight*>(grad + token * width + column);
    Eight s = *reinterpret_cast<const Eight*>(sum + token * width + column);
    Eight w = *reinterpret_cast<const Eight*>(weight + column);
    for (int e = 0; e < 8; ++e) {
      scaled[c][e] = widened(g.at[e]) * widened(w.at[e]);
      normal[c][e] = (widened(s.at[e]) - average) * reciprocal;
      first += scaled[c][e];
      second += scaled[c][e] * normal[c][e];
    }
  }
  first = warp_sum(first) / width;
  second = warp_sum(second) / width;
  for (int c = 0; c < GROUPS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    uint4 bits = bits_of_hidden(dropout, padded, column, rows, length, 0, width / 8, 1);
    Eight a, b;
    for (int e = 0; e < 8; ++e) {
      float d = reciprocal * (scaled[c][e] - first - normal[c][e] * second);
      b.at[e] = narrowed(d);
      a.at[e] = is_kept(bits, e, dropout.threshold) ? narrowed(d * dropout.scale) : narrowed(0.0f);
    }
    *reinterpret_cast<Eight*>(dx + token * dx_pitch + column) = a;
    *reinterpret_cast<Eight*>(dresidual + token * width + column) = b;
  }
}
