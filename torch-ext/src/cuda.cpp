// CUDA graphs of libtorch and the project's own kernels, in a library of its own: it needs CUDA's headers to be built and
// libtorch_cuda to be loaded, and a machine without either still runs everything else. Every function gives 0, or -1 with
// the message in rb_cuda_error().

#include <ATen/Functions.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>

#include "guarded.h"

namespace {
// The driver's functions, found at run time: nothing here is linked against it.
template <typename F>
F driver(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  void* symbol = library ? dlsym(library, name) : nullptr;
  TORCH_CHECK(symbol, "the driver has no ", name);
  return reinterpret_cast<F>(symbol);
}

// Kernels of torch-ext/src/kernels, by the kind of their values: float32, bfloat16.
struct Kernels {
  CUfunction forward = nullptr, backward = nullptr;
};
Kernels kernels[2];

const Kernels& kernels_for(const at::Tensor& tensor) {
  auto kind = tensor.scalar_type();
  TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "no kernel for ", kind);
  const auto& found = kernels[kind == at::kBFloat16];
  TORCH_CHECK(found.forward && found.backward, "the kernels are not loaded");
  return found;
}

void launch(CUfunction function, dim3 grid, void** arguments) {
  static auto call = driver<decltype(&cuLaunchKernel)>("cuLaunchKernel");
  auto stream = c10::cuda::getCurrentCUDAStream().stream();
  auto code = call(function, grid.x, grid.y, grid.z, 32, 8, 1, 0, stream, arguments, nullptr);
  TORCH_CHECK(code == CUDA_SUCCESS, "a kernel could not be launched: CUDA error ", static_cast<int>(code));
}

unsigned tiles(int64_t length) { return static_cast<unsigned>((length + 31) / 32); }

struct PositionBias : torch::autograd::Function<PositionBias> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context, const at::Tensor& c, const at::Tensor& p, const at::Tensor& mask) {
    int heads = c.size(0), rows = mask.size(0), length = mask.size(3);
    TORCH_CHECK(c.sizes() == p.sizes() && c.size(1) == rows * length && c.size(2) == 2 * length, "position_bias: shapes");
    auto contents = c.contiguous(), positions = p.contiguous(), masked = mask.to(c.scalar_type()).contiguous();
    auto out = at::empty({rows, heads, length, length}, c.options());
    void *cp = contents.data_ptr(), *pp = positions.data_ptr(), *mp = masked.data_ptr(), *op = out.data_ptr();
    void* arguments[] = {&cp, &pp, &mp, &op, &rows, &heads, &length};
    launch(kernels_for(c).forward, dim3(tiles(length), tiles(length), rows * heads), arguments);
    context->saved_data["length"] = static_cast<int64_t>(length);
    return out;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, torch::autograd::variable_list grads) {
    auto grad = grads[0].contiguous();
    int rows = grad.size(0), heads = grad.size(1), length = context->saved_data["length"].toInt();
    auto dc = at::empty({heads, static_cast<int64_t>(rows) * length, 2 * length}, grad.options());
    auto dp = at::empty_like(dc);
    void *gp = grad.data_ptr(), *cp = dc.data_ptr(), *pp = dp.data_ptr();
    void* arguments[] = {&gp, &cp, &pp, &rows, &heads, &length};
    launch(kernels_for(grad).backward, dim3(tiles(2 * length), tiles(length), rows * heads), arguments);
    return {dc, dp, at::Tensor()};
  }
};

// All graphs alive share one pool: they are replayed one after the other, and what is kept of one is held by tensors. A pool
// ends with its last graph.
int alive = 0;
at::cuda::MempoolId_t pool{0, 0};
}  // namespace

extern "C" {

const char* rb_cuda_error() { return last_error.c_str(); }

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

int rb_graph_replay(void* graph) {
  return guarded([=] { static_cast<at::cuda::CUDAGraph*>(graph)->replay(); });
}

int rb_graph_free(void* graph) {
  return guarded([=] {
    --alive;
    delete static_cast<at::cuda::CUDAGraph*>(graph);
  });
}

// Takes a module compiled for this device, with the kernels for float32 (0) or bfloat16 (1).
int rb_kernels_load(int which, const char* module) {
  return guarded([=] {
    // A module belongs to a context, and libtorch makes its own with the first tensor.
    at::empty({1}, at::device(at::kCUDA));
    auto load = driver<decltype(&cuModuleLoadData)>("cuModuleLoadData");
    auto find = driver<decltype(&cuModuleGetFunction)>("cuModuleGetFunction");
    CUmodule loaded;
    auto code = load(&loaded, module);
    TORCH_CHECK(code == CUDA_SUCCESS, "a compiled kernel could not be loaded: CUDA error ", static_cast<int>(code));
    auto& target = kernels[which];
    TORCH_CHECK(find(&target.forward, loaded, "position_bias_forward") == CUDA_SUCCESS, "no position_bias_forward");
    TORCH_CHECK(find(&target.backward, loaded, "position_bias_backward") == CUDA_SUCCESS, "no position_bias_backward");
  });
}

int rb_position_bias(const at::Tensor* c, const at::Tensor* p, const at::Tensor* mask, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(PositionBias::apply(*c, *p, *mask)); });
}

// The device's architecture, e.g. 90.
int rb_architecture(int device, int* architecture) {
  return guarded([=] {
    auto attribute = driver<decltype(&cuDeviceGetAttribute)>("cuDeviceGetAttribute");
    int major = 0, minor = 0;
    TORCH_CHECK(attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) == CUDA_SUCCESS, "no such device");
    TORCH_CHECK(attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device) == CUDA_SUCCESS, "no such device");
    *architecture = 10 * major + minor;
  });
}
}
