// CUDA graphs of libtorch, and the driver that loads and launches the project's kernels. Together with kernels.cpp this
// is a library of its own (ADR 0015): it needs CUDA's headers to be built and libtorch_cuda to be loaded, and a machine
// without either still runs everything else. Every function gives 0, or -1 with the message in rb_kernel_error().

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>

#include <map>
#include <memory>
#include <string>

#include "../kernels/attention_traits.h"
#include "guarded.h"
#include "launch.h"

namespace {
// The driver's functions, found at run time: nothing here is linked against it.
template <typename F>
F driver(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  void* symbol = library ? dlsym(library, name) : nullptr;
  TORCH_CHECK(symbol, "the driver has no ", name);
  return reinterpret_cast<F>(symbol);
}

// Loaded kernels by name and variant.
std::map<std::string, CUfunction> kernels;

// All graphs alive share one pool: they are replayed one after the other, and tensors hold what is kept of one. A pool
// ends with its last graph.
int alive = 0;
at::cuda::MempoolId_t pool{0, 0};
}  // namespace

void launch_kernel(const std::string& name, const std::string& variant, const Launch& how, void** arguments) {
  static auto call = driver<decltype(&cuLaunchKernel)>("cuLaunchKernel");
  auto found = kernels.find(name + " " + variant);
  TORCH_CHECK(found != kernels.end(), "kernel ", name, " ", variant, " is not loaded");
  auto stream = c10::cuda::getCurrentCUDAStream().stream();
  const auto &grid = how.grid, &block = how.block;
  auto code = call(found->second, grid.x, grid.y, grid.z, block.x, block.y, block.z, how.shared_bytes, stream,
                   arguments, nullptr);
  TORCH_CHECK(code == CUDA_SUCCESS, name, " could not be launched: CUDA error ", static_cast<int>(code));
}

at::Tensor mm_f16(const at::Tensor& left, const at::Tensor& right) { return at::mm(left, right, at::kFloat); }

extern "C" {

// Makes a stream of the pool the current one: nothing can be captured on the default stream.
int rb_graph_enter(int device) {
  return guarded([=] {
    auto index = static_cast<c10::DeviceIndex>(device);
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(false, index));
  });
}

int rb_graph_begin(void** graph) {
  return guarded([=] {
    if (alive == 0) pool = at::cuda::graph_pool_handle();
    auto created = std::make_unique<at::cuda::CUDAGraph>();
    created->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    *graph = created.release();
    ++alive;
  });
}

int rb_graph_end(void* graph) {
  return guarded([=] { static_cast<at::cuda::CUDAGraph*>(graph)->capture_end(); });
}

// Ends a failed capture and frees its graph: the allocator's pool ends with it, and a fresh stream replaces the one
// whose capture broke.
int rb_graph_abort(void* graph) {
  return guarded([=] {
    std::unique_ptr<at::cuda::CUDAGraph> failed(static_cast<at::cuda::CUDAGraph*>(graph));
    --alive;
    auto device = at::cuda::getCurrentCUDAStream().device_index();
    auto quietly = [](auto&& call) {
      try {
        call();
        return true;
      } catch (const std::exception&) {
        return false;
      }
    };
    if (!quietly([&] { failed->capture_end(); })) {
      // The rest of capture_end, after its call that failed.
      quietly([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
      quietly([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool); });
      quietly([&] { c10::cuda::CUDACachingAllocator::releasePool(device, pool); });
    }
    failed.reset();
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(false, device));
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
  });
}

int rb_graph_replay(void* graph) {
  return guarded([=] { static_cast<at::cuda::CUDAGraph*>(graph)->replay(); });
}

int rb_graph_free(void* graph) {
  return guarded([=] {
    --alive;
    delete static_cast<at::cuda::CUDAGraph*>(graph);
  });
}

// Loads a module compiled for this device. `names` are its kernels, all of them in this variant.
int rb_kernels_load(const char* module, const char* variant, const char* const* names, int count) {
  return guarded([=] {
    // A module belongs to a context: libtorch's own, which this thread may not have asked for yet.
    at::empty({1}, at::device(at::kCUDA));
    C10_CUDA_CHECK(c10::cuda::SetDevice(c10::cuda::current_device(), true));
    auto load = driver<decltype(&cuModuleLoadData)>("cuModuleLoadData");
    auto find = driver<decltype(&cuModuleGetFunction)>("cuModuleGetFunction");
    auto set = driver<decltype(&cuFuncSetAttribute)>("cuFuncSetAttribute");
    CUmodule loaded;
    auto code = load(&loaded, module);
    TORCH_CHECK(code == CUDA_SUCCESS, "a compiled kernel could not be loaded: CUDA error ", static_cast<int>(code));
    for (int i = 0; i < count; ++i) {
      CUfunction function;
      TORCH_CHECK(find(&function, loaded, names[i]) == CUDA_SUCCESS, "no kernel ", names[i]);
      // Blocks of attention need more shared memory than the default. Two of them take all that a processor has.
      if (std::string(names[i]).rfind("attention", 0) == 0) {
        attention_traits::SharedMemory shared{std::stoi(variant), true};
        code = set(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                   attention_traits::VALUE_BYTES * shared.backward_keys());
        TORCH_CHECK(code == CUDA_SUCCESS, names[i], " has not enough shared memory: CUDA error ",
                    static_cast<int>(code));
      }
      kernels[std::string(names[i]) + " " + variant] = function;
    }
    // mm_f16 stands for float32 products.
    at::globalContext().setAllowFP16ReductionCuBLAS(false);
  });
}

// The device's architecture, e.g. 90.
int rb_architecture(int device, int* architecture) {
  return guarded([=] {
    auto attribute = driver<decltype(&cuDeviceGetAttribute)>("cuDeviceGetAttribute");
    int major = 0, minor = 0;
    TORCH_CHECK(attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) == CUDA_SUCCESS,
                "no CUDA device ", device);
    TORCH_CHECK(attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device) == CUDA_SUCCESS,
                "no CUDA device ", device);
    *architecture = 10 * major + minor;
  });
}
}
