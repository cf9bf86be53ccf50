// Attention in bfloat16, with DeBERTa's position terms where there are any, heads of HEAD values, in tiles of 64 x 64:
//
// score[i, j] = scale * (q_i . k_j + q_i . pk[i - j + length - 1] + k_j . pq[i - j + length - 1]) + mask[j]
// out_i = sum_j dropout(softmax(score)[i, j]) v_j
//
// Everything that is projected lies in one tensor, [lines, 3 width], width = heads * HEAD: q, k, v side by side, and for each
// run first the lines of its rows, then those of the 2 length distances, of which pq and pk are used. out is
// [runs * rows * length, width]; mask [runs * rows, length]; log_sum [runs * rows, heads, length]. Eight warps a block: warp w
// has 16 rows of a tile, w % 4, and half of its columns, w / 4.

const int THREADS = 256, TILE = 64, HALF = TILE / 2, BAND = 80, DISTANCES = 2 * TILE;
const int PITCH = HEAD + 8, SQUARE_PITCH = TILE + 8, BAND_PITCH = BAND + 8, WINDOW_PITCH = TILE + 2;
const float LOG2E = 1.4426950408889634f;
#define ENDLESS __int_as_float(0x7f800000)

struct Shape {
  int rows, heads, length, has_positions;
  float scale;

  __device__ long width() const { return static_cast<long>(heads) * HEAD; }
  __device__ long line() const { return 3 * width(); }
  // First values of q for a head: in the lines of a batch row, and of a run's distances.
  __device__ long content(int row, int head) const { return (run_at(row / rows) + row % rows * length) * line() + head * HEAD; }
  __device__ long distances(int run, int head) const {
    return (run_at(run) + static_cast<long>(rows) * length) * line() + head * HEAD;
  }
  __device__ long run_at(int run) const {
    return static_cast<long>(run) * (rows * length + (has_positions ? 2 * length : 0));
  }
  // Lines of the scores' gradient begin aligned.
  __device__ int pitch() const { return (length + 7) / 8 * 8; }
};

__device__ void load4(unsigned (&r)[4], const T* p) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(p));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ void load4_turned(unsigned (&r)[4], const T* p) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(p));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ void multiply(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// acc += A B for one warp: A is 16 x 16 KS, B is 16 KS x 8 NT. A lies as [m][k], or [k][m] when it is turned; B as [n][k],
// or [k][n] when it is turned.
template <int NT, int KS, bool A_TURNED, bool B_TURNED>
__device__ void product(float (&acc)[NT][4], const T* a, int a_pitch, const T* b, int b_pitch) {
  int lane = threadIdx.x % 32, line = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < KS * 16; k += 16) {
    unsigned fa[4];
    if (A_TURNED) load4_turned(fa, a + (k + line + high) * a_pitch + low);
    else load4(fa, a + (line + low) * a_pitch + k + high);
#pragma unroll
    for (int n = 0; n < NT; n += 2) {
      unsigned fb[4];
      if (B_TURNED) load4_turned(fb, b + (k + line + low) * b_pitch + n * 8 + high);
      else load4(fb, b + (n * 8 + line + high) * b_pitch + k + low);
      multiply(acc[n], fa, fb[0], fb[1]);
      multiply(acc[n + 1], fa, fb[2], fb[3]);
    }
  }
}

__device__ unsigned paired(float first, float second) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

__device__ int lines_of_warp() { return threadIdx.x / 32 % 4 * 16; }
__device__ int half_of_warp() { return threadIdx.x / 128; }

// Where a lane's value e of an accumulator lies: rows lane / 4 and 8 below, columns 8 n + 2 (lane % 4) and the next, after
// those of the warps with the first half.
__device__ int row_of(int e) { return lines_of_warp() + threadIdx.x % 32 / 4 + e / 2 * 8; }
__device__ int column_of(int n, int e, int half = HALF) {
  return half_of_warp() * half + n * 8 + threadIdx.x % 4 * 2 + e % 2;
}

// Lines `first` and following of `from`; what lies outside 0 .. limit is zero.
template <int LINES>
__device__ void fetch(T* to, const T* from, long pitch, int first, int limit) {
  for (int c = threadIdx.x; c < LINES * (HEAD / 8); c += THREADS) {
    int line = c / (HEAD / 8), column = c % (HEAD / 8) * 8, at = first + line;
    uint4 value = make_uint4(0, 0, 0, 0);
    if (at >= 0 && at < limit) value = *reinterpret_cast<const uint4*>(from + at * pitch + column);
    *reinterpret_cast<uint4*>(to + line * PITCH + column) = value;
  }
}

