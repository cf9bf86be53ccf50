// Interface to the device that runs the project's kernels. cuda.cpp implements it with the driver; the tests' emulator
// on a CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "../kernels/dropout_traits.h"
#include "autograd.h"

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  Dim3 grid, block;
  int64_t shared_bytes = 0;
};

// Queues a kernel of torch-ext/kernels by name and variant ("f32", "bf16", or the width of attention's heads).
// `arguments` are pointers to its arguments, of exactly the kernel's types.
void launch_kernel(const std::string& name, const std::string& variant, const Launch& how, void** arguments);

// The product of float16 matrices, summed and returned in float32.
at::Tensor mm_f16(const at::Tensor& left, const at::Tensor& right);

namespace {
template <typename... Arguments>
void launch(const std::string& name, const std::string& variant, const Launch& how, Arguments... arguments) {
  void* pointers[] = {&arguments...};
  launch_kernel(name, variant, how, pointers);
}

std::string variant(const at::Tensor& tensor) {
  auto kind = tensor.scalar_type();
  TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "no kernel for ", kind);
  return kind == at::kFloat ? "f32" : "bf16";
}

unsigned ceil_div(int64_t n, int64_t divisor) { return static_cast<unsigned>((n + divisor - 1) / divisor); }

void* pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

DropoutParams params(const DropoutSpec& drop) {
  return {reinterpret_cast<const long long*>(drop.state.data_ptr()), static_cast<unsigned>(drop.stream),
          drop.threshold(), drop.scale()};
}
}  // namespace
