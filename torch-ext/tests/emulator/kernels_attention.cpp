// Attention's kernels for heads of HEAD values.
#include "cuda_on_cpu.h"

#define BF16
#define TEXT_OF(value) #value
#define VARIANT_OF(head) TEXT_OF(head)
#define attention_forward OWN_NAME(attention_forward_, HEAD)
#define attention_backward_keys OWN_NAME(attention_backward_keys_, HEAD)
#define attention_backward_queries OWN_NAME(attention_backward_queries_, HEAD)
#define attention_backward_distances OWN_NAME(attention_backward_distances_, HEAD)

namespace {
#include "../../kernels/attention.cu"

thread_local uint4 shared[emulator::SHARED_BYTES / sizeof(uint4)];
void* shared_memory() { return shared; }

REGISTER(attention_forward, VARIANT_OF(HEAD), shared_memory);
REGISTER(attention_backward_keys, VARIANT_OF(HEAD), shared_memory);
REGISTER(attention_backward_queries, VARIANT_OF(HEAD), shared_memory);
REGISTER(attention_backward_distances, VARIANT_OF(HEAD), shared_memory);
}  // namespace