// Lines of the scores' gradient, TILE columns from `column` on.
template <int LINES, int PITCH_TO>
__device__ void fetch_square(T* to, const T* square, const Shape& shape, int first, int column) {
  for (int c = threadIdx.x; c < LINES * (TILE / 8); c += THREADS) {
    int line = c / (TILE / 8), at = first + line, j = column + c % (TILE / 8) * 8;
    uint4 value = make_uint4(0, 0, 0, 0);
    if (at >= 0 && at < shape.length && j < shape.pitch()) {
      value = *reinterpret_cast<const uint4*>(square + static_cast<long>(at) * shape.pitch() + j);
    }
    unsigned* words = reinterpret_cast<unsigned*>(to + line * PITCH_TO + c % (TILE / 8) * 8);
    words[0] = value.x, words[1] = value.y, words[2] = value.z, words[3] = value.w;
  }
}

// The scores of a tile, before scale and mask. 16 lines meet distances within a band of 80, which begins at 16 w for queries
// w, and at 48 - 16 w for keys; half of the other side's lines meet 48 of them, some of which both warps compute.
const int BAND_PART = 48;

struct Positions {
  const T *pq, *pk;  // null without positions
  T *content, *position;
};

__device__ void scores(float (&s)[HALF / 8][4], const T* q, const T* k, const Positions& positions) {
  int lines = lines_of_warp(), half = half_of_warp() * HALF;
#pragma unroll
  for (int n = 0; n < HALF / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[n][e] = 0.0f;
  product<HALF / 8, HEAD / 16, false, false>(s, q + lines * PITCH, PITCH, k + half * PITCH, PITCH);
  if (!positions.pk) return;
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    float band[BAND_PART / 8][4] = {};
    // Later keys are nearer to the band's beginning, later queries to its end.
    int begin = which ? half : HALF - half;
    const T* distances = which ? positions.pq + (TILE - 16 - lines + begin) * PITCH : positions.pk + (lines + begin) * PITCH;
    product<BAND_PART / 8, HEAD / 16, false, false>(band, (which ? k : q) + lines * PITCH, PITCH, distances, PITCH);
    T* to = which ? positions.position : positions.content;
#pragma unroll
    for (int n = 0; n < BAND_PART / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        unsigned* place = reinterpret_cast<unsigned*>(to + row_of(e) * BAND_PITCH + begin + column_of(n, e, 0));
        *place = paired(band[n][e], band[n][e + 1]);
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int i = row_of(e), j = column_of(n, e);
      s[n][e] += widened(positions.content[i * BAND_PITCH + i % 16 - j + TILE - 1]);
      s[n][e] += widened(positions.position[j * BAND_PITCH + i - j % 16 + 15]);
    }
  }
}

// The lane's values for columns n of a tile.
__device__ void keep_square(T* square, const float (&values)[4], int n) {
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    unsigned* place = reinterpret_cast<unsigned*>(square + row_of(e) * SQUARE_PITCH + column_of(n, e));
    *place = paired(values[e], values[e + 1]);
  }
}

// Whether the lane's values of a tile are kept: for its two rows, bit 2 n + e for value e of columns n. The four lanes of a
// row share the work.
__device__ void kept_bits(unsigned (&kept)[2], const Random& random, const Shape& shape, int i0, int j0) {
  int lane = threadIdx.x % 32, mine = lane % 4, run = blockIdx.z / shape.rows;
  unsigned row = blockIdx.z % shape.rows * shape.heads + blockIdx.y;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    kept[half] = 0;
    unsigned i = i0 + row_of(half * 2);
    uint4 bits = random.of(run, row, i * 4096 + (j0 + half_of_warp() * HALF) / 8 + mine);
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      int from = lane - mine + m;
      unsigned x = __shfl_sync(0xffffffffu, bits.x, from), y = __shfl_sync(0xffffffffu, bits.y, from);
      unsigned z = __shfl_sync(0xffffffffu, bits.z, from), w = __shfl_sync(0xffffffffu, bits.w, from);
      unsigned word = mine == 0 ? x : mine == 1 ? y : mine == 2 ? z : w;
      kept[half] |= ((word & 0xffff) >= random.threshold) << (2 * m);
      kept[half] |= ((word >> 16) >= random.threshold) << (2 * m + 1);
    }
  }
}

