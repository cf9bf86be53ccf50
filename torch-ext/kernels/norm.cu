// Dropout, residual and LayerNorm (Ba et al. 2016) as one, and their gradient; where a linear with a branch reads what
// is written, the product with the branch's matrix, too (low_product.cuh).
//
// sum = dropout(x) + residual; out = (sum - mean) rstd weight + bias, with rstd = 1 / sqrt(var + eps) of each token.
// With g = grad weight and n = (sum - mean) rstd: d_sum = rstd (g - mean(g) - n mean(g n)); d_residual = d_sum,
// dx = dropout(d_sum). low = out A^T, or dx U.
//
// x, residual, out and their gradients are [tokens, width] in f32 or bf16, some with a pitch of their own; mean and
// rstd [tokens] in f32. Width is a multiple of 8, at most low_product_traits::MAX_WIDTH. `sum`, mean and rstd are kept for the
// gradient. weight and bias are frozen. Where tokens are packed, `indices` names each one's place in [runs * rows,
// length], which decides its dropout. A warp has a token, a block sixteen. Sources: ADR 0016, 0018, 0020.

#include "low_product.cuh"
#include "philox.cuh"
#include "values.cuh"
#include "warp.cuh"

const int GROUPS = low_product_traits::GROUPS_PER_LANE;

extern "C" __global__ void __launch_bounds__(low_product_traits::THREADS, 4 / sizeof(T)) norm_forward(const T* x, const T* residual, const T* weight, const T* bias, T* sum, T* out,
                                        float* mean, float* rstd, DropoutParams dropout, const long long* indices,
                                        long tokens, int rows, int length, int width, int residual_pitch, int out_pitch,
                                        float eps, LowProduct low) {
  __shared__ SharedTokens shared_tokens;
  long token = token_of_warp();
  int lane = threadIdx.x % 32;
  if (token < tokens) {
    long padded = indices ? indices[token] : token;
    float held[GROUPS][8];
    float total = 0.0f;
#pragma unroll
    for (int c = 0; c < GROUPS; ++c) {
      int column = (c * 32 + lane) * 8;
      if (column >= width) break;
      Eight a = *reinterpret_cast<const Eight*>(x + token * width + column);
      Eight b = *reinterpret_cast<const Eight*>(residual + token * residual_pitch + column);
      uint4 bits = bits_of_hidden(dropout, padded, column, rows, length, 0, width / 8, 1);
      for (int e = 0; e < 8; ++e) {
        float dropped = is_kept(bits, e, dropout.threshold) ? widened(a.at[e]) * dropout.scale : 0.0f;
        held[c][e] = dropped + widened(b.at[e]);
      }
      Eight kept = narrowed(held[c]);
      for (int e = 0; e < 8; ++e) {
        held[c][e] = widened(kept.at[e]);
        total += held[c][e];
      }
      *reinterpret_cast<Eight*>(sum + token * width + column) = kept;
    }
    float average = warp_sum(total) / width, square = 0.0f;
#pragma unroll
    for (int c = 0; c < GROUPS; ++c) {
      if ((c * 32 + lane) * 8 >= width) break;
      for (int e = 0; e < 8; ++e) square += (held[c][e] - average) * (held[c][e] - average);
    }
    float reciprocal = rsqrtf(warp_sum(square) / width + eps);
#pragma unroll
    for (int c = 0; c < GROUPS; ++c) {
      int column = (c * 32 + lane) * 8;
      if (column >= width) break;
      Eight w = *reinterpret_cast<const Eight*>(weight + column), b = *reinterpret_cast<const Eight*>(bias + column);
      for (int e = 0; e < 8; ++e) {
        held[c][e] = (held[c][e] - average) * reciprocal * widened(w.at[e]) + widened(b.at[e]);
      }
      Eight y = narrowed(held[c]);
      *reinterpret_cast<Eight*>(out + token * out_pitch + column) = y;
      if (low.r > 0) of_tile(shared_tokens.tile, column) = y;
    }
    if (lane == 0) mean[token] = average, rstd[token] = reciprocal;
  }
  if (low.r > 0) make_product(low, shared_tokens, tokens, width);
}

extern "C" __global__ void __launch_bounds__(low_product_traits::THREADS, 4 / sizeof(T)) norm_backward(
    const T* grad, const T* sum, const T* weight, const float* mean, const float* rstd, T* dx, T* dresidual,
    DropoutParams dropout, const long long* indices, long tokens, int rows, int length, int width, int dx_pitch,
    LowProduct low) {
  __shared__ SharedTokens shared_tokens;
  long token = token_of_warp();
  int lane = threadIdx.x % 32;
  if (token < tokens) {
    long padded = indices ? indices[token] : token;
    float average = mean[token], reciprocal = rstd[token];
    Eight of_out[GROUPS], of_sum[GROUPS];
    float first = 0.0f, second = 0.0f;
#pragma unroll
    for (int c = 0; c < GROUPS; ++c) {
      int column = (c * 32 + lane) * 8;
      if (column >= width) break;
      of_out[c] = *reinterpret_cast<const Eight*>(grad + token * width + column);
      of_sum[c] = *reinterpret_cast<const Eight*>(sum + token * width + column);
      Eight w = *reinterpret_cast<const Eight*>(weight + column);
      for (int e = 0; e < 8; ++e) {
        float scaled = widened(of_out[c].at[e]) * widened(w.at[e]);
        first += scaled;
        second += scaled * (widened(of_sum[c].at[e]) - average) * reciprocal;
      }
    }
    first = warp_sum(first) / width;
    second = warp_sum(second) / width;
#pragma unroll
    for (int c = 0; c < GROUPS; ++c) {
      int column = (c * 32 + lane) * 8;
      if (column >= width) break;
      uint4 bits = bits_of_hidden(dropout, padded, column, rows, length, 0, width / 8, 1);
      Eight w = *reinterpret_cast<const Eight*>(weight + column);
      float of_x[8], of_residual[8];
      for (int e = 0; e < 8; ++e) {
        float scaled = widened(of_out[c].at[e]) * widened(w.at[e]);
        float normal = (widened(of_sum[c].at[e]) - average) * reciprocal;
        of_residual[e] = reciprocal * (scaled - first - normal * second);
        of_x[e] = is_kept(bits, e, dropout.threshold) ? of_residual[e] * dropout.scale : 0.0f;
      }
      Eight a = narrowed(of_x);
      *reinterpret_cast<Eight*>(dx + token * dx_pitch + column) = a;
      *reinterpret_cast<Eight*>(dresidual + token * width + column) = narrowed(of_residual);
      if (low.r > 0) of_tile(shared_tokens.tile, column) = a;
    }
  }
  if (low.r > 0) make_product(low, shared_tokens, tokens, width);
}
