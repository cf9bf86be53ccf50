// Self-attention with dropout in bfloat16, and with DeBERTa's position terms where there are any, forward and backward.
//
// score[i, j] = scale * (q_i . k_j + q_i . pk[i - j + length - 1] + k_j . pq[i - j + length - 1]) + mask[j]
// out_i = sum_j dropout(softmax(score)[i, j]) v_j
// With w = softmax(score), d = dropout's factors, g the gradient of out: dw[i, j] = d[i, j] g_i . v_j - g_i . out_i;
// dscores = scale w dw; dv_j = sum_i d w g_i; dk_j = sum_i dscores (q_i + pq[..]); dq_i = sum_j dscores (k_j + pk[..]);
// dpk[t] and dpq[t] = sums of dscores q_i and dscores k_j over all i - j + length - 1 = t.
//
// projected: [tokens, 3 width], width = heads * HEAD, columns q | k | v. For each run it has the tokens of its rows,
//   `length` a row, then its 2 length distances (pq and pk are used). With cu_seqlens, row b has the tokens from
//   cu_seqlens[b] to cu_seqlens[b + 1], and the tokens of all runs come before all distances.
// mask: [runs * rows, length], or null where rows are packed. out, grad: [tokens without distances, width].
// log_sum: [runs * rows, heads, length], f32: the logarithm of the sum of exp(score), which the backward pass needs.
//
// Sources: online softmax and recomputation of FlashAttention-2 (Dao 2023, arXiv 2307.08691); disentangled attention of
// DeBERTa (He et al. 2021, arXiv 2006.03654); dropout ADR 0016; packed rows ADR 0020.
//
// Tiles are 64 x 64. A block has eight warps: warp w has 16 rows of a tile, w % 4, and half of its columns, w / 4.
// Tiles are copied to shared memory asynchronously. A sheared matrix (a score's distance is the difference of its row
// and column) is read as it lies and never written out.

#include "attention_traits.h"
#include "philox.cuh"
#include "values.cuh"

const int THREADS = attention_traits::THREADS, TILE = attention_traits::TILE, HALF = attention_traits::HALF;
const int BAND = attention_traits::BAND, DISTANCES = attention_traits::DISTANCES, MARGIN = attention_traits::MARGIN;
const int PITCH = attention_traits::pitch(HEAD), SQUARE_PITCH = attention_traits::SQUARE_PITCH;
const int BAND_PITCH = attention_traits::BAND_PITCH, MARGIN_PITCH = attention_traits::MARGIN_PITCH;
// Blocks that a processor holds at once. Narrow heads need fewer registers, and their blocks mostly wait for memory.
const int BLOCKS_PER_PROCESSOR = HEAD <= 32 ? 3 : 2;
// Where the scores' gradient is read along distances: rows of DISTANCES columns, from the aligned one before.
const int WINDOW_PITCH = attention_traits::WINDOW_PITCH;
const float LOG2E = 1.4426950408889634f;
#define INFINITE __int_as_float(0x7f800000)

// Where things lie.
struct Shape : AttentionParams {
  __device__ long width() const { return static_cast<long>(heads) * HEAD; }
  __device__ long projected_pitch() const { return 3 * width(); }
  // Tokens of a batch row; the first of them, the first of a run's distances, and the first token of a row of out.
  __device__ int length_of(int row) const { return cu_seqlens ? cu_seqlens[row + 1] - cu_seqlens[row] : length; }
  __device__ long content(int row) const {
    return cu_seqlens ? cu_seqlens[row] : run_at(row / rows) + row % rows * length;
  }
  __device__ long distances(int run) const {
    return cu_seqlens ? content_tokens + 2L * length * run : run_at(run) + static_cast<long>(rows) * length;
  }
  __device__ long out(int row) const { return cu_seqlens ? cu_seqlens[row] : static_cast<long>(row) * length; }
  __device__ long run_at(int run) const {
    return static_cast<long>(run) * (rows * length + (has_positions ? 2 * length : 0));
  }
  __device__ int scores_pitch() const { return attention_traits::aligned(length); }
};