// Maximum or sum over the four lanes that share a row.
__device__ float over_row(float value, bool is_maximum) {
  for (int offset = 1; offset < 4; offset *= 2) {
    float other = __shfl_xor_sync(0xffffffffu, value, offset);
    value = is_maximum ? fmaxf(value, other) : value + other;
  }
  return value;
}

// What is added to the scores of a tile's columns.
__device__ void fetch_mask(float (&to)[TILE], const T* mask, int row, int j0, int length) {
  int j = j0 + threadIdx.x;
  if (threadIdx.x < TILE) to[threadIdx.x] = j < length ? widened(mask[static_cast<long>(row) * length + j]) : -ENDLESS;
}

extern __shared__ uint4 shared[];

extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_forward(
    const T* projected, const T* mask, T* out, float* log_sum, Random random, Shape shape) {
  T *qs = reinterpret_cast<T*>(shared), *ks = qs + TILE * PITCH, *vs = ks + TILE * PITCH;
  T *pqs = vs + TILE * PITCH, *pks = pqs + DISTANCES * PITCH;
  T *content = shape.has_positions ? pks + DISTANCES * PITCH : pqs, *position = content + TILE * BAND_PITCH;
  int i0 = blockIdx.x * TILE, head = blockIdx.y, row = blockIdx.z, length = shape.length, lines = lines_of_warp();
  long width = shape.width(), line = shape.line();
  const T *q = projected + shape.content(row, head), *pq = projected + shape.distances(row / shape.rows, head);
  // In the place of the content terms, once those have been read.
  T* weights = content;
  __shared__ float exchanged[2][TILE], masked[TILE];
  int column = half_of_warp() * (HEAD / 2);
  fetch<TILE>(qs, q, line, i0, length);
  float highest[2] = {-ENDLESS, -ENDLESS}, sum[2] = {0.0f, 0.0f}, o[HEAD / 16][4] = {};
  for (int j0 = 0; j0 < length; j0 += TILE) {
    __syncthreads();
    fetch<TILE>(ks, q + width, line, j0, length);
    fetch<TILE>(vs, q + 2 * width, line, j0, length);
    fetch_mask(masked, mask, row, j0, length);
    if (shape.has_positions) {
      int first = i0 - j0 - TILE + length;
      fetch<DISTANCES>(pqs, pq, line, first, 2 * length);
      fetch<DISTANCES>(pks, pq + width, line, first, 2 * length);
    }
    __syncthreads();
    float s[HALF / 8][4];
    scores(s, qs, ks, {pqs, shape.has_positions ? pks : nullptr, content, position});
    float now[2] = {highest[0], highest[1]};
#pragma unroll
    for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] = s[n][e] * shape.scale + masked[column_of(n, e)];
        now[e / 2] = fmaxf(now[e / 2], s[n][e]);
      }
    }
    unsigned kept[2];
    kept_bits(kept, random, shape, i0, j0);
    float shrink[2];
    for (int half = 0; half < 2; ++half) {
      now[half] = over_row(now[half], true);
      if (threadIdx.x % 4 == 0) exchanged[half_of_warp()][row_of(half * 2)] = now[half];
    }
    __syncthreads();
    for (int half = 0; half < 2; ++half) {
      now[half] = fmaxf(exchanged[0][row_of(half * 2)], exchanged[1][row_of(half * 2)]);
      shrink[half] = exp2f((highest[half] - now[half]) * LOG2E);
      highest[half] = now[half];
      sum[half] *= shrink[half];
    }
#pragma unroll
    for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float weight = exp2f((s[n][e] - now[e / 2]) * LOG2E);
        sum[e / 2] += weight;
        s[n][e] = kept[e / 2] >> (2 * n + e % 2) & 1 ? weight : 0.0f;
      }
      keep_square(weights, s[n], n);
    }
