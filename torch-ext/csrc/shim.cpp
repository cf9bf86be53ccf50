// Calls of libtorch that tch does not expose. No CUDA header is needed: the device's allocator is reached through
// ATen's accelerator interface. Every function gives 0, or -1 with the message in rb_last_error().

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/AllocatorConfig.h>
#include <torch/version.h>

#include "../kernels/adalora_traits.h"
#include "../kernels/dropout_traits.h"
#include "../kernels/norm_traits.h"
#include "guarded.h"

extern "C" {

const char* rb_last_error() { return last_error.c_str(); }

const char* rb_version() { return TORCH_VERSION; }

int rb_synchronize(int device) {
  return guarded([=] { at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device)); });
}

int rb_reset_peak_memory(int device) {
  return guarded([=] { at::accelerator::resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

// Peaks in bytes: of tensors, and of the allocator's memory.
int rb_peak_memory(int device, long long* allocated, long long* reserved) {
  return guarded([=] {
    auto stats = at::accelerator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
    auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[all].peak;
    *reserved = stats.reserved_bytes[all].peak;
  });
}

int rb_let_segments_grow() {
  return guarded([] { c10::CachingAllocator::setAllocatorSettings("expandable_segments:True"); });
}

int rb_release_memory(int device) {
  return guarded([=] {
    at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device));
    at::accelerator::emptyCache();
  });
}

int rb_allow_tf32(bool allow) {
  return guarded([=] {
    at::globalContext().setAllowTF32CuBLAS(allow);
    at::globalContext().setAllowTF32CuDNN(allow);
  });
}

// Constants of the kernels' headers.
int rb_max_norm_width() { return norm_traits::MAX_WIDTH; }
int rb_max_gram_rank() { return adalora_traits::MAX_RANK; }
int rb_attention_dropout_pitch() { return dropout_traits::WEIGHTS_PITCH; }

int rb_retain_grad(const at::Tensor* tensor) {
  return guarded([=] { tensor->retain_grad(); });
}

int rb_clear_grad(const at::Tensor* tensor) {
  return guarded([=] { tensor->mutable_grad().reset(); });
}
}
