// Dropout of [runs * rows * lines, width], and dropout + residual + LayerNorm of hidden states, whose lines are positions.
// Widths are multiples of 8; `first` is the number of a row's first line.

// The block of eight at `column` of line `index`; a line has `pitch` numbers for blocks.
__device__ uint4 bits_of(const Random& random, long index, int column, int rows, int lines, int first, int pitch) {
  unsigned line = static_cast<unsigned>(index % lines) + first;
  long row = index / lines;
  return random.of(static_cast<int>(row / rows), static_cast<unsigned>(row % rows), line * pitch + column / 8);
}

// The gradient's pass is the same function of the gradient.
extern "C" __global__ void dropout(
    const T* x, T* out, Random random, long count, int rows, int lines, int first, int pitch, int width) {
  long block = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (block * 8 >= count) return;
  Eight values = reinterpret_cast<const Eight*>(x)[block];
  uint4 bits = bits_of(random, block * 8 / width, static_cast<int>(block * 8 % width), rows, lines, first, pitch);
  for (int e = 0; e < 8; ++e) {
    values.at[e] = is_kept(bits, e, random.threshold) ? narrowed(widened(values.at[e]) * random.scale) : narrowed(0.0f);
  }
  reinterpret_cast<Eight*>(out)[block] = values;
}

__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// Blocks of eight that one lane holds: rows of up to 1024 values.
const int CHUNKS = 4;

// One warp a row. sum = dropout(x) + residual is kept for the gradient, with each row's mean and reciprocal deviation. A line's
// numbers are those of line order[index] where there is an order.
extern "C" __global__ void norm_forward(
    const T* x, const T* residual, const T* weight, const T* bias, T* sum, T* out, float* mean, float* deviation,
    Random random, const long long* order, long count, int rows, int length, int width, int residual_pitch, int out_pitch,
    float eps) {
  long index = static_cast<long>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (index >= count) return;
  long of_numbers = order ? order[index] : index;
  int lane = threadIdx.x % 32;
  float held[CHUNKS][8];
  float total = 0.0f;
  for (int c = 0; c < CHUNKS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    Eight a = *reinterpret_cast<const Eight*>(x + index * width + column);
    Eight b = *reinterpret_cast<const Eight*>(residual + index * residual_pitch + column), kept;
    uint4 bits = bits_of(random, of_numbers, column, rows, length, 0, width / 8);
    for (int e = 0; e < 8; ++e) {
      float dropped = is_kept(bits, e, random.threshold) ? widened(a.at[e]) * random.scale : 0.0f;
      kept.at[e] = narrowed(dropped + widened(b.at[e]));
      held[c][e] = widened(kept.at[e]);
      total += held[c][e];
    }
    *reinterpret_cast<Eight*>(sum + index * width + column) = kept;
  }
  float middle = warp_sum(total) / width, square = 0.0f;
  for (int c = 0; c < CHUNKS; ++c) {
    if ((c * 32 + lane) * 8 >= width) break;
    for (int e = 0; e < 8; ++e) square += (held[c][e] - middle) * (held[c][e] - middle);
  }
  float reciprocal = rsqrtf(warp_sum(square) / width + eps);
  for (int c = 0; c < CHUNKS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    Eight w = *reinterpret_cast<const Eight*>(weight + column), b = *reinterpret_cast<const Eight*>(bias + column), y;
    for (int e = 0; e < 8; ++e) {
      y.at[e] = narrowed((held[c][e] - middle) * reciprocal * widened(w.at[e]) + widened(b.at[e]));
    }
    *reinterpret_cast<Eight*>(out + index * out_pitch + column) = y;
  }
  if (lane == 0) {
    mean[index] = middle;
    deviation[index] = reciprocal;
  }
}

extern "C" __global__ void norm_backward(
    const T* grad, const T* sum, const T* weight, const float* mean, const float* deviation, T* dx, T* dresidual,
    Random random, const long long* order, long count, int rows, int length, int width, int dx_pitch) {
  long index = static_cast<long>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (index >= count) return;
  long of_numbers = order ? order[index] : index;
  int lane = threadIdx.x % 32;
  float middle = mean[index], reciprocal = deviation[index];
  float scaled[CHUNKS][8], normal[CHUNKS][8];
  float first = 0.0f, second = 0.0f;
  for (int c = 0; c < CHUNKS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    Eight g = *reinterpret_cast<const Eight*>(grad + index * width + column);
    Eight s = *reinterpret_cast<const Eight*>(sum + index * width + column);
    Eight w = *reinterpret_cast<const Eight*>(weight + column);
    for (int e = 0; e < 8; ++e) {
      scaled[c][e] = widened(g.at[e]) * widened(w.at[e]);
      normal[c][e] = (widened(s.at[e]) - middle) * reciprocal;
      first += scaled[c][e];
      second += scaled[c][e] * normal[c][e];
    }
  }
  first = warp_sum(first) / width;
  second = warp_sum(second) / width;
  for (int c = 0; c < CHUNKS; ++c) {
    int column = (c * 32 + lane) * 8;
    if (column >= width) break;
    uint4 bits = bits_of(random, of_numbers, column, rows, length, 0, width / 8);
    Eight a, b;
    for (int e = 0; e < 8; ++e) {
      float d = reciprocal * (scaled[c][e] - first - normal[c][e] * second);
      b.at[e] = narrowed(d);
      a.at[e] = is_kept(bits, e, random.threshold) ? narrowed(d * random.scale) : narrowed(0.0f);
    }
    *reinterpret_cast<Eight*>(dx + index * dx_pitch + column) = a;
    *reinterpret_cast<Eight*>(dresidual + index * width + column) = b;
  }
}
