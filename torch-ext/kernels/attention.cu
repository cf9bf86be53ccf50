// Attention in bfloat16, with DeBERTa's position terms where there are any, heads of HEAD values, in tiles of 64 x 64:
//
// score[i, j] = scale * (q_i . k_j + q_i . pk[i - j + length - 1] + k_j . pq[i - j + length - 1]) + mask[j]
// out_i = sum_j dropout(softmax(score)[i, j]) v_j
//
// Everything that is projected lies in one tensor, [lines, 3 width], width = heads * HEAD: q, k, v side by side: for
// each run the lines of its rows, `length` a row, and then those of its 2 length distances, of which pq and pk are used. Where
// there are `starts`, a row's lines begin at starts[row] and end at the next row's, and those of all runs come before all
// distances. mask is [runs * rows, length], where padding has lines; out and its gradient [lines without distances, width];
// log_sum [runs * rows, heads, length].
// Eight warps a block: warp w has 16 rows of a tile, w % 4, and half of its columns, w / 4. Tiles are copied to shared memory
// asynchronously, and a matrix that is sheared (a score's distance is the difference of its row and column) is read as it
// lies, never made.

// Sizes of shared memory follow from these in attention.h.
const int THREADS = 256, TILE = 64, HALF = TILE / 2, BAND = 80, DISTANCES = 2 * TILE;
const int PITCH = HEAD + 8, SQUARE_PITCH = TILE + 8, BAND_PITCH = BAND + 8;
// Zeros around a square, where a band goes beyond it.
const int MARGIN = 16, MARGIN_PITCH = MARGIN + TILE + MARGIN + 8;
// Where the scores' gradient is read along lines of distances: lines of DISTANCES columns, from the aligned one before.
const int WINDOW_PITCH = DISTANCES + 8;
const float LOG2E = 1.4426950408889634f;
#define ENDLESS __int_as_float(0x7f800000)

struct Shape {
  int rows, heads, length, has_positions;
  // Values from line to line of out, and of the gradient of what is projected.
  int out_pitch, grad_pitch;
  float scale;
  const int* starts;  // [runs * rows + 1], or null
  int content_lines;

  __device__ long width() const { return static_cast<long>(heads) * HEAD; }
  __device__ long line() const { return 3 * width(); }
  // Lines of a batch row; the first of them, of a run's distances, and of a row of out.
  __device__ int length_of(int row) const { return starts ? starts[row + 1] - starts[row] : length; }
  __device__ long content(int row) const { return starts ? starts[row] : run_at(row / rows) + row % rows * length; }
  __device__ long distances(int run) const {
    return starts ? content_lines + 2L * length * run : run_at(run) + static_cast<long>(rows) * length;
  }
  __device__ long out(int row) const { return starts ? starts[row] : static_cast<long>(row) * length; }
  __device__ long run_at(int run) const {
    return static_cast<long>(run) * (rows * length + (has_positions ? 2 * length : 0));
  }
  // Lines of the scores' gradient begin aligned, and are written as far as that.
  __device__ int pitch() const { return aligned(length); }
  __device__ static int aligned(int length) { return (length + 7) / 8 * 8; }
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

// acc += A B for one warp, where A[m][k] lies at a[m M_STEP + k K_STEP], and B as [k][n].
template <int NT, int KS, int M_STEP, int K_STEP>
__device__ void sheared_product(float (&acc)[NT][4], const T* a, const T* b, int b_pitch) {
  int lane = threadIdx.x % 32, line = lane % 16, high = lane / 16 * 8;
  a += lane / 4 * M_STEP + lane % 4 * 2 * K_STEP;
#pragma unroll
  for (int k = 0; k < KS * 16; k += 16) {
    unsigned fa[4];
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const T* at = a + part % 2 * 8 * M_STEP + (k + part / 2 * 8) * K_STEP;
      fa[part] = at[0] | static_cast<unsigned>(at[K_STEP]) << 16;
    }
#pragma unroll
    for (int n = 0; n < NT; n += 2) {
      unsigned fb[4];
      load4_turned(fb, b + (k + line) * b_pitch + n * 8 + high);
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

// Sixteen bytes to shared memory, or as many zeros; arrived() waits for them.
__device__ void copy(T* to, const T* from, bool is_inside) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(is_inside ? 16 : 0) : "memory");
}

// Ends a group of copies.
__device__ void sent() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until of all groups but the last LEFT every thread's copies have come.
template <int LEFT = 0>
__device__ void arrived() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
  __syncthreads();
}

