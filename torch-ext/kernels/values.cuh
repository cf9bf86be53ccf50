// Values as T: float, or bfloat16 as its bits where BF16 is defined.
#pragma once

#include "ptx.cuh"

#ifdef BF16
typedef unsigned short T;
__device__ float widened(T value) { return __uint_as_float(static_cast<unsigned>(value) << 16); }
__device__ T narrowed(float value) { return cvt_bf16(value); }
#else
typedef float T;
__device__ float widened(T value) { return value; }
__device__ T narrowed(float value) { return value; }
#endif

// Eight neighbours, moved as one.
struct alignas(sizeof(T) * 8) Eight {
  T at[8];
};

#ifdef BF16
__device__ Eight narrowed(const float (&values)[8]) {
  Eight eight;
  unsigned* pairs = reinterpret_cast<unsigned*>(&eight);
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) pairs[pair] = cvt_bf16x2(values[2 * pair], values[2 * pair + 1]);
  return eight;
}
#endif
