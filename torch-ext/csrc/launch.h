// How the project's kernels are found and launched.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>

#include <map>
#include <string>

#include "autograd.h"

namespace {
// The driver's functions, found at run time: nothing here is linked against it.
template <typename F>
F driver(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  void* symbol = library ? dlsym(library, name) : nullptr;
  TORCH_CHECK(symbol, "the driver has no ", name);
  return reinterpret_cast<F>(symbol);
}

// Kernels of torch-ext/kernels by name and variant: "f32", "bf16", or the width of attention's heads.
std::map<std::string, CUfunction> kernels;

std::string variant(const at::Tensor& tensor) {
  auto kind = tensor.scalar_type();
  TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "no kernel for ", kind);
  return kind == at::kFloat ? "f32" : "bf16";
}

struct Launch {
  dim3 grid, block;
  int64_t shared = 0;
};

template <typename... Arguments>
void launch(const std::string& name, const std::string& of, const Launch& how, Arguments... arguments) {
  static auto call = driver<decltype(&cuLaunchKernel)>("cuLaunchKernel");
  auto found = kernels.find(name + " " + of);
  TORCH_CHECK(found != kernels.end(), "kernel ", name, " ", of, " is not loaded");
  void* pointers[] = {&arguments...};
  auto stream = c10::cuda::getCurrentCUDAStream().stream();
  const auto &grid = how.grid, &block = how.block;
  auto code = call(
      found->second, grid.x, grid.y, grid.z, block.x, block.y, block.z, how.shared, stream, pointers, nullptr);
  TORCH_CHECK(code == CUDA_SUCCESS, name, " could not be launched: CUDA error ", static_cast<int>(code));
}

unsigned ceil_div(int64_t n, int64_t divisor) { return static_cast<unsigned>((n + divisor - 1) / divisor); }

void* pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

// As the kernels see it (kernels/values.cuh).
struct Random {
  const void* state;
  unsigned place, threshold;
  float scale;

  explicit Random(const Drop& drop)
      : state(drop.state.data_ptr()), place(drop.place), threshold(drop.threshold()), scale(drop.scale()) {}
};
}  // namespace
