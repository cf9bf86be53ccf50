// What the kernels share: values as T (float, or bfloat16 as its bits with BF16 defined), and the random numbers of dropout.

#ifdef BF16
typedef unsigned short T;
__device__ float widened(T value) { return __uint_as_float(static_cast<unsigned>(value) << 16); }
// To the nearest, ties to even.
__device__ T narrowed(float value) {
  T bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#else
typedef float T;
__device__ float widened(T value) { return value; }
__device__ T narrowed(float value) { return value; }
#endif

// Eight neighbours, moved as one.
struct alignas(sizeof(T) * 8) Eight {
  T at[8];
};

// Philox 4x32-10 (Salmon et al. 2011): 128 bits for a counter, eight 16-bit numbers.
__device__ uint4 philox(uint4 counter, uint2 key) {
  for (int round = 0; round < 10; ++round) {
    unsigned high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
    unsigned high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
    counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}

// Which values dropout keeps is a function of the run's seed and step, the place in the network, and the value's row and
// block of eight within it, and of nothing else: not of padding, of what else is in the batch, or of the device.
struct Random {
  const long long* state;  // seed and step of each run, [runs, 2]
  unsigned place, threshold;
  float scale;

  __device__ uint4 of(int run, unsigned row, unsigned block) const {
    unsigned long long seed = state[2 * run];
    uint2 key = make_uint2(static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32));
    return philox(make_uint4(block, row, place, static_cast<unsigned>(state[2 * run + 1])), key);
  }
};

__device__ bool is_kept(const uint4& bits, int index, unsigned threshold) {
  unsigned word = index < 2 ? bits.x : index < 4 ? bits.y : index < 6 ? bits.z : bits.w;
  return (index % 2 ? word >> 16 : word & 0xffff) >= threshold;
}
