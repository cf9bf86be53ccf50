// Blocks U and A of the augmented weights [W U; A .] of a layer's four linears, for host and device (ADR 0018).
#pragma once

// A matrix [rows, columns] and its place in an augmented weight, whose rows are `pitch` values apart.
struct BranchBlock {
  const void* from;
  void* to;
  int rows, columns, pitch;
};

struct BranchBlocks {
  BranchBlock of[4];
};
