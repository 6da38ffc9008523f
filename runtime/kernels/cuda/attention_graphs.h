// Attention and its gradient as graphs of cuDNN: products, a mask from indices, a softmax in steps.
//
// These are the graphs that cuDNN's fused kernels are recognised by (FlashAttention: Dao et al. 2022, Dao 2023).
// Newer versions have one operation for all of it, but on sm_90 that one has no backward.
#pragma once

#include <cstddef>
#include <optional>

#include "attention_shape.h"
#include "dnn_graph.h"

namespace ithaca::cuda {

// q, out: bf16[batch, sequence_q, heads, head_dim]; k, v: bf16[batch, sequence_kv, kv_heads, head_dim];
// stats: f32[batch, heads, sequence_q], the log of the sum of exp(score); ends, where documents are packed:
// i32[batch, sequence_kv], the place behind the document that each key is in.
struct AttentionGraph {
  dnn::Tensor q, k, v, out, stats;
  std::optional<dnn::Tensor> ends;
  dnn::Plan plan;
};

// Besides: dq_sum: f32[batch, heads, sequence_q, head_dim], where dq is summed up; out_sums: f32[batch, heads,
// sequence_q], the sums of out * d_out over head_dim. Both hold nothing before and nothing of use behind.
struct AttentionGradGraph {
  dnn::Tensor q, k, v, out, stats, d_out, dq, dk, dv, dq_sum, out_sums;
  std::optional<dnn::Tensor> ends;
  dnn::Plan plan;
};

// Throws an Error that says why, if cuDNN has no kernel that does with `workspace_limit` bytes.
AttentionGraph attention_graph(const AttentionShape& shape, bool packed, const dnn::Target& target,
                               std::size_t workspace_limit);
// The gradient of some key heads, and the query heads that read them, of tensors that have all heads of `whole`.
AttentionGradGraph attention_grad_graph(const AttentionShape& part, const AttentionShape& whole, bool packed,
                                        const dnn::Target& target, std::size_t workspace_limit);

}  // namespace ithaca::cuda
