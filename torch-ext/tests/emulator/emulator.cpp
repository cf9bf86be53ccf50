// The emulator's scheduler. Fibers change by _setjmp and _longjmp: swapcontext would ask the system for the signal mask
// every time.
#include "emulator.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <vector>

namespace emulator {
namespace {
constexpr size_t STACK_BYTES = 128 * 1024;
constexpr int MAX_THREADS = 1024;
constexpr unsigned char CANARY = 0xA5, POISON = 0xFF;

struct Copy {
  void* to;
  const void* from;
  bool is_inside;

  void run() const {
    if (is_inside) std::memcpy(to, from, 16);
    else std::memset(to, 0, 16);
  }
};

enum class State { NEW, READY, AT_BARRIER, AT_INSTRUCTION, DONE };

struct Fiber {
  State state;
  Index index;
  ucontext_t entry;
  jmp_buf resumed;
  Instruction instruction;
  // Warp-wide instructions so far.
  unsigned instructions;
  std::vector<std::vector<Copy>> groups;
  std::vector<Copy> open_group;
};

struct Warp {
  // Two sets: lanes that go on may give the next one while others still read.
  Operands operands[2][WARP];
};

// One block at a time on each CPU thread.
struct Machine {
  Schedule schedule = Schedule::FORWARD_EAGER;
  std::vector<Fiber> fibers{MAX_THREADS};
  std::vector<Warp> warps{MAX_THREADS / WARP};
  char* stacks = nullptr;
  Index block{}, block_dim{}, grid_dim{};
  int threads = 0, running = 0;
  Kernel kernel = nullptr;
  void** arguments = nullptr;
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  jmp_buf scheduler;
  std::string error;

  Machine() {
    size_t bytes = STACK_BYTES * MAX_THREADS;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for the emulator's stacks");
    stacks = static_cast<char*>(memory);
  }
  ~Machine() { munmap(stacks, STACK_BYTES * MAX_THREADS); }
};
thread_local Machine machine;

Fiber& current() { return machine.fibers[machine.running]; }

// Back to the scheduler.
void yield() {
  if (_setjmp(current().resumed) == 0) _longjmp(machine.scheduler, 1);
}

[[noreturn]] void fail(const std::string& message) {
  const auto& at = current().index;
  machine.error = message + " (thread " + std::to_string(at.x) + ", " + std::to_string(at.y) + " of block " +
                  std::to_string(machine.block.x) + ", " + std::to_string(machine.block.y) + ", " +
                  std::to_string(machine.block.z) + ")";
  _longjmp(machine.scheduler, 1);
}

void enter_kernel() {
  machine.kernel(machine.arguments);
  current().state = State::DONE;
  _longjmp(machine.scheduler, 1);
}

void resume(int index) {
  machine.running = index;
  auto& fiber = current();
  if (_setjmp(machine.scheduler) != 0) return;
  if (fiber.state != State::NEW) {
    fiber.state = State::READY;
    _longjmp(fiber.resumed, 1);
  }
  fiber.state = State::READY;
  getcontext(&fiber.entry);
  fiber.entry.uc_stack = {machine.stacks + STACK_BYTES * index, 0, STACK_BYTES};
  fiber.entry.uc_link = nullptr;
  makecontext(&fiber.entry, enter_kernel, 0);
  setcontext(&fiber.entry);
}

bool is_backward() { return machine.schedule == Schedule::BACKWARD_LAZY; }

// Runs a warp until every lane is at the block's barrier or done.
void run_warp(int warp) {
  int first = warp * WARP, count = std::min(WARP, machine.threads - first);
  for (;;) {
    int waiting = 0;
    for (int i = 0; i < count; ++i) {
      int index = first + (is_backward() ? count - 1 - i : i);
      auto& fiber = machine.fibers[index];
      if (fiber.state == State::NEW || fiber.state == State::READY) resume(index);
      if (!machine.error.empty()) return;
      waiting += fiber.state == State::AT_INSTRUCTION;
    }
    if (waiting == 0) return;
    for (int i = 0; i < count; ++i) {
      auto& fiber = machine.fibers[first + i];
      machine.running = first + i;
      bool is_same = fiber.state == State::AT_INSTRUCTION && fiber.instruction == machine.fibers[first].instruction;
      if (!is_same || count < WARP) {
        machine.error = "a warp-wide instruction without all lanes of warp " + std::to_string(warp);
        return;
      }
      fiber.state = State::READY;
    }
  }
}

void run_block() {
  if (machine.shared) {
    std::memset(machine.shared, POISON, machine.shared_bytes);
    std::memset(machine.shared + machine.shared_bytes, CANARY, SHARED_BYTES - machine.shared_bytes);
  }
  for (int i = 0; i < machine.threads; ++i) {
    auto& fiber = machine.fibers[i];
    unsigned x = machine.block_dim.x, y = machine.block_dim.y, n = i;
    fiber.state = State::NEW, fiber.index = {n % x, n / x % y, n / x / y}, fiber.instructions = 0;
    fiber.groups.clear(), fiber.open_group.clear();
  }
  int warps = (machine.threads + WARP - 1) / WARP;
  for (int waiting = 1; waiting > 0 && machine.error.empty();) {
    for (int i = 0; i < warps && machine.error.empty(); ++i) run_warp(is_backward() ? warps - 1 - i : i);
    // Threads that have returned count as arrived, as on the hardware.
    waiting = 0;
    for (int i = 0; i < machine.threads; ++i) {
      auto& fiber = machine.fibers[i];
      if (fiber.state == State::AT_BARRIER) fiber.state = State::READY, ++waiting;
    }
  }
  for (size_t i = machine.shared_bytes; machine.shared && i < SHARED_BYTES && machine.error.empty(); ++i) {
    if (machine.shared[i] != CANARY)
      machine.error = "a write past the block's shared memory, at byte " + std::to_string(i);
  }
}

struct Registered {
  Kernel kernel;
  SharedMemory shared;
};

std::map<std::string, Registered>& registry() {
  static std::map<std::string, Registered> kernels;
  return kernels;
}
}  // namespace

const Index& thread_index() { return current().index; }
const Index& block_index() { return machine.block; }
const Index& block_size() { return machine.block_dim; }
const Index& grid_size() { return machine.grid_dim; }
int lane() { return machine.running % WARP; }

void sync_threads() {
  current().state = State::AT_BARRIER;
  yield();
}

const Operands* exchange(Instruction instruction, const Operands& mine) {
  auto& fiber = current();
  auto* operands = machine.warps[machine.running / WARP].operands[fiber.instructions++ % 2];
  operands[lane()] = mine;
  fiber.instruction = instruction;
  fiber.state = State::AT_INSTRUCTION;
  yield();
  return operands;
}

void check_shared(const void* address, size_t bytes, const char* what) {
  const auto* begin = static_cast<const unsigned char*>(address);
  bool is_inside = begin >= machine.shared && begin + bytes <= machine.shared + machine.shared_bytes;
  if (!is_inside) fail(std::string(what) + " outside shared memory");
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) fail(std::string(what) + " of a misaligned address");
}