// acc += A B for one warp: A is 16 x 16 KS, B is 16 KS x 8 NT. A lies as [m][k], or [k][m] where it is transposed; B as
// [n][k], or [k][n] where it is transposed.
template <int NT, int KS, bool A_TRANSPOSED, bool B_TRANSPOSED>
__device__ void product(float (&acc)[NT][4], const T* a, int a_pitch, const T* b, int b_pitch) {
  int lane = threadIdx.x % 32, matrix_row = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < KS * 16; k += 16) {
    unsigned fa[4];
    if (A_TRANSPOSED) ldmatrix_trans(fa, a + (k + matrix_row + high) * a_pitch + low);
    else ldmatrix(fa, a + (matrix_row + low) * a_pitch + k + high);
#pragma unroll
    for (int n = 0; n < NT; n += 2) {
      unsigned fb[4];
      if (B_TRANSPOSED) ldmatrix_trans(fb, b + (k + matrix_row + low) * b_pitch + n * 8 + high);
      else ldmatrix(fb, b + (n * 8 + matrix_row + high) * b_pitch + k + low);
      mma_m16n8k16(acc[n], fa, fb[0], fb[1]);
      mma_m16n8k16(acc[n + 1], fa, fb[2], fb[3]);
    }
  }
}

// acc += A B for one warp, where A[m][k] lies at a[m M_STEP + k K_STEP], and B as [k][n].
template <int NT, int KS, int M_STEP, int K_STEP>
__device__ void sheared_product(float (&acc)[NT][4], const T* a, const T* b, int b_pitch) {
  int lane = threadIdx.x % 32, matrix_row = lane % 16, high = lane / 16 * 8;
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
      ldmatrix_trans(fb, b + (k + matrix_row) * b_pitch + n * 8 + high);
      mma_m16n8k16(acc[n], fa, fb[0], fb[1]);
      mma_m16n8k16(acc[n + 1], fa, fb[2], fb[3]);
    }
  }
}

__device__ int row_of_warp() { return threadIdx.x / 32 % 4 * 16; }
__device__ int half_of_warp() { return threadIdx.x / 128; }

// Tokens of a row from a tile's first query and first key on. A warp whose part of the tile has none computes nothing:
// rows of short tasks end early in a tile.
struct TilePart {
  int queries, keys;
  __device__ bool has_queries() const { return row_of_warp() < queries; }
  __device__ bool has_keys() const { return row_of_warp() < keys; }
  __device__ bool has_scores() const { return has_queries() && half_of_warp() * HALF < keys; }
};

// Row and column of a lane's value e of an accumulator: rows lane / 4 and 8 below, columns 8 n + 2 (lane % 4) and the
// next, after those of the warps with the first half.
__device__ int row_of(int e) { return row_of_warp() + threadIdx.x % 32 / 4 + e / 2 * 8; }
__device__ int column_of(int n, int e, int half = HALF) {
  return half_of_warp() * half + n * 8 + threadIdx.x % 4 * 2 + e % 2;
}

// Waits until every thread's copies of all groups but the last LEFT have wait_for_copies.
template <int LEFT = 0>
__device__ void wait_for_copies() {
  cp_async_wait_group<LEFT>();
  __syncthreads();
}