#pragma unroll
    for (int n = 0; n < HEAD / 16; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] *= shrink[e / 2];
    __syncthreads();
    product<HEAD / 16, TILE / 16, false, true>(o, weights + lines * SQUARE_PITCH, SQUARE_PITCH, vs + column, PITCH);
  }
  for (int half = 0; half < 2; ++half) {
    sum[half] = over_row(sum[half], false);
    if (threadIdx.x % 4 == 0) exchanged[half_of_warp()][row_of(half * 2)] = sum[half];
  }
  __syncthreads();
  for (int half = 0; half < 2; ++half) {
    sum[half] = exchanged[0][row_of(half * 2)] + exchanged[1][row_of(half * 2)];
    int i = i0 + row_of(half * 2);
    if (i < length && half_of_warp() == 0 && threadIdx.x % 4 == 0) {
      log_sum[(static_cast<long>(row) * shape.heads + head) * length + i] = highest[half] + logf(sum[half]);
    }
  }
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int i = i0 + row_of(e);
      long at = (static_cast<long>(row) * length + i) * width + head * HEAD + column_of(n, e, HEAD / 2);
      if (i < length) out[at] = narrowed(o[n][e] * random.scale / sum[e / 2]);
    }
  }
}

__device__ void store(T* to, const float (&acc)[HEAD / 16][4], const Shape& shape, int first) {
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int line = first + row_of(e);
      if (line < shape.length) to[line * shape.line() + column_of(n, e, HEAD / 2)] = narrowed(acc[n][e]);
    }
  }
}

// Gradients of k and v, in a tensor laid out as the projected one, and of the scores before their scale: dscores
// [runs * rows, heads, length, pitch].
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_keys(
    const T* projected, const T* mask, const T* out, const T* grad, const float* log_sum, T* d_projected, T* dscores,
    Random random, Shape shape) {
  T *qs = reinterpret_cast<T*>(shared), *ks = qs + TILE * PITCH, *vs = ks + TILE * PITCH, *gs = vs + TILE * PITCH;
  T *pqs = gs + TILE * PITCH, *pks = pqs + DISTANCES * PITCH;
  // The position terms, and once those have been read, what is made of them.
  T *content = shape.has_positions ? pks + DISTANCES * PITCH : pqs, *position = content + TILE * BAND_PITCH;
  T *weights = content, *ds = weights + TILE * SQUARE_PITCH, *bands = ds + TILE * SQUARE_PITCH;
  float *sums = reinterpret_cast<float*>(bands + TILE * BAND_PITCH), *deltas = sums + TILE;
  int j0 = blockIdx.x * TILE, head = blockIdx.y, row = blockIdx.z, length = shape.length, lines = lines_of_warp();
  long width = shape.width(), line = shape.line(), base = static_cast<long>(row) * length * width + head * HEAD;
  const T *q = projected + shape.content(row, head), *pq = projected + shape.distances(row / shape.rows, head);
  T* d_q = d_projected + shape.content(row, head);
  long scores_at = (static_cast<long>(row) * shape.heads + head) * length;
  fetch<TILE>(ks, q + width, line, j0, length);
  fetch<TILE>(vs, q + 2 * width, line, j0, length);
  __shared__ float masked[TILE];
  fetch_mask(masked, mask, row, j0, length);
  int column = half_of_warp() * (HEAD / 2);
  float k_grad[HEAD / 16][4] = {}, v_grad[HEAD / 16][4] = {};
  for (int i0 = 0; i0 < length; i0 += TILE) {
    __syncthreads();
    fetch<TILE>(qs, q, line, i0, length);
    fetch<TILE>(gs, grad + base, width, i0, length);
    if (shape.has_positions) {
      int first = i0 - j0 - TILE + length;
      fetch<DISTANCES>(pqs, pq, line, first, 2 * length);
      fetch<DISTANCES>(pks, pq + width, line, first, 2 * length);
    }
    // delta_i = grad_i . out_i, by four threads a row.
    int i = i0 + threadIdx.x / 4;
    float delta = 0.0f;
    if (i < length) {
      long at = base + i * width + threadIdx.x % 4 * (HEAD / 4);
      for (int c = 0; c < HEAD / 4; c += 8) {
        Eight a = *reinterpret_cast<const Eight*>(out + at + c), b = *reinterpret_cast<const Eight*>(grad + at + c);
        for (int e = 0; e < 8; ++e) delta += widened(a.at[e]) * widened(b.at[e]);
      }
    }
    delta = over_row(delta, false);
    if (threadIdx.x % 4 == 0) {
      deltas[threadIdx.x / 4] = delta;
      sums[threadIdx.x / 4] = i < length ? log_sum[scores_at + i] : ENDLESS;
    }
    __syncthreads();
    float s[HALF / 8][4], w_grad[HALF / 8][4] = {};
    scores(s, qs, ks, {pqs, shape.has_positions ? pks : nullptr, content, position});
    product<HALF / 8, HEAD / 16, false, false>(w_grad, gs + lines * PITCH, PITCH, vs + half_of_warp() * HALF * PITCH, PITCH);
    unsigned kept[2];
    kept_bits(kept, random, shape, i0, j0);
    __syncthreads();
#pragma unroll
    for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int il = row_of(e), jl = column_of(n, e);
        float weight = exp2f((s[n][e] * shape.scale + masked[jl] - sums[il]) * LOG2E);
        float factor = kept[e / 2] >> (2 * n + e % 2) & 1 ? random.scale : 0.0f;
        s[n][e] = factor * weight;
        w_grad[n][e] = weight * (factor * w_grad[n][e] - deltas[il]) * shape.scale;
        if (shape.has_positions) bands[jl * BAND_PITCH + il - jl % 16 + 15] = narrowed(w_grad[n][e]);
      }
      keep_square(weights, s[n], n);
      keep_square(ds, w_grad[n], n);
    }
    for (int c = threadIdx.x; c < TILE * 16; c += THREADS) {
      int line = c / 16, e = c % 16;
      bands[line * BAND_PITCH + (e < 15 - line % 16 ? e : TILE + e)] = 0;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < TILE * (TILE / 8); c += THREADS) {
      int line = c / (TILE / 8), at = c % (TILE / 8) * 8;
      if (i0 + line < length && j0 + at < shape.pitch()) {
        *reinterpret_cast<uint4*>(dscores + (scores_at + i0 + line) * shape.pitch() + j0 + at) =
            *reinterpret_cast<const uint4*>(ds + line * SQUARE_PITCH + at);
      }
    }
    product<HEAD / 16, TILE / 16, true, true>(v_grad, weights + lines, SQUARE_PITCH, gs + column, PITCH);
    product<HEAD / 16, TILE / 16, true, true>(k_grad, ds + lines, SQUARE_PITCH, qs + column, PITCH);
    if (shape.has_positions) {
      const T* distances = pqs + (TILE - 16 - lines) * PITCH + column;
      product<HEAD / 16, BAND / 16, false, true>(k_grad, bands + lines * BAND_PITCH, BAND_PITCH, distances, PITCH);
    }
  }
  store(d_q + width, k_grad, shape, j0);
  store(d_q + 2 * width, v_grad, shape, j0);
}

