// CUDA graphs of libtorch and the project's own kernels, in a library of its own: it needs CUDA's headers to be built and
// libtorch_cuda to be loaded, and a machine without either still runs everything else. Every function gives 0, or -1 with
// the message in rb_cuda_error().

#include <ATen/Functions.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/custom_function.h>

#include <map>
#include <memory>

#include "autograd.h"
#include "guarded.h"

namespace {
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The driver's functions, found at run time: nothing here is linked against it.
template <typename F>
F driver(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  void* symbol = library ? dlsym(library, name) : nullptr;
  TORCH_CHECK(symbol, "the driver has no ", name);
  return reinterpret_cast<F>(symbol);
}

// Kernels of torch-ext/src/kernels by name and variant: "f32", "bf16", or the width of attention's heads.
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

unsigned parts(int64_t whole, int64_t part) { return static_cast<unsigned>((whole + part - 1) / part); }

void* pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

struct PositionBias : torch::autograd::Function<PositionBias> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& c, const at::Tensor& p, const at::Tensor& mask) {
    int heads = c.size(0), rows = mask.size(0), length = mask.size(3);
    TORCH_CHECK(c.sizes() == p.sizes() && c.size(1) == rows * length && c.size(2) == 2 * length, "position_bias: shapes");
    auto contents = c.contiguous(), positions = p.contiguous(), masked = mask.to(c.scalar_type()).contiguous();
    auto out = at::empty({rows, heads, length, length}, c.options());
    Launch how{dim3(parts(length, 32), parts(length, 32), rows * heads), dim3(32, 8)};
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
    Launch how{dim3(parts(2 * length, 32), parts(length, 32), rows * heads), dim3(32, 8)};
    launch("position_bias_backward", variant(grad), how, pointer(grad), pointer(dc), pointer(dp), rows, heads, length);
    return {dc, dp, at::Tensor()};
  }
};

// As the kernels see it (kernels/values.cuh).
struct Random {
  const void* state;
  unsigned place, threshold;
  float scale;

  explicit Random(const Drop& drop)
      : state(drop.state.data_ptr()), place(drop.place), threshold(drop.threshold()), scale(drop.scale()) {}
};

at::Tensor dropped(const at::Tensor& given, const Drop& drop, const Lines& layout) {
  auto x = given.contiguous(), out = at::empty_like(x);
  long count = x.numel();
  int width = x.size(-1), lines = layout.lines, first = layout.first, pitch = layout.pitch;
  int rows = count / (static_cast<int64_t>(width) * lines * drop.runs());
  TORCH_CHECK(width % 8 == 0, "dropout: a width of ", width);
  Launch how{dim3(parts(count, 8 * 256)), dim3(256)};
  launch("dropout", variant(x), how, pointer(x), pointer(out), Random(drop), count, rows, lines, first, pitch, width);
  return out;
}

using Dropout = DropoutBy<dropped>;

// LayerNorm(dropout(x) + residual) of hidden states [runs * rows * length, width]; weight and bias are frozen.
struct DropAddNorm : torch::autograd::Function<DropAddNorm> {
  // Four warps a block, a row a warp.
  static Launch how(const at::Tensor& x) { return {dim3(parts(x.size(0), 4)), dim3(128)}; }

  static at::Tensor forward(
      AutogradContext* context, const at::Tensor& given, const at::Tensor& residual, const at::Tensor& weight,
      const at::Tensor& bias, const at::Tensor& state, int64_t place, double rate, double eps, int64_t length) {
    Drop drop{state, place, rate};
    auto x = given.contiguous(), other = residual.contiguous(), sum = at::empty_like(x), out = at::empty_like(x);
    auto mean = at::empty({x.size(0)}, x.options().dtype(at::kFloat)), deviation = at::empty_like(mean);
    long count = x.size(0);
    int width = x.size(1), lines = length, rows = count / (length * drop.runs());
    launch("norm_forward", variant(x), how(x), pointer(x), pointer(other), pointer(weight), pointer(bias), pointer(sum),
           pointer(out), pointer(mean), pointer(deviation), Random(drop), count, rows, lines, width,
           static_cast<float>(eps));
    context->save_for_backward({sum, weight, mean, deviation});
    context->saved_data["length"] = length;
    drop.save(context);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &sum = saved[0], &weight = saved[1], &mean = saved[2], &deviation = saved[3];
    auto drop = Drop::saved(context);
    auto grad = grads[0].contiguous(), dx = at::empty_like(grad), d_residual = at::empty_like(grad);
    long count = grad.size(0);
    int width = grad.size(1), lines = context->saved_data["length"].toInt(), rows = count / (lines * drop.runs());
    launch("norm_backward", variant(grad), how(grad), pointer(grad), pointer(sum), pointer(weight), pointer(mean),
           pointer(deviation), pointer(dx), pointer(d_residual), Random(drop), count, rows, lines, width);
    variable_list result(9);
    result[0] = dx;
    result[1] = d_residual;
    return result;
  }
};

// Attention as kernels/attention.cu has it.
struct Attention : torch::autograd::Function<Attention> {
  static constexpr int64_t TILE = 64, BAND = 80, MARGIN = 16;

  struct Shape {
    int rows, heads, length, has_positions, out_pitch, grad_pitch;
    float scale;
  };

  struct Chunks {
    float* partial;
    int runs, count, rows;
  };