// A tile of LINES lines and COLUMNS columns of `from`; what lies outside its lines and columns is zero.
template <int LINES, int COLUMNS, int PITCH_TO>
__device__ void fetch(T* to, const T* from, long pitch, int first, int lines, int column, int columns) {
  const int BLOCKS = COLUMNS / 8, STEP = THREADS / BLOCKS;
  int line = threadIdx.x / BLOCKS, place = threadIdx.x % BLOCKS * 8;
  bool has_column = static_cast<unsigned>(column + place) < static_cast<unsigned>(columns);
  const T* source = from + (first + line) * pitch + column + place;
#pragma unroll
  for (int k = 0; k < (LINES + STEP - 1) / STEP; ++k, line += STEP, source += STEP * pitch) {
    if (LINES % STEP != 0 && line >= LINES) break;
    bool is_inside = has_column && static_cast<unsigned>(first + line) < static_cast<unsigned>(lines);
    copy(to + line * PITCH_TO + place, source, is_inside);
  }
}

// Lines of a head.
template <int LINES>
__device__ void fetch(T* to, const T* from, long pitch, int first, int lines) {
  fetch<LINES, HEAD, PITCH>(to, from, pitch, first, lines, 0, HEAD);
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
  if (threadIdx.x >= TILE) return;
  float inside = mask && j < length ? widened(mask[static_cast<long>(row) * length + j]) : 0.0f;
  to[threadIdx.x] = j < length ? inside : -ENDLESS;
}

// Lines that no row has: a head's columns become zero.
__device__ void clear_rest(T* to, long pitch, const Shape& shape, int row, int head) {
  for (int line = shape.starts[row] + blockIdx.x * THREADS + threadIdx.x; line < shape.content_lines; line += gridDim.x * THREADS) {
    for (int c = 0; c < HEAD; c += 8) *reinterpret_cast<uint4*>(to + line * pitch + head * HEAD + c) = make_uint4(0, 0, 0, 0);
  }
}

// A warp's lines and columns of an accumulator.
__device__ void store(T* to, const float (&acc)[HEAD / 16][4], int pitch, int first, int length) {
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n) {
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      int line = first + row_of(e);
      unsigned* place = reinterpret_cast<unsigned*>(to + static_cast<long>(line) * pitch + column_of(n, e, HEAD / 2));
      if (line < length) *place = paired(acc[n][e], acc[n][e + 1]);
    }
  }
}

extern __shared__ uint4 shared[];

extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_forward(
    const T* projected, const T* mask, T* out, float* log_sum, Random random, Shape shape) {
  T *qs = reinterpret_cast<T*>(shared), *ks = qs + TILE * PITCH, *vs = ks + TILE * PITCH;
  T *pqs = vs + TILE * PITCH, *pks = pqs + DISTANCES * PITCH;
  T *content = shape.has_positions ? pks + DISTANCES * PITCH : pqs, *position = content + TILE * BAND_PITCH;
  int i0 = blockIdx.x * TILE, head = blockIdx.y, row = blockIdx.z, lines = lines_of_warp();
  // Where rows have starts, there are blocks for the lines after the last row.
  if (shape.starts && row == gridDim.z - 1) return clear_rest(out, shape.out_pitch, shape, row, head);
  int length = shape.length_of(row);
  if (i0 >= length) return;
  long width = shape.width(), line = shape.line();
  const T *q = projected + shape.content(row) * line + head * HEAD;
  const T *pq = projected + shape.distances(row / shape.rows) * line + head * HEAD;
  // In the place of the content terms, once those have been read.
  T* weights = content;
  __shared__ float exchanged[2][TILE], masked[TILE];
  int column = half_of_warp() * (HEAD / 2);
  auto fetch_keys = [&](int j0) {
    if (j0 < length) {
      fetch<TILE>(ks, q + width, line, j0, length);
      if (shape.has_positions) {
        int first = i0 - j0 - TILE + shape.length;
        fetch<DISTANCES>(pqs, pq, line, first, 2 * shape.length);
        fetch<DISTANCES>(pks, pq + width, line, first, 2 * shape.length);
      }
    }
    sent();
  };
  auto fetch_values = [&](int j0) {
    if (j0 < length) fetch<TILE>(vs, q + 2 * width, line, j0, length);
    sent();
  };
  fetch<TILE>(qs, q, line, i0, length);
  fetch_keys(0);
  fetch_values(0);
  float highest[2] = {-ENDLESS, -ENDLESS}, sum[2] = {0.0f, 0.0f}, o[HEAD / 16][4] = {};
  for (int j0 = 0; j0 < length; j0 += TILE) {
    fetch_mask(masked, mask, row, j0, length);
    arrived<1>();
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
    // The keys have been used by all.
    fetch_keys(j0 + TILE);
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
    arrived<1>();
    product<HEAD / 16, TILE / 16, false, true>(o, weights + lines * SQUARE_PITCH, SQUARE_PITCH, vs + column, PITCH);
    __syncthreads();
    fetch_values(j0 + TILE);
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
      log_sum[(static_cast<long>(row) * shape.heads + head) * shape.length + i] = highest[half] + logf(sum[half]);
    }
  }
  T* to = out + shape.out(row) * shape.out_pitch + head * HEAD;
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) o[n][e] *= random.scale / sum[e / 2];
  store(to, o, shape.out_pitch, i0, length);
}