// Copies a tile of ROWS rows and COLUMNS columns of `from`, from row `first` and column `column` on. What lies outside
// its `rows` and `columns` is zero.
template <int ROWS, int COLUMNS, int PITCH_TO>
__device__ void fetch(T* to, const T* from, long pitch, int first, int rows, int column, int columns) {
  const int BLOCKS = COLUMNS / 8, STEP = THREADS / BLOCKS;
  int row = threadIdx.x / BLOCKS, offset = threadIdx.x % BLOCKS * 8;
  bool has_column = static_cast<unsigned>(column + offset) < static_cast<unsigned>(columns);
  const T* source = from + (first + row) * pitch + column + offset;
#pragma unroll
  for (int k = 0; k < (ROWS + STEP - 1) / STEP; ++k, row += STEP, source += STEP * pitch) {
    if (ROWS % STEP != 0 && row >= ROWS) break;
    bool is_inside = has_column && static_cast<unsigned>(first + row) < static_cast<unsigned>(rows);
    cp_async_16(to + row * PITCH_TO + offset, source, is_inside);
  }
}

// Copies ROWS rows of a head.
template <int ROWS>
__device__ void fetch(T* to, const T* from, long pitch, int first, int rows) {
  fetch<ROWS, HEAD, PITCH>(to, from, pitch, first, rows, 0, HEAD);
}

// Scores of a tile, before scale and mask. The 16 queries of warp row w and the tile's keys are at distances within a
// band of 80, which begins at 16 w; for the 16 keys of w it begins at 48 - 16 w. Half of the other side needs 48 of
// them, and some are computed by both warps of w.
const int BAND_PART = 48;

struct Positions {
  const T *pq, *pk;  // null without positions
  T *content, *position;
};

__device__ void scores(
    float (&s)[HALF / 8][4], const T* q, const T* k, const Positions& positions, const TilePart& part) {
  int warp_row = row_of_warp(), half = half_of_warp() * HALF;
#pragma unroll
  for (int n = 0; n < HALF / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[n][e] = 0.0f;
  if (part.has_scores())
    product<HALF / 8, HEAD / 16, false, false>(s, q + warp_row * PITCH, PITCH, k + half * PITCH, PITCH);
  if (!positions.pk) return;
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    // Scores of a half are read beyond the last key, too.
    if (!(which ? warp_row / HALF * HALF < part.keys : part.has_queries())) continue;
    float band[BAND_PART / 8][4] = {};
    // Later keys are nearer to the band's beginning, later queries to its end.
    int begin = which ? half : HALF - half;
    const T* distances =
        which ? positions.pq + (TILE - 16 - warp_row + begin) * PITCH : positions.pk + (warp_row + begin) * PITCH;
    product<BAND_PART / 8, HEAD / 16, false, false>(band, (which ? k : q) + warp_row * PITCH, PITCH, distances, PITCH);
    T* to = which ? positions.position : positions.content;
#pragma unroll
    for (int n = 0; n < BAND_PART / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        unsigned* place = reinterpret_cast<unsigned*>(to + row_of(e) * BAND_PITCH + begin + column_of(n, e, 0));
        *place = cvt_bf16x2(band[n][e], band[n][e + 1]);
      }
    }
  }
  __syncthreads();
  if (!part.has_scores()) return;
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

// Writes the lane's values for columns n of a tile.
__device__ void keep_square(T* square, const float (&values)[4], int n) {
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    unsigned* place = reinterpret_cast<unsigned*>(square + row_of(e) * SQUARE_PITCH + column_of(n, e));
    *place = cvt_bf16x2(values[e], values[e + 1]);
  }
}

