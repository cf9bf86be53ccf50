// CUDA graphs of libtorch, in a library of its own: it needs CUDA's headers to be built and libtorch_cuda to be loaded, and
// a machine without either still runs everything else. Every function gives 0, or -1 with the message in rb_graph_error().

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <string>

namespace {
thread_local std::string last_error;

template <typename F>
int guarded(F call) {
  try {
    call();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return -1;
  }
}

// All graphs share one pool: they are replayed one after the other, and what is kept of one is held by tensors.
at::cuda::MempoolId_t pool() {
  static auto id = at::cuda::graph_pool_handle();
  return id;
}
}  // namespace

extern "C" {

const char* rb_graph_error() { return last_error.c_str(); }

// Makes a stream of the pool the current one: nothing can be captured on the default stream.
int rb_graph_enter(int device) {
  return guarded([=] {
    auto index = static_cast<c10::DeviceIndex>(device);
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(false, index));
  });
}

int rb_graph_begin(void** graph) {
  return guarded([=] {
    auto created = std::make_unique<at::cuda::CUDAGraph>();
    created->capture_begin(pool(), cudaStreamCaptureModeThreadLocal);
    *graph = created.release();
  });
}

int rb_graph_end(void* graph) {
  return guarded([=] { static_cast<at::cuda::CUDAGraph*>(graph)->capture_end(); });
}

int rb_graph_replay(void* graph) {
  return guarded([=] { static_cast<at::cuda::CUDAGraph*>(graph)->replay(); });
}

int rb_graph_free(void* graph) {
  return guarded([=] { delete static_cast<at::cuda::CUDAGraph*>(graph); });
}
}
