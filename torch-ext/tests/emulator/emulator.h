// A GPU on a CPU, for tests of the kernels: the threads of a block are fibers of one CPU thread, and every warp-wide
// instruction waits for its 32 lanes as the hardware does.
//
// Checks beyond the results: lanes that miss a warp-wide instruction or arrive at different ones, barriers that
// some threads never reach, accesses of asynchronous copies and matrix loads that are misaligned or outside shared
// memory, writes past a block's shared memory. Shared memory holds NaN before a block. A missing barrier shows as a
// wrong result under one of the schedules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulator {
// Order of threads and blocks, and the moment at which asynchronous copies arrive: both extremes that the hardware
// allows.
enum class Schedule {
  FORWARD_EAGER,   // first thread first; a copy arrives at once
  BACKWARD_LAZY,   // last thread first; a copy arrives when it is waited for
};
constexpr int SCHEDULES = 2;

struct Index {
  unsigned x, y, z;
};

constexpr int WARP = 32;
constexpr size_t SHARED_BYTES = 160 * 1024;

// The running fiber's threadIdx, and the block's.
const Index& thread_index();
const Index& block_index();
const Index& block_size();
const Index& grid_size();

// Warp-wide instructions that are told apart.
enum class Instruction { SHUFFLE, REDUCE, LDMATRIX, LDMATRIX_TRANS, MMA };

// Value that a lane gives to the others of its warp.
struct Operands {
  uint64_t words[4];
};

void sync_threads();
// Waits for the 32 lanes, and returns what they gave.
const Operands* exchange(Instruction instruction, const Operands& mine);
int lane();

void copy_async(void* to, const void* from, bool is_inside);
void commit_copies();
void wait_for_copies(int groups_left);
// Checks an address of `bytes` bytes in the block's shared memory.
void check_shared(const void* address, size_t bytes, const char* what);

// A kernel, its arguments unpacked from pointers; the shared memory of its translation unit, or null.
using Kernel = void (*)(void** arguments);
using SharedMemory = void* (*)();
struct Registration {
  Registration(const char* name, const char* variant, Kernel kernel, SharedMemory shared);
};

// Runs a grid of blocks, one after the other. Throws where a kernel breaks a rule.
void run(const std::string& name, const std::string& variant, const Index& grid, const Index& block,
         size_t shared_bytes, void** arguments);
// Of this CPU thread.
void set_schedule(Schedule schedule);
}  // namespace emulator
