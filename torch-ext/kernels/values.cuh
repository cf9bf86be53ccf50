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
