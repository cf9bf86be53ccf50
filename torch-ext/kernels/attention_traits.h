// Tile sizes, shared memory and arguments of attention, for host and device.
#pragma once

// Arguments of every attention kernel.
struct AttentionParams {
  int rows, heads, length, has_positions;  // rows of one run, and their length with padding
  int out_pitch, grad_pitch;  // values from token to token of out, and of the gradient of what is projected
  float scale;
  const int* cu_seqlens;  // [runs * rows + 1], or null where rows are padded
  int content_tokens;     // tokens of all runs without those of distances
};

// Chunks of a run's rows, over which gradients of distances are summed: partial sums [count, runs, 2 length, 2 width],
// so that no order of atomic sums decides the last bit.
struct RowChunks {
  float* partial;
  int runs, count, rows;
};

namespace attention_traits {
constexpr int THREADS = 256;
// Queries and keys of a tile of scores; distances between them; distances that 16 queries have to a tile's keys.
constexpr int TILE = 64, HALF = TILE / 2, DISTANCES = 2 * TILE, BAND = 80;
// Zeros around a tile of scores, where a band goes beyond it.
constexpr int MARGIN = 16;
// Every row of a tile in shared memory is padded, against bank conflicts.
constexpr int PADDING = 8;
constexpr int SQUARE_PITCH = TILE + PADDING, BAND_PITCH = BAND + PADDING;
constexpr int MARGIN_PITCH = MARGIN + TILE + MARGIN + PADDING;
constexpr int WINDOW_PITCH = DISTANCES + PADDING;
constexpr int pitch(int head) { return head + PADDING; }

// Values from row to row of the scores' gradient: rows begin aligned.
constexpr int aligned(int length) { return (length + 7) / 8 * 8; }

constexpr long larger(long a, long b) { return a > b ? a : b; }

// Values of two bytes in shared memory.
struct SharedMemory {
  long head;
  bool has_positions;

  constexpr long tile() const { return TILE * pitch(head); }
  constexpr long distances() const { return has_positions ? DISTANCES * pitch(head) : 0; }
  constexpr long square() const { return TILE * SQUARE_PITCH; }
  constexpr long bands() const { return 2 * TILE * BAND_PITCH; }

  // Queries, keys and values; both sides' distances; the position terms, whose first half becomes the weights.
  constexpr long forward() const { return 3 * tile() + 2 * distances() + bands(); }
  // The same and the gradient of out; the position terms become the weights, and the scores' gradient between its
  // margins.
  constexpr long backward_keys() const {
    return 4 * tile() + 2 * distances() + larger(bands(), 2 * square() + 2 * MARGIN * SQUARE_PITCH);
  }
  // Gradient of q: keys, the scores' gradient between its margins, distances.
  constexpr long of_queries() const { return tile() + TILE * MARGIN_PITCH + distances(); }
  // A stage of the gradient of distances: a tile of tokens, and the scores' gradient along queries (for pk) or keys
  // (for pq).
  constexpr long stage_of_pq() const { return tile() + DISTANCES * SQUARE_PITCH; }
  constexpr long stage_of_pk() const { return tile() + TILE * WINDOW_PITCH; }
  constexpr long backward_queries() const {
    return larger(of_queries(), has_positions ? 2 * larger(stage_of_pq(), stage_of_pk()) : 0);
  }
};
constexpr long VALUE_BYTES = 2;
// Cards from Ampere on give a block at least 99 KiB (8.6, 8.9 and 12.0; CUDA programming guide, compute capabilities).
constexpr long SHARED_BYTES = 99 * 1024;
static_assert(VALUE_BYTES * SharedMemory{64, true}.backward_keys() <= SHARED_BYTES, "too much shared memory");
static_assert(VALUE_BYTES * SharedMemory{64, true}.forward() <= SHARED_BYTES, "too much shared memory");
static_assert(VALUE_BYTES * SharedMemory{64, true}.backward_queries() <= SHARED_BYTES, "too much shared memory");
}  // namespace attention_traits