// Whether dropout keeps the lane's values of a tile: for its two rows, bit 2 n + e for value e of columns n. The four
// lanes of a row draw a group of eight each and share the bits.
__device__ void kept_bits(unsigned (&kept)[2], const DropoutParams& dropout, const Shape& shape, int i0, int j0) {
  int lane = threadIdx.x % 32, mine = lane % 4, run = blockIdx.z / shape.rows;
  unsigned row = (blockIdx.z % shape.rows + first_row(dropout, run)) * shape.heads + blockIdx.y;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    kept[half] = 0;
    unsigned i = i0 + row_of(half * 2);
    uint4 bits =
        bits_of_group(dropout, run, row, i * dropout_traits::WEIGHTS_PITCH + (j0 + half_of_warp() * HALF) / 8 + mine);
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      int from = lane - mine + m;
      unsigned x = __shfl_sync(0xffffffffu, bits.x, from), y = __shfl_sync(0xffffffffu, bits.y, from);
      unsigned z = __shfl_sync(0xffffffffu, bits.z, from), w = __shfl_sync(0xffffffffu, bits.w, from);
      unsigned word = mine == 0 ? x : mine == 1 ? y : mine == 2 ? z : w;
      kept[half] |= ((word & 0xffff) >= dropout.threshold) << (2 * m);
      kept[half] |= ((word >> 16) >= dropout.threshold) << (2 * m + 1);
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

// Reads what is added to the scores of a tile's keys; minus infinity beyond the row.
__device__ void fetch_mask(float (&to)[TILE], const T* mask, int row, int j0, int length) {
  int j = j0 + threadIdx.x;
  if (threadIdx.x >= TILE) return;
  float inside = mask && j < length ? widened(mask[static_cast<long>(row) * length + j]) : 0.0f;
  to[threadIdx.x] = j < length ? inside : -INFINITE;
}

// Zeroes a head's columns of tokens that no row has.
__device__ void clear_rest(T* to, long pitch, const Shape& shape, int row, int head) {
  for (int token = shape.cu_seqlens[row] + blockIdx.x * THREADS + threadIdx.x; token < shape.content_tokens;
       token += gridDim.x * THREADS) {
    for (int c = 0; c < HEAD; c += 8)
      *reinterpret_cast<uint4*>(to + token * pitch + head * HEAD + c) = make_uint4(0, 0, 0, 0);
  }
}

// Writes a warp's rows and columns of an accumulator.
__device__ void store(T* to, const float (&acc)[HEAD / 16][4], int pitch, int first, int length) {
#pragma unroll
  for (int n = 0; n < HEAD / 16; ++n) {
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      int token = first + row_of(e);
      unsigned* place = reinterpret_cast<unsigned*>(to + static_cast<long>(token) * pitch + column_of(n, e, HEAD / 2));
      if (token < length) *place = cvt_bf16x2(acc[n][e], acc[n][e + 1]);
    }
  }
}

extern __shared__ uint4 shared[];

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_PROCESSOR) attention_forward(
    const T* projected, const T* mask, T* out, float* log_sum, DropoutParams dropout, Shape shape) {
  T *qs = reinterpret_cast<T*>(shared), *ks = qs + TILE * PITCH, *vs = ks + TILE * PITCH;
  T *pqs = vs + TILE * PITCH, *pks = pqs + DISTANCES * PITCH;
  T *content = shape.has_positions ? pks + DISTANCES * PITCH : pqs, *position = content + TILE * BAND_PITCH;
  int i0 = blockIdx.x * TILE, head = blockIdx.y, row = blockIdx.z, warp_row = row_of_warp();
  // Where there are cu_seqlens, the grid has blocks for the tokens after the last row.
  if (shape.cu_seqlens && row == gridDim.z - 1) return clear_rest(out, shape.out_pitch, shape, row, head);
  int length = shape.length_of(row);
  if (i0 >= length) return;
  long width = shape.width(), token_pitch = shape.projected_pitch();
  const T *q = projected + shape.content(row) * token_pitch + head * HEAD;
  const T *pq = projected + shape.distances(row / shape.rows) * token_pitch + head * HEAD;
  // Replaces the content terms once those have been read.
  T* weights = content;
  __shared__ float exchanged[2][TILE], masked[TILE];
  int column = half_of_warp() * (HEAD / 2);
  auto fetch_keys = [&](int j0) {
    if (j0 < length) {
      fetch<TILE>(ks, q + width, token_pitch, j0, length);
      if (shape.has_positions) {
        int first = i0 - j0 - TILE + shape.length;
        fetch<DISTANCES>(pqs, pq, token_pitch, first, 2 * shape.length);
        fetch<DISTANCES>(pks, pq + width, token_pitch, first, 2 * shape.length);
      }
    }
    cp_async_commit_group();
  };
  auto fetch_values = [&](int j0) {
    if (j0 < length) fetch<TILE>(vs, q + 2 * width, token_pitch, j0, length);
    cp_async_commit_group();
  };
  fetch<TILE>(qs, q, token_pitch, i0, length);
  fetch_keys(0);
  fetch_values(0);
  float highest[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f}, o[HEAD / 16][4] = {};
  for (int j0 = 0; j0 < length; j0 += TILE) {
    fetch_mask(masked, mask, row, j0, length);
    wait_for_copies<1>();
    float s[HALF / 8][4];
    TilePart part{length - i0, length - j0};
    scores(s, qs, ks, {pqs, shape.has_positions ? pks : nullptr, content, position}, part);
    float now[2] = {highest[0], highest[1]};
    unsigned kept[2];
    if (part.has_scores()) {
#pragma unroll
      for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[n][e] = s[n][e] * shape.scale + masked[column_of(n, e)];
          now[e / 2] = fmaxf(now[e / 2], s[n][e]);
        }
      }
    }
    // Drawn by warps without scores, too: as a part of the branch it would cost registers that the kernel does not have.
    kept_bits(kept, dropout, shape, i0, j0);
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
    if (part.has_scores()) {
#pragma unroll
      for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float weight = exp2f((s[n][e] - now[e / 2]) * LOG2E);
          sum[e / 2] += weight;
          s[n][e] = kept[e / 2] >> (2 * n + e % 2) & 1 ? weight : 0.0f;
        }
      }
    }
