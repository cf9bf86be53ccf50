// float32 matrices as scaled sums of two in float16, whose products the tensor cores make: x = (h + l) / s, y = (h' + l') / s',
// x y = (l h' + h l' + h h') / s s', a single product of three times the depth with float32 sums, small terms first. A line's
// scale is the power of two that brings its largest value to [2^14, 2^15). h + l then differs from the scaled value by at most
// 2^-23 of it, or 2^-39 of the line's largest; what is left out, l l', is at most 2^-22 of x y (ADR 0019).

typedef unsigned short Half;

__device__ Half to_half(float value) {
  Half bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

__device__ float from_half(Half bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

struct alignas(8) FourHalves {
  Half at[4];
};

// Widths are multiples of 4. A block a line of [main | beside]; `factors` of its columns or null. The parts lie `part` values
// apart, and lines `pitch`: low, high, high of a left factor, high, low, high of a right one.
extern "C" __global__ void split_to_f16(
    const float* main, const float* beside, const float* factors, Half* parts, float* unscale, int width, int beside_width,
    long part, int pitch, int is_left) {
  long line = blockIdx.x;
  auto values = [&](float (&to)[4], int column) {
    const float* from = column < width ? main + line * width + column : beside + line * beside_width + column - width;
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
  largest = __reduce_max_sync(0xffffffffu, largest);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = largest;
  __syncthreads();
  for (int warp = 0; warp < blockDim.x / 32; ++warp) largest = max(largest, of_warps[warp]);
  int exponent = min(14 + 127 - static_cast<int>(largest >> 23), 100);
  float scale = __uint_as_float(static_cast<unsigned>(127 + exponent) << 23);
  if (threadIdx.x == 0) unscale[line] = __uint_as_float(static_cast<unsigned>(127 - exponent) << 23);
  for (int column = threadIdx.x * 4; column < width + beside_width; column += blockDim.x * 4) {
    float four[4];
    FourHalves high, low;
    values(four, column);
    for (int e = 0; e < 4; ++e) {
      float scaled = four[e] * scale;
      high.at[e] = to_half(scaled);
      low.at[e] = to_half(scaled - from_half(high.at[e]));
    }
    Half* to = parts + line * pitch + column;
    *reinterpret_cast<FourHalves*>(to) = is_left ? low : high;
    *reinterpret_cast<FourHalves*>(to + part) = is_left ? high : low;
    *reinterpret_cast<FourHalves*>(to + 2 * part) = high;
  }
}

// Lines and columns of y [lines, width] multiplied by their factors, and the bias added; null where there are none.
extern "C" __global__ void unscale(
    float* y, const float* of_lines, const float* of_columns, const float* bias, long blocks, int width) {
  long block = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (block >= blocks) return;
  int column = static_cast<int>(block % (width / 4)) * 4;
  float of_line = of_lines[block / (width / 4)];
  float4* place = reinterpret_cast<float4*>(y) + block;
  float4 value = *place, one = make_float4(1.0f, 1.0f, 1.0f, 1.0f), zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float4 by = of_columns ? *reinterpret_cast<const float4*>(of_columns + column) : one;
  float4 plus = bias ? *reinterpret_cast<const float4*>(bias + column) : zero;
  value.x = value.x * of_line * by.x + plus.x;
  value.y = value.y * of_line * by.y + plus.y;
  value.z = value.z * of_line * by.z + plus.z;
  value.w = value.w * of_line * by.w + plus.w;
  *place = value;
}
