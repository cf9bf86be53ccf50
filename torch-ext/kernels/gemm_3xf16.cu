// float32 products on tensor cores that multiply float16 (Ootomo and Yokota 2022, arXiv 2203.03341; ADR 0019).
//
// Each factor is a scaled sum of two values in float16: x = (h + l) / s, y = (h' + l') / s', so
// x y = (l h' + h l' + h h') / (s s'): one product of three times the depth with float32 sums, small terms first. s is
// the power of two that brings the largest value of a row to [2^14, 2^15). h + l then differs from the scaled value by
// at most 2^-23 of it, or 2^-39 of the row's largest. The term left out, l l', is at most 2^-22 of x y.
//
// split_to_f16: f32 [rows, width | beside_width] to f16 parts, and unscale = 1 / s of each row. unscale: y <- y / (s
// s') + bias. Widths are multiples of 4.

#include "ptx.cuh"
#include "warp.cuh"

typedef unsigned short F16;

struct alignas(8) FourF16 {
  F16 at[4];
};

// Splits [main | beside] after its columns are multiplied by `factors`, where those are not null. The three parts of a
// row lie `part` values apart, and rows `pitch`: low, high, high of a left factor; high, low, high of a right one. A
// block a row.
extern "C" __global__ void split_to_f16(const float* main, const float* beside, const float* factors, F16* parts,
                                        float* unscale, int width, int beside_width, long part, int pitch,
                                        int is_left) {
  long row = blockIdx.x;
  auto values = [&](float (&to)[4], int column) {
    const float* from = column < width ? main + row * width + column : beside + row * beside_width + column - width;
    float4 four = *reinterpret_cast<const float4*>(from);
    float4 by = factors ? *reinterpret_cast<const float4*>(factors + column) : make_float4(1.0f, 1.0f, 1.0f, 1.0f);
    to[0] = four.x * by.x, to[1] = four.y * by.y, to[2] = four.z * by.z, to[3] = four.w * by.w;
  };
  // Bits of positive values are ordered as the values are, NaN above all.
  unsigned largest = 0;
  for (int column = threadIdx.x * 4; column < width + beside_width; column += blockDim.x * 4) {
    float four[4];
    values(four, column);
    for (int e = 0; e < 4; ++e) largest = max(largest, __float_as_uint(fabsf(four[e])));
  }
  __shared__ unsigned of_warps[32];
  largest = warp_max(largest);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = largest;
  __syncthreads();
  for (int warp = 0; warp < blockDim.x / 32; ++warp) largest = max(largest, of_warps[warp]);
  int exponent = min(14 + 127 - static_cast<int>(largest >> 23), 100);
  float scale = __uint_as_float(static_cast<unsigned>(127 + exponent) << 23);
  if (threadIdx.x == 0) unscale[row] = __uint_as_float(static_cast<unsigned>(127 - exponent) << 23);
  for (int column = threadIdx.x * 4; column < width + beside_width; column += blockDim.x * 4) {
    float four[4];
    FourF16 high, low;
    values(four, column);
    for (int e = 0; e < 4; ++e) {
      float scaled = four[e] * scale;
      high.at[e] = cvt_f16(scaled);
      low.at[e] = cvt_f16(scaled - cvt_f32(high.at[e]));
    }
    F16* to = parts + row * pitch + column;
    *reinterpret_cast<FourF16*>(to) = is_left ? low : high;
    *reinterpret_cast<FourF16*>(to + part) = is_left ? high : low;
    *reinterpret_cast<FourF16*>(to + 2 * part) = high;
  }
}

// Multiplies rows and columns of y [rows, width] by their factors and adds the bias. column_factors and bias may be
// null. A thread four values.
extern "C" __global__ void unscale(
    float* y, const float* row_factors, const float* column_factors, const float* bias, long groups, int width) {
  long group = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (group >= groups) return;
  int column = static_cast<int>(group % (width / 4)) * 4;
  float row_factor = row_factors[group / (width / 4)];
  float4* target = reinterpret_cast<float4*>(y) + group;
  float4 value = *target, one = make_float4(1.0f, 1.0f, 1.0f, 1.0f), zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float4 by = column_factors ? *reinterpret_cast<const float4*>(column_factors + column) : one;
  float4 plus = bias ? *reinterpret_cast<const float4*>(bias + column) : zero;
  value.x = value.x * row_factor * by.x + plus.x;
  value.y = value.y * row_factor * by.y + plus.y;
  value.z = value.z * row_factor * by.z + plus.z;
  value.w = value.w * row_factor * by.w + plus.w;
  *target = value;
}