#pragma unroll
    for (int n = 0; n < HALF / 8; ++n) keep_square(weights, s[n], n);
#pragma unroll
    for (int n = 0; n < HEAD / 16; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] *= shrink[e / 2];
    wait_for_copies<1>();
    if (part.has_queries())
      product<HEAD / 16, TILE / 16, false, true>(o, weights + warp_row * SQUARE_PITCH, SQUARE_PITCH, vs + column, PITCH);
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
    for (int e = 0; e < 4; ++e) o[n][e] *= dropout.scale / sum[e / 2];
  store(to, o, shape.out_pitch, i0, length);
}

// Gradients of k and v, and of the scores before their scale, dscores [runs * rows, heads, length, aligned(length)]. A
// block has a tile of keys and goes through the queries.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_PROCESSOR) attention_backward_keys(
    const T* projected, const T* mask, const T* out, const T* grad, const float* log_sum, T* d_projected, T* dscores,
    DropoutParams dropout, Shape shape) {
  T *qs = reinterpret_cast<T*>(shared), *ks = qs + TILE * PITCH, *vs = ks + TILE * PITCH, *gs = vs + TILE * PITCH;
  T *pqs = gs + TILE * PITCH, *pks = pqs + DISTANCES * PITCH;
  // The position terms. Once those have been read, the weights and the scores' gradient replace them.
  T *content = shape.has_positions ? pks + DISTANCES * PITCH : pqs, *position = content + TILE * BAND_PITCH;
  T *weights = content, *margin = weights + TILE * SQUARE_PITCH, *ds = margin + MARGIN * SQUARE_PITCH;
  int j0 = blockIdx.x * TILE, head = blockIdx.y, row = blockIdx.z, warp_row = row_of_warp();
  long width = shape.width(), token_pitch = shape.projected_pitch();
  if (shape.cu_seqlens && row == gridDim.z - 1) {
    for (int which = 0; which < 3; ++which) clear_rest(d_projected + which * width, shape.grad_pitch, shape, row, head);
    return;
  }
  int length = shape.length_of(row);
  if (j0 >= length) return;
  long first_line = shape.out(row);
  const T *q = projected + shape.content(row) * token_pitch + head * HEAD;
  const T *pq = projected + shape.distances(row / shape.rows) * token_pitch + head * HEAD;
  const T *of_out = out + first_line * shape.out_pitch + head * HEAD,
          *of_grad = grad + first_line * width + head * HEAD;
  long scores_at = (static_cast<long>(row) * shape.heads + head) * shape.length;
  __shared__ float masked[TILE], sums[TILE], deltas[TILE];
  fetch<TILE>(ks, q + width, token_pitch, j0, length);
  fetch<TILE>(vs, q + 2 * width, token_pitch, j0, length);
  fetch_mask(masked, mask, row, j0, length);
  int column = half_of_warp() * (HEAD / 2);
  float k_grad[HEAD / 16][4] = {}, v_grad[HEAD / 16][4] = {};
  for (int i0 = 0; i0 < length; i0 += TILE) {
    fetch<TILE>(qs, q, token_pitch, i0, length);
    if (shape.has_positions) {
      int first = i0 - j0 - TILE + shape.length;
      fetch<DISTANCES>(pqs, pq, token_pitch, first, 2 * shape.length);
      fetch<DISTANCES>(pks, pq + width, token_pitch, first, 2 * shape.length);
    }
    cp_async_commit_group();
    fetch<TILE>(gs, of_grad, width, i0, length);
    cp_async_commit_group();
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
      sums[threadIdx.x / 4] = i < length ? log_sum[scores_at + i] : INFINITE;
    }
    wait_for_copies<1>();
    float s[HALF / 8][4], w_grad[HALF / 8][4] = {};
    TilePart part{length - i0, length - j0};
    scores(s, qs, ks, {pqs, shape.has_positions ? pks : nullptr, content, position}, part);
    unsigned kept[2];
    if (part.has_scores()) kept_bits(kept, dropout, shape, i0, j0);
    wait_for_copies();
    if (part.has_scores()) {
      product<HALF / 8, HEAD / 16, false, false>(w_grad, gs + warp_row * PITCH, PITCH,
                                                 vs + half_of_warp() * HALF * PITCH, PITCH);
#pragma unroll
      for (int n = 0; n < HALF / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          int il = row_of(e), jl = column_of(n, e);
          float weight = exp2f((s[n][e] * shape.scale + masked[jl] - sums[il]) * LOG2E);
          float factor = kept[e / 2] >> (2 * n + e % 2) & 1 ? dropout.scale : 0.0f;
          s[n][e] = factor * weight;
          w_grad[n][e] = weight * (factor * w_grad[n][e] - deltas[il]) * shape.scale;
        }
      }
    }
