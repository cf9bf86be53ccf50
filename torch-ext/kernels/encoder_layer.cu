// Passes over whole lines between a layer's products. Widths are multiples of 8; a wide tensor has `pitch` values from line to
// line.

// The lines of x, `content` of them, and then of the distances.
extern "C" __global__ void gather_tokens(
    const T* x, const T* distances, T* out, long count, long content, int width, int pitch) {
  long block = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, line = block / (width / 8);
  if (line >= count) return;
  int column = static_cast<int>(block % (width / 8)) * 8;
  const T* from = line < content ? x + line * width : distances + (line - content) * width;
  *reinterpret_cast<Eight*>(out + line * pitch + column) = *reinterpret_cast<const Eight*>(from + column);
}

// Phi(x), the distribution function of a standard normal value.
__device__ float phi(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

// x Phi(x) of lines [count, width], to wide ones.
extern "C" __global__ void gelu_forward(const T* x, const T*, T* out, long count, int width, int pitch) {
  long block = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, line = block / (width / 8);
  if (line >= count) return;
  int column = static_cast<int>(block % (width / 8)) * 8;
  Eight values = reinterpret_cast<const Eight*>(x)[block];
  for (int e = 0; e < 8; ++e) {
    float value = widened(values.at[e]);
    values.at[e] = narrowed(value * phi(value));
  }
  *reinterpret_cast<Eight*>(out + line * pitch + column) = values;
}

// The gradient of x, to wide lines; GELU's values take the place of their gradient.
extern "C" __global__ void gelu_backward(const T* x, T* grad, T* dx, long count, int width, int pitch) {
  long block = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x, line = block / (width / 8);
  if (line >= count) return;
  int column = static_cast<int>(block % (width / 8)) * 8;
  Eight values = reinterpret_cast<const Eight*>(x)[block], grads = reinterpret_cast<Eight*>(grad)[block], out;
  for (int e = 0; e < 8; ++e) {
    float value = widened(values.at[e]), below = phi(value);
    float density = 0.39894228040143268f * expf(-0.5f * value * value);
    out.at[e] = narrowed(widened(grads.at[e]) * (below + value * density));
    values.at[e] = narrowed(value * below);
  }
  *reinterpret_cast<Eight*>(dx + line * pitch + column) = out;
  reinterpret_cast<Eight*>(grad)[block] = values;
}

// Copies of a branch's matrices to the borders of the frozen ones; a row of blocks each.
struct Border {
  const T* from;
  T* to;
  int lines, columns, pitch;
};
struct Borders {
  Border of[4];
};

extern "C" __global__ void write_branch_blocks(Borders borders) {
  Border border = borders.of[blockIdx.y];
  int blocks = border.columns / 8;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < border.lines * blocks; index += gridDim.x * blockDim.x) {
    int line = index / blocks, column = index % blocks * 8;
    *reinterpret_cast<Eight*>(border.to + static_cast<long>(line) * border.pitch + column) =
        reinterpret_cast<const Eight*>(border.from)[index];
  }
}

// Where several runs' branches lie side by side, a line has only its own run's `rank` of them: the others become zero. `order` as
// in dropout.cu, for `content` lines, the first ones; then `others` lines a run.
extern "C" __global__ void mask_other_runs(
    T* low, const long long* order, long count, long content, int lines_of_run, int others, int rank, int runs, int pitch) {
  long block = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  int blocks = runs * rank / 8, column = static_cast<int>(block % blocks) * 8;
  long line = block / blocks;
  if (line >= count) return;
  long run = line < content ? (order ? order[line] : line) / lines_of_run : (line - content) / others;
  if (column / rank != run) *reinterpret_cast<Eight*>(low + line * pitch + column) = Eight{};
}
