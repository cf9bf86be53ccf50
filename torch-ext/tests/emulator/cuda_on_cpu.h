// The words of CUDA C++ and the PTX instructions that the kernels use, for a C++ compiler and the emulator.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "emulator.h"

// Of a translation unit: the block's variables, one copy for all fibers of the CPU thread that runs the block.
#define __shared__ thread_local
#define __device__
#define __global__
#define __launch_bounds__(...)

#define threadIdx emulator::thread_index()
#define blockIdx emulator::block_index()
#define blockDim emulator::block_size()
#define gridDim emulator::grid_size()

using std::max;
using std::min;

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <typename To, typename From>
To same_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &value, sizeof to);
  return to;
}
inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
inline float __int_as_float(int bits) { return same_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

template <typename V>
V __ldg(const V* from) { return *from; }

inline void __syncthreads() { emulator::sync_threads(); }

template <typename V>
V __shfl_sync(unsigned, V value, int from) {
  static_assert(sizeof(V) == 4);
  const auto* all = emulator::exchange(emulator::Instruction::SHUFFLE, {{same_bits<unsigned>(value)}});
  return same_bits<V>(static_cast<unsigned>(all[from % emulator::WARP].words[0]));
}

template <typename V>
V __shfl_xor_sync(unsigned mask, V value, int by) {
  return __shfl_sync(mask, value, emulator::lane() ^ by);
}

inline unsigned __reduce_max_sync(unsigned, unsigned value) {
  const auto* all = emulator::exchange(emulator::Instruction::REDUCE, {{value}});
  uint64_t largest = 0;
  for (int lane = 0; lane < emulator::WARP; ++lane) largest = std::max(largest, all[lane].words[0]);
  return static_cast<unsigned>(largest);
}

// In place of kernels/ptx.cuh, one function for each instruction there.
#define TORCH_EXT_PTX_CUH

// To the nearest, ties to even; a NaN stays one.
inline unsigned short cvt_bf16(float value) {
  unsigned bits = __float_as_uint(value);
  if (std::isnan(value)) return 0x7fff;
  return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline unsigned cvt_bf16x2(float low, float high) {
  return cvt_bf16(low) | static_cast<unsigned>(cvt_bf16(high)) << 16;
}

inline float cvt_f32(unsigned short half) {
  int exponent = half >> 10 & 31, fraction = half & 1023;
  float value = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                : exponent == 31 ? (fraction ? NAN : INFINITY)
                                 : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return half >> 15 ? -value : value;
}

inline unsigned short cvt_f16(float value) {
  unsigned sign = __float_as_uint(value) >> 16 & 0x8000;
  float size = std::fabs(value);
  if (std::isnan(value)) return 0x7fff;
  if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00);
  // Multiples of the distance between neighbours: 2^-24 below 2^-14, and 2^-10 of the power of two above.
  int exponent = std::max(size == 0.0f ? -14 : std::ilogb(size), -14);
  auto steps = static_cast<unsigned>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  return static_cast<unsigned short>(sign | (steps + (static_cast<unsigned>(exponent + 14) << 10)));
}

inline float of_bf16(uint64_t words, int index) {
  return __uint_as_float(static_cast<unsigned>(words >> 16 * index & 0xffff) << 16);
}

// ldmatrix.m8n8.x4: lane 8 m + i gives the address of row i of matrix m.
inline void ldmatrix(unsigned (&r)[4], const unsigned short* p) {
  emulator::check_shared(p, 16, "ldmatrix");
  const auto* all = emulator::exchange(emulator::Instruction::LDMATRIX, {{reinterpret_cast<uint64_t>(p)}});
  int row = emulator::lane() / 4, column = emulator::lane() % 4 * 2;
  for (int m = 0; m < 4; ++m) {
    const auto* from = reinterpret_cast<const unsigned short*>(all[8 * m + row].words[0]) + column;
    r[m] = from[0] | static_cast<unsigned>(from[1]) << 16;
  }
}

inline void ldmatrix_trans(unsigned (&r)[4], const unsigned short* p) {
  emulator::check_shared(p, 16, "ldmatrix.trans");
  const auto* all = emulator::exchange(emulator::Instruction::LDMATRIX_TRANS, {{reinterpret_cast<uint64_t>(p)}});
  int column = emulator::lane() / 4, row = emulator::lane() % 4 * 2;
  for (int m = 0; m < 4; ++m) {
    auto value = [&](int i) { return reinterpret_cast<const unsigned short*>(all[8 * m + i].words[0])[column]; };
    r[m] = value(row) | static_cast<unsigned>(value(row + 1)) << 16;
  }
}

// mma.m16n8k16. With g = lane / 4 and t = lane % 4, a lane has
// of A [16][16]: a[0] = (g, 2 t), a[1] = (g + 8, 2 t), a[2] = (g, 2 t + 8), a[3] = (g + 8, 2 t + 8), each with the next
// column; of B [16][8]: b0 = (2 t, g), b1 = (2 t + 8, g), each with the next row;
// of D [16][8]: d[0] = (g, 2 t), d[1] = (g, 2 t + 1), d[2] = (g + 8, 2 t), d[3] = (g + 8, 2 t + 1).
inline void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  auto pair = [](uint64_t low, uint64_t high) { return low | high << 32; };
  const auto* all =
      emulator::exchange(emulator::Instruction::MMA, {{pair(a[0], a[1]), pair(a[2], a[3]), pair(b0, b1)}});
  int g = emulator::lane() / 4, t = emulator::lane() % 4;
  for (int e = 0; e < 4; ++e) {
    int column = 2 * t + e % 2, half = e / 2;
    float sum = 0.0f;
    for (int k = 0; k < 16; ++k) {
      const auto& of_a = all[4 * g + k % 8 / 2];
      const auto& of_b = all[4 * column + k % 8 / 2];
      sum += of_bf16(of_a.words[k / 8], 2 * half + k % 2) * of_bf16(of_b.words[2], 2 * (k / 8) + k % 2);
    }
    d[e] += sum;
  }
}

inline uint4 ld_once(const void* from) { return *static_cast<const uint4*>(from); }
inline float ex2_approx(float x) { return std::exp2(x); }
inline float rcp_approx(float x) { return 1.0f / x; }

inline void cp_async_16(void* to, const void* from, bool is_inside) { emulator::copy_async(to, from, is_inside); }
inline void cp_async_commit_group() { emulator::commit_copies(); }
template <int LEFT>
void cp_async_wait_group() {
  emulator::wait_for_copies(LEFT);
}

// A kernel's call with arguments of its own types, read where the pointers point.
template <auto KERNEL>
struct Call;
template <typename... Arguments, void (*KERNEL)(Arguments...)>
struct Call<KERNEL> {
  static void with(void** arguments) { with(arguments, std::index_sequence_for<Arguments...>()); }
  template <size_t... INDICES>
  static void with(void** arguments, std::index_sequence<INDICES...>) {
    KERNEL(*static_cast<Arguments*>(arguments[INDICES])...);
  }
};
#define REGISTER(kernel, variant, shared) \
  const emulator::Registration register_##kernel(#kernel, variant, Call<kernel>::with, shared)

// A name of its own for a kernel that another translation unit has, too: C linkage knows no namespaces.
#define JOINED_NAMES(a, b) a##b
#define OWN_NAME(kernel, variant) JOINED_NAMES(kernel, variant)