// Gradients of k and v, in a tensor with the lines of the projected one, and of the scores before their scale: dscores
// [runs * rows, heads, length, pitch].
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_backward_keys(
    const T* projected, const T* mask, const T* out, const T* grad, const float* log_sum, T* d_projected, T* dscores,
    Random random, Shape shape) {
  T *qs = reinterpret_cast<T*>(shared), *ks = qs + TILE * PITCH, *vs = ks + TILE * PITCH, *gs = vs + TILE * PITCH;
  T *pqs = gs + TILE * PITCH, *pks = pqs + DISTANCES * PITCH;
  // The position terms, and once those have been read, what is made of them.
  T *content = shape.has_positions ? pks + DISTANCES * PITCH : pqs, *position = content + TILE * BAND_PITCH;
  T *weights = content, *margin = weights + TILE * SQUARE_PITCH, *ds = margin + MARGIN * SQUARE_PITCH;
  int j0 = blockIdx.x * TILE, head = blockIdx.y, row = blockIdx.z, lines = lines_of_warp();
  long width = shape.width(), line = shape.line();
  if (shape.starts && row == gridDim.z - 1) {
    for (int which = 0; which < 3; ++which) clear_rest(d_projected + which * width, shape.grad_pitch, shape, row, head);
    return;
  }
  int length = shape.length_of(row);
  if (j0 >= length) return;
  long first_line = shape.out(row);
  const T *q = projected + shape.content(row) * line + head * HEAD;
  const T *pq = projected + shape.distances(row / shape.rows) * line + head * HEAD;
  const T *of_out = out + first_line * shape.out_pitch + head * HEAD, *of_grad = grad + first_line * width + head * HEAD;
  long scores_at = (static_cast<long>(row) * shape.heads + head) * shape.length;
  __shared__ float masked[TILE], sums[TILE], deltas[TILE];
  fetch<TILE>(ks, q + width, line, j0, length);
  fetch<TILE>(vs, q + 2 * width, line, j0, length);
  fetch_mask(masked, mask, row, j0, length);
  int column = half_of_warp() * (HEAD / 2);
  float k_grad[HEAD / 16][4] = {}, v_grad[HEAD / 16][4] = {};
  for (int i0 = 0; i0 < length; i0 += TILE) {
    fetch<TILE>(qs, q, line, i0, length);
    if (shape.has_positions) {
      int first = i0 - j0 - TILE + shape.length;
      fetch<DISTANCES>(pqs, pq, line, first, 2 * shape.length);
      fetch<DISTANCES>(pks, pq + width, line, first, 2 * shape.length);
    }
    sent();
    fetch<TILE>(gs, of_grad, width, i0, length);
    sent();
    // delta_i = grad_i . out_i, by four threads a row.
    int i = i0 + threadIdx.x / 4;
    float delta = 0.0f;
    if (i < length) {
      int part = threadIdx.x % 4 * (HEAD / 4);
      for (int c = part; c < part + HEAD / 4; c += 8) {
        Eight a = *reinterpret_cast<const Eight*>(of_out + static_cast<long>(i) * shape.out_pitch + c);
        Eight b = *reinterpret_cast<const Eight*>(of_grad + i * width + c);
        for (int e = 0; e < 8; ++e) delta += widened(a.at[e]) * widened(b.at[e]);
      }
    }
    delta = over_row(delta, false);
    if (threadIdx.x % 4 == 0) {
      deltas[threadIdx.x / 4] = delta;
      sums[threadIdx.x / 4] = i < length ? log_sum[scores_at + i] : ENDLESS;
    }
    arrived<1>();
    float s[HALF / 8][4], w_grad[HALF / 8][4] = {};
    scores(s, qs, ks, {pqs, shape.has_positions ? pks : nullptr, content, position});
    unsigned kept[2];
    kept_bits(kept, random, shape, i0, j0);
    arrived();
    product<HALF / 8, HEAD / 16, false, false>(w_grad, gs + lines * PITCH, PITCH, vs + half_of_warp() * HALF * PITCH, PITCH);
#pragma unroll
    for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int il = row_of(e), jl = column_of(n, e);
        float weight = exp2f((s[n][e] * shape.scale + masked[jl] - sums[il]) * LOG2E);
        float factor = kept[e / 2] >> (2 * n + e % 2) & 1 ? random.scale : 0.0f;
        s[n][e] = factor * weight;
        w_grad[n][e] = weight * (factor * w_grad[n][e] - deltas[il]) * shape.scale;
      }
      keep_square(weights, s[n], n);
      keep_square(ds, w_grad[n], n);
    }
    for (int c = threadIdx.x; c < 2 * MARGIN * SQUARE_PITCH / 8; c += THREADS) {
      T* half = c < MARGIN * SQUARE_PITCH / 8 ? margin : margin + TILE * SQUARE_PITCH;
      *reinterpret_cast<uint4*>(half + c * 8) = make_uint4(0, 0, 0, 0);
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
      // A key's score with the query at distance k of the band of its sixteen lies in line k - 15 + m.
      const T *band = ds - 15 * SQUARE_PITCH + lines, *distances = pqs + (TILE - 16 - lines) * PITCH + column;
      sheared_product<HEAD / 16, BAND / 16, SQUARE_PITCH + 1, SQUARE_PITCH>(k_grad, band, distances, PITCH);
    }
    __syncthreads();
  }
  T* to = d_projected + shape.content(row) * shape.grad_pitch + head * HEAD;
  store(to + width, k_grad, shape.grad_pitch, j0, length);
  store(to + 2 * width, v_grad, shape.grad_pitch, j0, length);
}