  // Shared memory of each kernel, in values: tiles of heads, of scores and of bands with their padding.
  struct Bytes {
    int64_t line, square = TILE * (TILE + 8), margins = 2 * MARGIN * (TILE + 8), bands = 2 * TILE * (BAND + 8);
    int64_t distances = 2 * TILE * line;
    bool has_positions;
    Bytes(int64_t head, bool has_positions) : line(head + 8), has_positions(has_positions) {}
    int64_t positions(int64_t values) const { return has_positions ? values : 0; }
    int64_t forward() const { return 2 * (3 * TILE * line + positions(2 * distances) + bands); }
    int64_t keys() const {
      return 2 * (4 * TILE * line + positions(2 * distances) + std::max(bands, 2 * square + margins));
    }
    int64_t queries() const {
      int64_t of_queries = TILE * line + TILE * (TILE + 2 * MARGIN + 8) + positions(distances);
      return 2 * std::max(of_queries, positions(2 * (TILE * line + 2 * square)));
    }
  };

  static Launch how(int64_t x, int64_t y, int64_t z, int64_t bytes) {
    return {dim3(x, y, z), dim3(256), bytes};
  }

  // `lines` of `projected` that belong to one run's rows; what is left are distances.
  static Shape shape_of(const at::Tensor& projected, const at::Tensor& mask, const Drop& drop, int64_t heads, double scale) {
    int64_t rows = mask.size(0) / drop.runs(), length = mask.size(-1), lines = projected.size(0) / drop.runs();
    bool has_positions = lines == (rows + 2) * length;
    TORCH_CHECK(has_positions || lines == rows * length, "attention: ", lines, " lines for ", rows, " rows of ", length);
    int width = projected.size(1) / 3;
    return {static_cast<int>(rows), static_cast<int>(heads), static_cast<int>(length), has_positions, width, 3 * width,
            static_cast<float>(scale)};
  }

  static at::Tensor forward(
      AutogradContext* context, const at::Tensor& given, const at::Tensor& mask, const at::Tensor& state, int64_t place,
      double rate, int64_t heads, double scale) {
    Drop drop{state, place, rate};
    auto projected = given.contiguous(), masked = mask.to(given.scalar_type()).contiguous();
    auto shape = shape_of(projected, mask, drop, heads, scale);
    int64_t width = projected.size(1) / 3, head = width / heads, rows = mask.size(0);
    auto out = at::empty({rows * shape.length, width}, projected.options());
    auto log_sum = at::empty({rows, heads, shape.length}, projected.options().dtype(at::kFloat));
    auto bytes = Bytes(head, shape.has_positions).forward();
    launch("attention_forward", std::to_string(head), how(parts(shape.length, TILE), heads, rows, bytes),
           pointer(projected), pointer(masked), pointer(out), pointer(log_sum), Random(drop), shape);
    context->save_for_backward({projected, masked, out, log_sum});
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    drop.save(context);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    auto saved = context->get_saved_variables();
    const auto &projected = saved[0], &mask = saved[1], &out = saved[2], &log_sum = saved[3];
    auto drop = Drop::saved(context);
    int64_t heads = context->saved_data["heads"].toInt(), rows = mask.size(0);
    auto shape = shape_of(projected, mask, drop, heads, context->saved_data["scale"].toDouble());
    int64_t width = projected.size(1) / 3, tiles = parts(shape.length, TILE);
    Bytes bytes(width / heads, shape.has_positions);
    auto of = std::to_string(width / heads);
    auto grad = grads[0].contiguous(), d_projected = at::empty_like(projected);
    auto d_scores = at::empty({rows, heads, shape.length, (shape.length + 7) / 8 * 8}, projected.options());
    launch("attention_backward_keys", of, how(tiles, heads, rows, bytes.keys()), pointer(projected), pointer(mask),
           pointer(out), pointer(grad), pointer(log_sum), pointer(d_projected), pointer(d_scores), Random(drop), shape);
    // Rows are shared out so that there are blocks for every processor, and summed in one order.
    int rows_a_chunk = std::max(1, shape.rows / 8), runs = drop.runs();
    int chunks = shape.has_positions ? parts(shape.rows, rows_a_chunk) : 0;
    auto partial = at::empty({chunks, runs, 2 * shape.length, 2 * width}, log_sum.options());
    int64_t of_positions = static_cast<int64_t>(chunks) * runs * 2 * heads * parts(2 * shape.length, TILE);
    Chunks of_chunks{static_cast<float*>(partial.data_ptr()), runs, chunks, rows_a_chunk};
    launch("attention_backward_queries", of, how(of_positions + tiles * heads * rows, 1, 1, bytes.queries()),
           pointer(projected), pointer(d_scores), pointer(d_projected), of_chunks, shape);
    if (shape.has_positions) {
      launch("attention_backward_distances", of, how(2 * shape.length, runs, 1, 0), pointer(d_projected), of_chunks, shape);
    }
    variable_list result(7);
    result[0] = d_projected;
    return result;
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
        code = set(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, Attention::Bytes(std::stoi(variant), true).keys());
        TORCH_CHECK(code == CUDA_SUCCESS, names[i], " has not enough shared memory: CUDA error ", static_cast<int>(code));
      }
      kernels[std::string(names[i]) + " " + variant] = function;
    }
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
