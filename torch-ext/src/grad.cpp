// Gradients of tensors that are no leaves.

#include <ATen/core/Tensor.h>

#include "guarded.h"

extern "C" {

int rb_retain_grad(const at::Tensor* tensor) {
  return guarded([=] { tensor->retain_grad(); });
}
}