// Gradient of q, for one tile of a row.
__device__ void backward_queries(
    const T* projected, const T* dscores, T* d_projected, const Shape& shape, int tile, int head, int row) {
  T *ks = reinterpret_cast<T*>(shared), *ds = ks + TILE * PITCH + MARGIN, *pks = ks + TILE * PITCH + TILE * MARGIN_PITCH;
  int i0 = tile * TILE, length = shape.length_of(row), lines = lines_of_warp();
  if (i0 >= length) return;
  long line = shape.line();
  const T *k = projected + shape.content(row) * line + head * HEAD + shape.width();
  const T *pk = projected + shape.distances(row / shape.rows) * line + head * HEAD + shape.width();
  const T* square = dscores + (static_cast<long>(row) * shape.heads + head) * shape.length * shape.pitch();
  int column = half_of_warp() * (HEAD / 2);
  float q_grad[HEAD / 16][4] = {};
  for (int c = threadIdx.x; c < TILE * 2 * MARGIN / 8; c += THREADS) {
    int line = c / (2 * MARGIN / 8), place = c % (2 * MARGIN / 8) * 8;
    T* half = place < MARGIN ? ds - MARGIN : ds + TILE - MARGIN;
    *reinterpret_cast<uint4*>(half + line * MARGIN_PITCH + place) = make_uint4(0, 0, 0, 0);
  }
  for (int j0 = 0; j0 < length; j0 += TILE) {
    fetch<TILE>(ks, k, line, j0, length);
    fetch<TILE, TILE, MARGIN_PITCH>(ds, square, shape.pitch(), i0, length, j0, Shape::aligned(length));
    sent();
    if (shape.has_positions) fetch<DISTANCES>(pks, pk, line, i0 - j0 - TILE + shape.length, 2 * shape.length);
    sent();
    arrived<1>();
    product<HEAD / 16, TILE / 16, false, true>(q_grad, ds + lines * MARGIN_PITCH, MARGIN_PITCH, ks + column, PITCH);
    arrived();
    if (shape.has_positions) {
      // A query's score with the key at distance k of the band of its sixteen lies in column m + TILE - 1 - k.
      const T *band = ds + lines * MARGIN_PITCH + TILE - 1, *distances = pks + lines * PITCH + column;
      sheared_product<HEAD / 16, BAND / 16, MARGIN_PITCH + 1, -1>(q_grad, band, distances, PITCH);
    }
    __syncthreads();
  }
  T* to = d_projected + shape.content(row) * shape.grad_pitch + head * HEAD;
  store(to, q_grad, shape.grad_pitch, i0, length);
}

// How the sums over a run's rows are cut: partial sums by chunk, [chunks, runs, 2 length, 2 width], so that no order of
// atomic sums decides the last bit.
struct Chunks {
  float* partial;
  int runs, count, rows;
};

// Gradient of pq or pk, for one tile of distances and one chunk of a run's rows. The other coordinate of a tile of lines x,
// which are keys for pq and queries for pk, runs from first(x) on, as far as there are distances.
template <bool IS_QUERY>
__device__ void backward_positions(
    const T* projected, const T* dscores, const Chunks& chunks, const Shape& shape, int tile, int head, int chunk) {
  const int STAGE = TILE * PITCH + (IS_QUERY ? DISTANCES * SQUARE_PITCH : TILE * WINDOW_PITCH);
  T* stages = reinterpret_cast<T*>(shared);
  int t0 = tile * TILE, length = shape.length, lines = lines_of_warp();
  int run = chunk / chunks.count, part = chunk % chunks.count, column = half_of_warp() * (HEAD / 2);
  long line = shape.line();
  int b = part * chunks.rows, end = min(b + chunks.rows, shape.rows), x0 = -TILE;
  auto lines_of_row = [&] { return b < end ? shape.length_of(run * shape.rows + b) : 0; };
  int of_row = lines_of_row();
  auto first = [&](int x) { return IS_QUERY ? x + t0 - length + 1 : x - t0 - TILE + length; };
  auto advance = [&] {
    do {
      x0 += TILE;
      if (x0 >= of_row) {
        x0 = 0, ++b;
        of_row = lines_of_row();
      }
    } while (b < end && (first(x0) >= of_row || first(x0) + DISTANCES - 2 < 0));
  };
  auto fetch_stage = [&](T* xs) {
    if (b < end) {
      int row = run * shape.rows + b;
      const T* x = projected + shape.content(row) * line + head * HEAD + (IS_QUERY ? shape.width() : 0);
      const T* square = dscores + (static_cast<long>(row) * shape.heads + head) * length * shape.pitch();
      T* window = xs + TILE * PITCH;
      fetch<TILE>(xs, x, line, x0, of_row);
      if (IS_QUERY) {
        fetch<DISTANCES, TILE, SQUARE_PITCH>(window, square, shape.pitch(), first(x0), of_row, x0, Shape::aligned(of_row));
      } else {
        int aligned = first(x0) & ~7;
        fetch<TILE, DISTANCES, WINDOW_PITCH>(window, square, shape.pitch(), x0, of_row, aligned, Shape::aligned(of_row));
        fetch<TILE, 8, WINDOW_PITCH>(
            window + DISTANCES, square, shape.pitch(), x0, of_row, aligned + DISTANCES, Shape::aligned(of_row));
      }
    }
    sent();
  };
  float acc[HEAD / 16][4] = {};
  advance();
  fetch_stage(stages);
  for (int stage = 0; b < end; stage ^= 1) {
    int lead = first(x0) & 7;
    advance();
    fetch_stage(stages + (stage ^ 1) * STAGE);
    arrived<1>();
    const T *xs = stages + stage * STAGE + column, *window = stages + stage * STAGE + TILE * PITCH;
    // Distance m and line k: for pq in line k + m and column k, for pk in line k and column k - m + TILE - 1.
    if (IS_QUERY) {
      const T* a = window + lines * SQUARE_PITCH;
      sheared_product<HEAD / 16, TILE / 16, SQUARE_PITCH, SQUARE_PITCH + 1>(acc, a, xs, PITCH);
    } else {
      const T* a = window + lead + TILE - 1 - lines;
      sheared_product<HEAD / 16, TILE / 16, -1, WINDOW_PITCH + 1>(acc, a, xs, PITCH);
    }
    __syncthreads();
  }
  long pitch = 2 * shape.width();
  float* to = chunks.partial + (static_cast<long>(part) * chunks.runs + run) * 2 * length * pitch + head * HEAD;
  if (!IS_QUERY) to += shape.width();
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n) {
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      int t = t0 + row_of(e);
      float2 both = make_float2(acc[n][e], acc[n][e + 1]);
      if (t < 2 * length) *reinterpret_cast<float2*>(to + t * pitch + column_of(n, e, HEAD / 2)) = both;
    }
  }
}