// Gradient of q, for one tile of a row.
__device__ void backward_queries(
    const T* projected, const T* dscores, T* d_projected, const Shape& shape, int tile, int head, int row) {
  T *ks = reinterpret_cast<T*>(shared), *pks = ks + TILE * PITCH;
  T* ds = shape.has_positions ? pks + DISTANCES * PITCH : pks;
  T* bands = ds + TILE * SQUARE_PITCH;
  int i0 = tile * TILE, length = shape.length, lines = lines_of_warp();
  const T *k = projected + shape.content(row, head) + shape.width();
  const T* square = dscores + (static_cast<long>(row) * shape.heads + head) * length * shape.pitch();
  int column = half_of_warp() * (HEAD / 2);
  float q_grad[HEAD / 16][4] = {};
  for (int j0 = 0; j0 < length; j0 += TILE) {
    __syncthreads();
    fetch<TILE>(ks, k, shape.line(), j0, length);
    fetch_square<TILE, SQUARE_PITCH>(ds, square, shape, i0, j0);
    if (shape.has_positions) {
      const T* pk = projected + shape.distances(row / shape.rows, head) + shape.width();
      fetch<DISTANCES>(pks, pk, shape.line(), i0 - j0 - TILE + length, 2 * length);
    }
    __syncthreads();
    product<HEAD / 16, TILE / 16, false, true>(q_grad, ds + lines * SQUARE_PITCH, SQUARE_PITCH, ks + column, PITCH);
    if (!shape.has_positions) continue;
#pragma unroll 8
    for (int c = threadIdx.x; c < TILE * BAND; c += THREADS) {
      int line = c / BAND, at = c % BAND, j = line % 16 + TILE - 1 - at;
      bands[line * BAND_PITCH + at] = j >= 0 && j < TILE ? ds[line * SQUARE_PITCH + j] : 0;
    }
    __syncthreads();
    const T* distances = pks + lines * PITCH + column;
    product<HEAD / 16, BAND / 16, false, true>(q_grad, bands + lines * BAND_PITCH, BAND_PITCH, distances, PITCH);
  }
  store(d_projected + shape.content(row, head), q_grad, shape, i0);
}

