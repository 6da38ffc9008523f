// Attention by cuDNN's fused kernels.
#include "attention_cudnn.h"

#include <utility>
#include <vector>

#include "attention_plans.h"
#include "copy.h"
#include "documents.h"
#include "ithaca/error.h"

namespace ithaca::cuda {
namespace {

// Log-sum-exps as cuDNN has them, f32[batch, heads, sequence], into f32[batch, sequence, heads].
void store_rows(const AttentionShape& s, const float* rows, float* lse, cudaStream_t stream) {
  const std::int64_t S = s.sequence_q, H = s.heads;
  const std::int64_t from[] = {H * S, 1, S}, to[] = {S * H, H, 1}, sizes[] = {s.batch, S, H};
  copy_strided(rows, from, lse, to, sizes, 3, sizeof(float), stream);
}

// And the other way, for a part of the heads: `lse` points to the part's first.
void load_rows(const AttentionShape& part, const AttentionShape& whole, const float* lse, float* rows,
               cudaStream_t stream) {
  const std::int64_t S = part.sequence_q;
  const std::int64_t from[] = {S * whole.heads, 1, whole.heads}, to[] = {part.heads * S, S, 1},
                     sizes[] = {part.batch, part.heads, S};
  copy_strided(lse, from, rows, to, sizes, 3, sizeof(float), stream);
}

// What lies in front of a workspace: log-sum-exps by head, and the ends of documents.
struct Front {
  float* stats;
  std::int32_t* ends;
  std::byte* rest;

  Front(const AttentionShape& s, void* workspace)
      : stats(static_cast<float*>(workspace)),
        ends(reinterpret_cast<std::int32_t*>(static_cast<std::byte*>(workspace) + attention_rows_bytes(s))),
        rest(reinterpret_cast<std::byte*>(ends) + attention_ends_bytes(s)) {}
};

// cuDNN reads its inputs by pointers that are not const.
void* input(const void* pointer) { return const_cast<void*>(pointer); }

}  // namespace

AttentionGraph& AttentionPlans::forward(cudnnHandle_t handle, const AttentionShape& shape, bool packed) {
  const auto known = forward_.find({shape, packed});
  if (known != forward_.end()) return known->second;
  const std::size_t limit = attention_library_bytes(shape);
  AttentionGraph graph = attention_graph(shape, packed, dnn::Target(handle), limit);
  return forward_.emplace(Key(shape, packed), std::move(graph)).first->second;
}

AttentionGradGraph& AttentionPlans::backward(cudnnHandle_t handle, const AttentionShape& shape, bool packed) {
  const auto known = backward_.find({shape, packed});
  if (known != backward_.end()) return known->second;
  const AttentionShape part = attention_grad_part(shape);
  const std::size_t limit = attention_grad_library_bytes(part);
  AttentionGradGraph graph = attention_grad_graph(part, shape, packed, dnn::Target(handle), limit);
  return backward_.emplace(Key(shape, packed), std::move(graph)).first->second;
}

void attention(Libraries& libraries, const AttentionShape& s, const bf16* q, const bf16* k, const bf16* v,
               const std::int32_t* segments, bf16* out, float* lse, void* workspace, cudaStream_t stream) {
  cudnnHandle_t handle = libraries.dnn(stream);
  AttentionGraph& graph = libraries.attentions().forward(handle, s, segments != nullptr);
  const Front front(s, workspace);
  std::vector<dnn::Binding> bindings{
      {graph.q, input(q)}, {graph.k, input(k)}, {graph.v, input(v)}, {graph.out, out}, {graph.stats, front.stats}};
  if (graph.ends) {
    document_ends(segments, front.ends, s.batch, s.sequence_kv, stream);
    bindings.push_back({*graph.ends, front.ends});
  }
  graph.plan.run(handle, bindings, front.rest);
  store_rows(s, front.stats, lse, stream);
}

void attention_grad(Libraries& libraries, const AttentionShape& s, const bf16* q, const bf16* k, const bf16* v,
                    const std::int32_t* segments, const bf16* out, const float* lse, const bf16* d_out, bf16* dq,
                    bf16* dk, bf16* dv, void* workspace, cudaStream_t stream) {
  cudnnHandle_t handle = libraries.dnn(stream);
  AttentionGradGraph& graph = libraries.attentions().backward(handle, s, segments != nullptr);
  const AttentionShape part = attention_grad_part(s);
  const Front front(part, workspace);
  std::byte* out_sums = front.rest;
  std::byte* dq_sum = out_sums + attention_rows_bytes(part);
  std::byte* rest = dq_sum + attention_dq_bytes(part);
  for (std::int64_t b = 0; b < s.batch; b += part.batch) {
    if (graph.ends) document_ends(segments + b * s.sequence_kv, front.ends, part.batch, s.sequence_kv, stream);
    for (std::int64_t g = 0; g < s.kv_heads; g += part.kv_heads) {
      const std::int64_t h = g * (s.heads / s.kv_heads);
      const std::int64_t query = (b * s.sequence_q * s.heads + h) * s.head_dim;
      const std::int64_t key = (b * s.sequence_kv * s.kv_heads + g) * s.head_dim;
      std::vector<dnn::Binding> bindings{{graph.q, input(q + query)},
                                         {graph.k, input(k + key)},
                                         {graph.v, input(v + key)},
                                         {graph.out, input(out + query)},
                                         {graph.stats, front.stats},
                                         {graph.d_out, input(d_out + query)},
                                         {graph.dq, dq + query},
                                         {graph.dk, dk + key},
                                         {graph.dv, dv + key},
                                         {graph.dq_sum, dq_sum},
                                         {graph.out_sums, out_sums}};
      if (graph.ends) bindings.push_back({*graph.ends, front.ends});
      load_rows(part, s, lse + b * s.sequence_q * s.heads + h, front.stats, stream);
      graph.plan.run(handle, bindings, rest);
    }
  }
}

}  // namespace ithaca::cuda