void copy_async(void* to, const void* from, bool is_inside) {
  check_shared(to, 16, "cp.async");
  if (is_inside && reinterpret_cast<uintptr_t>(from) % 16 != 0) fail("cp.async from a misaligned address");
  Copy copy{to, from, is_inside};
  if (machine.schedule == Schedule::FORWARD_EAGER) copy.run();
  else current().open_group.push_back(copy);
}

void commit_copies() {
  current().groups.push_back(std::move(current().open_group));
  current().open_group.clear();
}

void wait_for_copies(int groups_left) {
  auto& groups = current().groups;
  auto count = static_cast<int>(groups.size()) - groups_left;
  for (int i = 0; i < count; ++i) {
    for (const auto& copy : groups[i]) copy.run();
  }
  if (count > 0) groups.erase(groups.begin(), groups.begin() + count);
}

Registration::Registration(const char* name, const char* variant, Kernel kernel, SharedMemory shared) {
  registry()[std::string(name) + " " + variant] = {kernel, shared};
}

void run(const std::string& name, const std::string& variant, const Index& grid, const Index& block,
         size_t shared_bytes, void** arguments) {
  auto found = registry().find(name + " " + variant);
  auto check = [&](bool is_right, const std::string& message) {
    if (!is_right) throw std::runtime_error(name + " " + variant + ": " + message);
  };
  check(found != registry().end(), "the emulator has no such kernel");
  machine.threads = static_cast<int>(block.x * block.y * block.z);
  check(machine.threads > 0 && machine.threads <= MAX_THREADS,
        "blocks of " + std::to_string(machine.threads) + " threads");
  check(shared_bytes <= SHARED_BYTES, std::to_string(shared_bytes) + " bytes of shared memory");
  machine.kernel = found->second.kernel, machine.arguments = arguments;
  machine.block_dim = block, machine.grid_dim = grid;
  machine.shared = found->second.shared ? static_cast<unsigned char*>(found->second.shared()) : nullptr;
  machine.shared_bytes = shared_bytes;
  machine.error.clear();
  uint64_t count = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t at = is_backward() ? count - 1 - i : i;
    machine.block = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                     static_cast<unsigned>(at / grid.x / grid.y)};
    run_block();
    check(machine.error.empty(), machine.error);
  }
}

void set_schedule(Schedule schedule) { machine.schedule = schedule; }
}  // namespace emulator

