// launch.h's interface by the emulator, and its settings for Rust.
#include "../../csrc/launch.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>

#include "emulator.h"

void launch_kernel(const std::string& name, const std::string& variant, const Launch& how, void** arguments) {
  const auto &grid = how.grid, &block = how.block;
  emulator::run(name, variant, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, how.shared_bytes, arguments);
}

// Sums in doubles, so that a result differs from the exact one by its factors alone.
at::Tensor mm_f16(const at::Tensor& left, const at::Tensor& right) {
  return at::mm(left.to(at::kDouble), right.to(at::kDouble)).to(at::kFloat);
}

extern "C" {

// Sets the schedule of this CPU thread and gives the number of schedules.
int rb_emulator_schedule(int schedule) {
  emulator::set_schedule(static_cast<emulator::Schedule>(schedule));
  return emulator::SCHEDULES;
}

// New tensors hold NaN, so that a value that no kernel writes is seen.
void rb_emulator_poison_memory() {
  at::globalContext().setDeterministicAlgorithms(true, true);
  at::globalContext().setDeterministicFillUninitializedMemory(true);
}
}