#pragma unroll
    for (int n = 0; n < HALF / 8; ++n) {
      keep_square(weights, s[n], n);
      keep_square(ds, w_grad[n], n);
    }
    for (int c = threadIdx.x; c < 2 * MARGIN * SQUARE_PITCH / 8; c += THREADS) {
      T* half = c < MARGIN * SQUARE_PITCH / 8 ? margin : margin + TILE * SQUARE_PITCH;
      *reinterpret_cast<uint4*>(half + c * 8) = make_uint4(0, 0, 0, 0);
    }
    __syncthreads();
    for (int c = threadIdx.x; c < TILE * (TILE / 8); c += THREADS) {
      int r = c / (TILE / 8), at = c % (TILE / 8) * 8;
      if (i0 + r < length && j0 + at < shape.scores_pitch()) {
        *reinterpret_cast<uint4*>(dscores + (scores_at + i0 + r) * shape.scores_pitch() + j0 + at) =
            *reinterpret_cast<const uint4*>(ds + r * SQUARE_PITCH + at);
      }
    }
    if (part.has_keys()) {
      product<HEAD / 16, TILE / 16, true, true>(v_grad, weights + warp_row, SQUARE_PITCH, gs + column, PITCH);
      product<HEAD / 16, TILE / 16, true, true>(k_grad, ds + warp_row, SQUARE_PITCH, qs + column, PITCH);
    }
    if (shape.has_positions && part.has_keys()) {
      // The score of key m of sixteen with the query at distance k of their band lies in row k - 15 + m.
      const T *band = ds - 15 * SQUARE_PITCH + warp_row, *distances = pqs + (TILE - 16 - warp_row) * PITCH + column;
      sheared_product<HEAD / 16, BAND / 16, SQUARE_PITCH + 1, SQUARE_PITCH>(k_grad, band, distances, PITCH);
    }
    __syncthreads();
  }
  T* to = d_projected + shape.content(row) * shape.grad_pitch + head * HEAD;
  store(to + width, k_grad, shape.grad_pitch, j0, length);
  store(to + 2 * width, v_grad, shape.grad_pitch, j0, length);
}

