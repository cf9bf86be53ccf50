// What every low-rank branch does, for one run or for several side by side.
#pragma once

#include <ATen/Functions.h>

#include "autograd.h"

namespace {
// x as the stack of its runs where there are several: [runs, rows, width].
at::Tensor stacked(const at::Tensor& x, const at::Tensor& a) {
  return a.dim() == 3 ? x.view({a.size(0), -1, x.size(-1)}) : x;
}

// y += left right, for one run's matrices or a stack of them.
void add_product(at::Tensor& y, const at::Tensor& left, const at::Tensor& right) {
  if (left.dim() == 3) {
    y.view({left.size(0), left.size(1), right.size(2)}).baddbmm_(left, right);
  } else {
    y.addmm_(left, right);
  }
}
}  // namespace
