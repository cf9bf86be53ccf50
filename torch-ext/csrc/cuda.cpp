// CUDA graphs of libtorch and the project's own kernels, in a library of its own: it needs CUDA's headers to be built and
// libtorch_cuda to be loaded, and a machine without either still runs everything else. Every function gives 0, or -1 with
// the message in rb_cuda_error().

#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <memory>

#include "attention.h"
#include "guarded.h"
#include "encoder_layer.h"
#include "norm.h"
#include "gemm_3xf16.h"

namespace {
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PositionBias : torch::autograd::Function<PositionBias> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& c, const at::Tensor& p, const at::Tensor& mask) {
    int heads = c.size(0), rows = mask.size(0), length = mask.size(3);
    TORCH_CHECK(c.sizes() == p.sizes() && c.size(1) == rows * length && c.size(2) == 2 * length, "position_bias: shapes");
    auto contents = c.contiguous(), positions = p.contiguous(), masked = mask.to(c.scalar_type()).contiguous();
    auto out = at::empty({rows, heads, length, length}, c.options());
    Launch how{dim3(ceil_div(length, 32), ceil_div(length, 32), rows * heads), dim3(32, 8)};
    launch("position_bias_forward", variant(c), how, pointer(contents), pointer(positions), pointer(masked), pointer(out),
           rows, heads, length);
    context->saved_data["length"] = static_cast<int64_t>(length);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    auto grad = grads[0].contiguous();
    int rows = grad.size(0), heads = grad.size(1), length = context->saved_data["length"].toInt();
    auto dc = at::empty({heads, static_cast<int64_t>(rows) * length, 2 * length}, grad.options());
    auto dp = at::empty_like(dc);
    Launch how{dim3(ceil_div(2 * length, 32), ceil_div(length, 32), rows * heads), dim3(32, 8)};
    launch("position_bias_backward", variant(grad), how, pointer(grad), pointer(dc), pointer(dp), rows, heads, length);
    return {dc, dp, at::Tensor()};
  }
};

at::Tensor dropped(const at::Tensor& given, const Drop& drop, const Lines& layout) {
  auto x = given.contiguous(), out = at::empty_like(x);
  long count = x.numel();
  int width = x.size(-1), lines = layout.lines, first = layout.first, pitch = layout.pitch;
  int rows = count / (static_cast<int64_t>(width) * lines * drop.runs());
  TORCH_CHECK(width % 8 == 0, "dropout: a width of ", width);
  Launch how{dim3(ceil_div(count, 8 * 256)), dim3(256)};
  launch("dropout", variant(x), how, pointer(x), pointer(out), Random(drop), count, rows, lines, first, pitch, width);
  return out;
}

using Dropout = DropoutBy<dropped>;

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

// Ends a capture that came to nothing and frees its graph: the allocator's pool ends with it, and a fresh stream takes the place of
// the one whose capture broke.
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
      // What capture_end does after the call that failed.
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

// Takes a module compiled for this device; `names` are those of its kernels, all of them in this variant.
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
      // Attention's blocks want more shared memory than the default, two of them all that a processor has.
      if (std::string(names[i]).rfind("attention", 0) == 0) {
        code = set(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, Attending::Bytes(std::stoi(variant), true).keys());
        TORCH_CHECK(code == CUDA_SUCCESS, names[i], " has not enough shared memory: CUDA error ", static_cast<int>(code));
      }
      kernels[std::string(names[i]) + " " + variant] = function;
    }
    // Products of float16 stand for float32 ones (gemm_3xf16.h).
    at::globalContext().setAllowFP16ReductionCuBLAS(false);
  });
}

int rb_position_bias(const at::Tensor* c, const at::Tensor* p, const at::Tensor* mask, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(PositionBias::apply(*c, *p, *mask)); });
}

int rb_cuda_dropout(
    const at::Tensor* x, const at::Tensor* state, long long place, double rate, long long lines, long long first,
    long long pitch, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(Dropout::apply(*x, *state, place, rate, lines, first, pitch)); });
}

// In float32.
int rb_lora_linear_3xf16(
    const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, const at::Tensor* a, const at::Tensor* up,
    at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(LoraLinear<Gemm3xF16>::apply(*x, *weight, *bias, *a, *up)); });
}

int rb_drop_add_norm(
    const at::Tensor* x, const at::Tensor* residual, const at::Tensor* weight, const at::Tensor* bias,
    const at::Tensor* state, long long place, double rate, double eps, long long length, at::Tensor** out) {
  return guarded([=] {
    *out = new at::Tensor(DropAddNorm::apply(*x, *residual, *weight, *bias, *state, place, rate, eps, length));
  });
}

int rb_attention(
    const at::Tensor* projected, const at::Tensor* mask, const at::Tensor* state, long long place, double rate,
    long long heads, double scale, at::Tensor** out) {
  return guarded([=] { *out = new at::Tensor(Attention::apply(*projected, *mask, *state, place, rate, heads, scale)); });
}

// Tensors and numbers in the order of Layer::Given.
int rb_layer(const at::Tensor* const* tensors, const double* numbers, at::Tensor** out) {
  return guarded([=] {
    auto given = c10::make_intrusive<Layer::Given>(tensors, numbers);
    const auto* const* of = tensors + 6;
    *out = new at::Tensor(Layer::apply(
        *tensors[0], *of[2], *of[3], *of[6], *of[7], *of[10], *of[11], *of[14], *of[15], given));
  });
}

int rb_clip(const at::Tensor* const* grads, int count, double bound, at::Tensor** out) {
  return guarded([=] {
    const int BLOCKS = 256;
    auto options = grads[0]->options();
    auto partial = at::empty({count, BLOCKS}, options), result = at::empty({2}, options);
    for (int i = 0; i < count; ++i) {
      launch("square_sums", "f32", {dim3(BLOCKS), dim3(256)}, pointer(*grads[i]), pointer(partial[i]),
             static_cast<long>(grads[i]->numel()));
    }
    launch("clip_factor", "f32", {dim3(1), dim3(256)}, pointer(partial), pointer(result), count * BLOCKS,
           static_cast<float>(bound));
    *out = new at::Tensor(result);
  });
}

// Average and uncertainty of |values * grads|.
int rb_importance(const at::Tensor* const* tensors, double beta1, double beta2) {
  return guarded([=] {
    auto at = [=](int index) { return pointer(*tensors[index]); };
    long count = tensors[0]->numel();
    launch("importance", "f32", {dim3(ceil_div(count, 256)), dim3(256)}, at(0), at(1), at(2), at(3), count,
           static_cast<float>(1.0 - beta1), static_cast<float>(1.0 - beta2));
  });
}

int rb_adamw(const at::Tensor* const* tensors, double beta1, double beta2, double eps, int decay) {
  return guarded([=] {
    auto at = [=](int index) { return pointer(*tensors[index]); };
    long count = tensors[0]->numel();
    launch("adamw", "f32", {dim3(ceil_div(count, 256)), dim3(256)}, at(0), at(1), at(2), at(3), at(4), at(5), at(6), count,
           static_cast<float>(1.0 - beta1), static_cast<float>(beta2), static_cast<float>(1.0 - beta2),
           static_cast<float>(eps), decay);
  });
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