// How the sums over a run's rows are cut: partial sums by chunk, [chunks, runs, 2 length, 2 width], so that no order of
// atomic sums decides the last bit.
struct Chunks {
  float* partial;
  int runs, count, rows;
};

// Gradient of pq or pk, for one tile of distances and one chunk of a run's rows.
__device__ void backward_positions(
    const T* projected, const T* dscores, const Chunks& chunks, const Shape& shape, int tile, int head, bool is_query,
    int chunk) {
  T *xs = reinterpret_cast<T*>(shared), *square = xs + TILE * PITCH, *window = square + TILE * SQUARE_PITCH;
  int t0 = tile * TILE, length = shape.length, lines = lines_of_warp();
  int run = chunk / chunks.count, part = chunk % chunks.count;
  int column = half_of_warp() * (HEAD / 2);
  float acc[HEAD / 16][4] = {};
  for (int b = part * chunks.rows; b < min((part + 1) * chunks.rows, shape.rows); ++b) {
    int row = run * shape.rows + b;
    const T* ds = dscores + (static_cast<long>(row) * shape.heads + head) * length * shape.pitch();
    for (int x0 = 0; x0 < length; x0 += TILE) {
      // The other coordinate runs from `first` to `first` + 126.
      int first = is_query ? x0 + t0 - length + 1 : x0 - t0 - TILE + length;
      if (first >= length || first + DISTANCES - 2 < 0) continue;
      __syncthreads();
      fetch<TILE>(xs, projected + shape.content(row, head) + (is_query ? shape.width() : 0), shape.line(), x0, length);
      if (is_query) {
        fetch_square<DISTANCES, WINDOW_PITCH>(window, ds, shape, first, x0);
        __syncthreads();
      }
#pragma unroll 8
      for (int c = threadIdx.x; c < TILE * TILE; c += THREADS) {
        int x = c / TILE, t = c % TILE, j = x0 + x - t0 - t + length - 1;
        T value = 0;
        if (is_query) value = window[(x + t) * WINDOW_PITCH + x];
        else if (x0 + x < length && j >= 0 && j < length) value = ds[static_cast<long>(x0 + x) * shape.pitch() + j];
        square[x * SQUARE_PITCH + t] = value;
      }
      __syncthreads();
      product<HEAD / 16, TILE / 16, true, true>(acc, square + lines, SQUARE_PITCH, xs + column, PITCH);
    }
  }
  long pitch = 2 * shape.width();
  float* to = chunks.partial + (static_cast<long>(part) * chunks.runs + run) * 2 * length * pitch;
  if (!is_query) to += shape.width();
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int t = t0 + row_of(e);
      if (t < 2 * length) to[t * pitch + head * HEAD + column_of(n, e, HEAD / 2)] = acc[n][e];
    }
  }
}

// The gradients that are sums of the scores' gradient: of pq and pk in the first blocks, which are the longer, then of q.
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_queries(
    const T* projected, const T* dscores, T* d_projected, Chunks chunks, Shape shape) {
  int tiles = (shape.length + TILE - 1) / TILE, distance_tiles = (2 * shape.length + TILE - 1) / TILE;
  int of_positions = chunks.count * chunks.runs * 2 * shape.heads * distance_tiles, index = blockIdx.x;
  if (index < of_positions) {
    int tile = index % distance_tiles, head = index / distance_tiles % (2 * shape.heads);
    int chunk = index / distance_tiles / (2 * shape.heads);
    bool is_query = head < shape.heads;
    backward_positions(projected, dscores, chunks, shape, tile, head % shape.heads, is_query, chunk);
  } else {
    index -= of_positions;
    int head = index / tiles % shape.heads, row = index / tiles / shape.heads;
    backward_queries(projected, dscores, d_projected, shape, index % tiles, head, row);
  }
}
