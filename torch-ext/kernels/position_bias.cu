// Disentangled attention's bias and its gradient, each in one pass.
//
// c and p hold, for every content position, a product with each of 2 * length distances: [heads, rows * length, 2 * length].
// out[b, h, i, j] = c[h, b * length + i, length - 1 - i + j] + p[h, b * length + j, length - 1 - j + i] + mask[b, j]

// Blocks of 32 x 8 threads on tiles of 32 x 32.
extern "C" __global__ void position_bias_forward(
    const T* c, const T* p, const T* mask, T* out, int rows, int heads, int length) {
  // p runs along i, so its tile is turned on the way.
  __shared__ float turned[32][33];
  int b = blockIdx.z / heads, h = blockIdx.z % heads;
  int i0 = blockIdx.y * 32, j0 = blockIdx.x * 32, x = threadIdx.x;
  long width = 2L * length, base = (static_cast<long>(h) * rows + b) * length;
  for (int r = threadIdx.y; r < 32; r += 8) {
    int i = i0 + x, j = j0 + r;
    bool is_inside = i < length && j < length;
    turned[r][x] = is_inside ? widened(p[(base + j) * width + length - 1 - j + i]) : 0.0f;
  }
  __syncthreads();
  for (int r = threadIdx.y; r < 32; r += 8) {
    int i = i0 + r, j = j0 + x;
    if (i < length && j < length) {
      float sum = widened(c[(base + i) * width + length - 1 - i + j]) + turned[x][r] + widened(mask[b * length + j]);
      out[((static_cast<long>(b) * heads + h) * length + i) * length + j] = narrowed(sum);
    }
  }
}

// grad is [rows, heads, length, length]; every value of dc and dp is written.
extern "C" __global__ void position_bias_backward(
    const T* grad, T* dc, T* dp, int rows, int heads, int length) {
  int b = blockIdx.z / heads, h = blockIdx.z % heads, k = blockIdx.x * 32 + threadIdx.x;
  long width = 2L * length, base = (static_cast<long>(h) * rows + b) * length;
  const T* square = grad + (static_cast<long>(b) * heads + h) * length * length;
  for (int r = threadIdx.y; r < 32; r += 8) {
    int row = blockIdx.y * 32 + r, other = k - (length - 1) + row;
    if (row < length && k < width) {
      bool is_inside = other >= 0 && other < length;
      long place = (base + row) * width + k;
      dc[place] = is_inside ? square[static_cast<long>(row) * length + other] : narrowed(0.0f);
      dp[place] = is_inside ? square[static_cast<long>(other) * length + row] : narrowed(0.0f);
    }
  }
}