// The gradients that are sums of the scores' gradient: of pq and pk in the first blocks, which are the longer, then of q.
extern "C" __global__ void __launch_bounds__(THREADS, 3) attention_backward_queries(
    const T* projected, const T* dscores, T* d_projected, Chunks chunks, Shape shape) {
  int tiles = (shape.length + TILE - 1) / TILE, distance_tiles = (2 * shape.length + TILE - 1) / TILE;
  int of_positions = chunks.count * chunks.runs * 2 * shape.heads * distance_tiles, index = blockIdx.x;
  if (index < of_positions) {
    int tile = index % distance_tiles, head = index / distance_tiles % (2 * shape.heads);
    int chunk = index / distance_tiles / (2 * shape.heads);
    if (head < shape.heads) backward_positions<true>(projected, dscores, chunks, shape, tile, head, chunk);
    else backward_positions<false>(projected, dscores, chunks, shape, tile, head - shape.heads, chunk);
  } else {
    index -= of_positions;
    int head = index / tiles % shape.heads, row = index / tiles / shape.heads;
    backward_queries(projected, dscores, d_projected, shape, index % tiles, head, row);
  }
}

// Sums of the chunks, to the gradient of a run's distances, which have no values. A block a distance and run.
extern "C" __global__ void attention_backward_distances(T* d_projected, Chunks chunks, Shape shape) {
  int distance = blockIdx.x, run = blockIdx.y;
  long width = shape.width(), line = 2 * width, all = line * 2 * shape.length;
  T* to = d_projected + (shape.distances(run) + distance) * shape.grad_pitch;
  for (int column = threadIdx.x * 4; column < 3 * width; column += blockDim.x * 4) {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int chunk = 0; column < line && chunk < chunks.count; ++chunk) {
      const float* from = chunks.partial + (static_cast<long>(chunk) * chunks.runs + run) * all + distance * line + column;
      float4 part = *reinterpret_cast<const float4*>(from);
      sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    *reinterpret_cast<uint2*>(to + column) = make_uint2(paired(sum.x, sum.y), paired(sum.z, sum.w));
  }
}