// Gradient of q, for one tile of a row's queries.
__device__ void backward_queries(
    const T* projected, const T* dscores, T* d_projected, const Shape& shape, int tile, int head, int row) {
  T *ks = reinterpret_cast<T*>(shared), *ds = ks + TILE * PITCH + MARGIN,
    *pks = ks + TILE * PITCH + TILE * MARGIN_PITCH;
  int i0 = tile * TILE, length = shape.length_of(row), warp_row = row_of_warp();
  if (i0 >= length) return;
  long token_pitch = shape.projected_pitch();
  const T *k = projected + shape.content(row) * token_pitch + head * HEAD + shape.width();
  const T *pk = projected + shape.distances(row / shape.rows) * token_pitch + head * HEAD + shape.width();
  const T* square = dscores + (static_cast<long>(row) * shape.heads + head) * shape.length * shape.scores_pitch();
  int column = half_of_warp() * (HEAD / 2);
  float q_grad[HEAD / 16][4] = {};
  for (int c = threadIdx.x; c < TILE * 2 * MARGIN / 8; c += THREADS) {
    int r = c / (2 * MARGIN / 8), place = c % (2 * MARGIN / 8) * 8;
    T* half = place < MARGIN ? ds - MARGIN : ds + TILE - MARGIN;
    *reinterpret_cast<uint4*>(half + r * MARGIN_PITCH + place) = make_uint4(0, 0, 0, 0);
  }
  for (int j0 = 0; j0 < length; j0 += TILE) {
    fetch<TILE>(ks, k, token_pitch, j0, length);
    fetch<TILE, TILE, MARGIN_PITCH>(ds, square, shape.scores_pitch(), i0, length, j0,
                                    attention_traits::aligned(length));
    cp_async_commit_group();
    if (shape.has_positions) fetch<DISTANCES>(pks, pk, token_pitch, i0 - j0 - TILE + shape.length, 2 * shape.length);
    cp_async_commit_group();
    wait_for_copies<1>();
    bool has_queries = TilePart{length - i0, length - j0}.has_queries();
    if (has_queries)
      product<HEAD / 16, TILE / 16, false, true>(q_grad, ds + warp_row * MARGIN_PITCH, MARGIN_PITCH, ks + column, PITCH);
    wait_for_copies();
    if (shape.has_positions && has_queries) {
      // The score of query m of sixteen with the key at distance k of their band lies in column m + TILE - 1 - k.
      const T *band = ds + warp_row * MARGIN_PITCH + TILE - 1, *distances = pks + warp_row * PITCH + column;
      sheared_product<HEAD / 16, BAND / 16, MARGIN_PITCH + 1, -1>(q_grad, band, distances, PITCH);
    }
    __syncthreads();
  }
  T* to = d_projected + shape.content(row) * shape.grad_pitch + head * HEAD;
  store(to, q_grad, shape.grad_pitch, i0, length);
}

