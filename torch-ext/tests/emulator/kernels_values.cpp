// Kernels that exist in float32 and bfloat16, and those of one of the two.
#include "cuda_on_cpu.h"

#ifdef BF16
#define VARIANT "bf16"
#define SUFFIX _bf16
#else
#define VARIANT "f32"
#define SUFFIX _f32
#endif
#define dropout OWN_NAME(dropout, SUFFIX)
#define norm_forward OWN_NAME(norm_forward, SUFFIX)
#define norm_backward OWN_NAME(norm_backward, SUFFIX)
#define position_bias_forward OWN_NAME(position_bias_forward, SUFFIX)
#define position_bias_backward OWN_NAME(position_bias_backward, SUFFIX)

namespace {
#include "../../kernels/dropout.cu"
#include "../../kernels/norm.cu"
#include "../../kernels/position_bias.cu"

REGISTER(dropout, VARIANT, nullptr);
REGISTER(norm_forward, VARIANT, nullptr);
REGISTER(norm_backward, VARIANT, nullptr);
REGISTER(position_bias_forward, VARIANT, nullptr);
REGISTER(position_bias_backward, VARIANT, nullptr);

#ifdef BF16
#include "../../kernels/branch_gradients.cu"
#include "../../kernels/encoder_layer.cu"

REGISTER(gather_tokens, VARIANT, nullptr);
REGISTER(mask_other_runs, VARIANT, nullptr);
REGISTER(gelu_forward, VARIANT, nullptr);
REGISTER(gelu_backward, VARIANT, nullptr);
REGISTER(write_branches, VARIANT, nullptr);
REGISTER(branch_gradients, VARIANT, nullptr);
#else
#include "../../kernels/adalora.cu"
#include "../../kernels/adamw.cu"
#include "../../kernels/gemm_3xf16.cu"

REGISTER(split_to_f16, VARIANT, nullptr);
REGISTER(unscale, VARIANT, nullptr);
REGISTER(square_sums, VARIANT, nullptr);
REGISTER(clip_factor, VARIANT, nullptr);
REGISTER(adamw, VARIANT, nullptr);
REGISTER(gram_distance_forward, VARIANT, nullptr);
REGISTER(gram_distance_backward, VARIANT, nullptr);
REGISTER(importance, VARIANT, nullptr);
REGISTER(component_scores, VARIANT, nullptr);
#endif
}  // namespace