// Gradient of pq or pk, for one tile of distances and one chunk of a run's rows. Tokens x are keys for pq and queries
// for pk; those of the other side that are at one of these distances from a tile of x begin at first(x).
template <bool IS_QUERY>
__device__ void backward_positions(
    const T* projected, const T* dscores, const RowChunks& chunks, const Shape& shape, int tile, int head, int chunk) {
  const attention_traits::SharedMemory memory{HEAD, true};
  const int STAGE = IS_QUERY ? memory.stage_of_pq() : memory.stage_of_pk();
  T* stages = reinterpret_cast<T*>(shared);
  int t0 = tile * TILE, length = shape.length, warp_row = row_of_warp();
  int run = chunk / chunks.count, part = chunk % chunks.count, column = half_of_warp() * (HEAD / 2);
  long token_pitch = shape.projected_pitch();
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
      const T* x = projected + shape.content(row) * token_pitch + head * HEAD + (IS_QUERY ? shape.width() : 0);
      const T* square = dscores + (static_cast<long>(row) * shape.heads + head) * length * shape.scores_pitch();
      T* window = xs + TILE * PITCH;
      fetch<TILE>(xs, x, token_pitch, x0, of_row);
      if (IS_QUERY) {
        fetch<DISTANCES, TILE, SQUARE_PITCH>(window, square, shape.scores_pitch(), first(x0), of_row, x0,
                                             attention_traits::aligned(of_row));
      } else {
        int aligned = first(x0) & ~7;
        fetch<TILE, DISTANCES, WINDOW_PITCH>(window, square, shape.scores_pitch(), x0, of_row, aligned,
                                             attention_traits::aligned(of_row));
        fetch<TILE, 8, WINDOW_PITCH>(window + DISTANCES, square, shape.scores_pitch(), x0, of_row, aligned + DISTANCES,
                                     attention_traits::aligned(of_row));
      }
    }
    cp_async_commit_group();
  };
  float acc[HEAD / 16][4] = {};
  advance();
  fetch_stage(stages);
  for (int stage = 0; b < end; stage ^= 1) {
    int lead = first(x0) & 7;
    advance();
    fetch_stage(stages + (stage ^ 1) * STAGE);
    wait_for_copies<1>();
    const T *xs = stages + stage * STAGE + column, *window = stages + stage * STAGE + TILE * PITCH;
    // The score of token k at distance m is in row k + m and column k for pq, in row k and column k - m + TILE - 1 for
    // pk.
    if (IS_QUERY) {
      const T* a = window + warp_row * SQUARE_PITCH;
      sheared_product<HEAD / 16, TILE / 16, SQUARE_PITCH, SQUARE_PITCH + 1>(acc, a, xs, PITCH);
    } else {
      const T* a = window + lead + TILE - 1 - warp_row;
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

// Gradients that are sums of the scores' gradient: of pq and pk in the first blocks, which take longer, then of q.
extern "C" __global__ void __launch_bounds__(THREADS, 3) attention_backward_queries(
    const T* projected, const T* dscores, T* d_projected, RowChunks chunks, Shape shape) {
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

// Sums the chunks to the gradient of a run's distances. That of their values is zero. A block a distance and run.
extern "C" __global__ void attention_backward_distances(T* d_projected, RowChunks chunks, Shape shape) {
  int distance = blockIdx.x, run = blockIdx.y;
  long width = shape.width(), row = 2 * width, all = row * 2 * shape.length;
  T* to = d_projected + (shape.distances(run) + distance) * shape.grad_pitch;
  for (int column = threadIdx.x * 4; column < 3 * width; column += blockDim.x * 4) {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int chunk = 0; column < row && chunk < chunks.count; ++chunk) {
      const float* from =
          chunks.partial + (static_cast<long>(chunk) * chunks.runs + run) * all + distance * row + column;
      float4 part = *reinterpret_cast<const float4*>(from);
      sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    *reinterpret_cast<uint2*>(to + column) = make_uint2(cvt_bf16x2(sum.x, sum.y), cvt_bf16x2(sum.z, sum.w));
  }
}
