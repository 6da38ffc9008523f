// Attention and its gradient as graphs of cuDNN.
#include "attention_graphs.h"

#include <limits>
#include <sstream>
#include <utility>

namespace ithaca::cuda {
namespace {

using dnn::Graph;
using dnn::Sizes;
using dnn::Tensor;

// Finite, so that a row in which everything is masked gives no NaN.
constexpr float kMasked = std::numeric_limits<float>::lowest();

std::string describe(const char* name, const AttentionShape& s) {
  std::ostringstream text;
  text << name << " of bf16[" << s.batch << ", " << s.sequence_q << ", " << s.heads << ", " << s.head_dim << "] by ["
       << s.batch << ", " << s.sequence_kv << ", " << s.kv_heads << ", " << s.head_dim << ']';
  if (s.causal) text << ", causal";
  if (s.window > 0) text << ", window " << s.window;
  return text.str();
}

// cuDNN names dimensions [batch, heads, sequence, head_dim]; in memory the sequence comes before the heads.
Sizes sizes_of(std::int64_t batch, std::int64_t sequence, std::int64_t heads, std::int64_t width) {
  return {batch, heads, sequence, width};
}
Sizes strides_of(std::int64_t sequence, std::int64_t heads, std::int64_t width) {
  return {sequence * heads * width, width, heads * width, 1};
}
Sizes transposed(const Sizes& sizes) { return {sizes[0], sizes[1], sizes[3], sizes[2]}; }

// What both directions build from: sizes and strides of queries, keys, scores and rows.
struct Layout {
  Sizes query, query_strides, key, key_strides, scores, rows;

  // `s` has some heads of tensors that have those of `whole`.
  Layout(const AttentionShape& s, const AttentionShape& whole)
      : query(sizes_of(s.batch, s.sequence_q, s.heads, s.head_dim)),
        query_strides(strides_of(s.sequence_q, whole.heads, s.head_dim)),
        key(sizes_of(s.batch, s.sequence_kv, s.kv_heads, s.head_dim)),
        key_strides(strides_of(s.sequence_kv, whole.kv_heads, s.head_dim)),
        scores{s.batch, s.heads, s.sequence_q, s.sequence_kv},
        rows{s.batch, s.heads, s.sequence_q, 1} {}
};

// cuDNN recognises these steps by their order and types: the causal mask compares integers, the window floats. Behind
// the causal mask, a query sees a key of its own document if it stands before that document's end.
Tensor masked(Graph& graph, const AttentionShape& s, const Layout& layout, std::optional<Tensor> ends, Tensor scores) {
  if (s.causal) {
    const Tensor row = graph.intermediate(layout.scores, CUDNN_DATA_INT32);
    const Tensor column = graph.intermediate(layout.scores, CUDNN_DATA_INT32);
    const Tensor visible = graph.intermediate(layout.scores, CUDNN_DATA_BOOLEAN);
    const Tensor out = graph.intermediate(layout.scores, CUDNN_DATA_FLOAT);
    graph.index(scores, 2, row);
    graph.index(scores, 3, column);
    graph.pointwise(CUDNN_POINTWISE_CMP_GE, row, column, visible, CUDNN_DATA_BOOLEAN);
    graph.select(scores, graph.scalar(kMasked), visible, out);
    scores = out;
  }
  if (ends) {
    const Tensor row = graph.intermediate(layout.scores, CUDNN_DATA_INT32);
    const Tensor visible = graph.intermediate(layout.scores, CUDNN_DATA_BOOLEAN);
    const Tensor out = graph.intermediate(layout.scores, CUDNN_DATA_FLOAT);
    graph.index(scores, 2, row);
    graph.pointwise(CUDNN_POINTWISE_CMP_LT, row, *ends, visible, CUDNN_DATA_BOOLEAN);
    graph.select(scores, graph.scalar(kMasked), visible, out);
    scores = out;
  }
  if (s.window > 0) {
    const Tensor row = graph.intermediate(layout.scores, CUDNN_DATA_FLOAT);
    const Tensor column = graph.intermediate(layout.scores, CUDNN_DATA_FLOAT);
    const Tensor end = graph.intermediate(layout.scores, CUDNN_DATA_FLOAT);
    const Tensor visible = graph.intermediate(layout.scores, CUDNN_DATA_BOOLEAN);
    const Tensor out = graph.intermediate(layout.scores, CUDNN_DATA_FLOAT);
    graph.index(scores, 2, row);
    graph.index(scores, 3, column);
    graph.pointwise(CUDNN_POINTWISE_ADD, column, graph.scalar(static_cast<float>(s.window)), end);
    graph.pointwise(CUDNN_POINTWISE_CMP_GT, end, row, visible, CUDNN_DATA_BOOLEAN);
    graph.select(scores, graph.scalar(kMasked), visible, out);
    scores = out;
  }
  return scores;
}

std::optional<Tensor> ends_of(Graph& graph, const AttentionShape& s, bool packed) {
  if (!packed) return std::nullopt;
  const Sizes sizes{s.batch, 1, 1, s.sequence_kv};
  return graph.tensor(sizes, dnn::packed(sizes), CUDNN_DATA_INT32);
}

}  // namespace

AttentionGraph attention_graph(const AttentionShape& s, bool packed, const dnn::Target& target,
                               std::size_t workspace_limit) {
  Graph graph(describe("attention", s));
  const Layout layout(s, s);
  const auto scores = [&] { return graph.intermediate(layout.scores, CUDNN_DATA_FLOAT); };
  const auto row = [&] { return graph.intermediate(layout.rows, CUDNN_DATA_FLOAT); };

  const Tensor q = graph.tensor(layout.query, layout.query_strides, CUDNN_DATA_BFLOAT16);
  const Tensor k = graph.tensor(transposed(layout.key), transposed(layout.key_strides), CUDNN_DATA_BFLOAT16);
  const Tensor v = graph.tensor(layout.key, layout.key_strides, CUDNN_DATA_BFLOAT16);
  const Tensor out = graph.tensor(layout.query, layout.query_strides, CUDNN_DATA_BFLOAT16);
  const Tensor stats = graph.tensor(layout.rows, dnn::packed(layout.rows), CUDNN_DATA_FLOAT);

  const Tensor product = scores(), scaled = scores();
  graph.matmul(q, k, product);
  graph.pointwise(CUDNN_POINTWISE_MUL, product, graph.scalar(s.scale), scaled);
  const std::optional<Tensor> ends = ends_of(graph, s, packed);
  const Tensor visible = masked(graph, s, layout, ends, scaled);

  const Tensor highest = row(), shifted = scores(), exponential = scores(), sum = row(), log_sum = row();
  const Tensor weights = graph.intermediate(layout.scores, CUDNN_DATA_BFLOAT16);
  graph.reduce(CUDNN_REDUCE_TENSOR_MAX, visible, highest);
  graph.pointwise(CUDNN_POINTWISE_SUB, visible, highest, shifted);
  graph.pointwise(CUDNN_POINTWISE_EXP, shifted, {}, exponential);
  graph.reduce(CUDNN_REDUCE_TENSOR_ADD, exponential, sum);
  graph.pointwise(CUDNN_POINTWISE_LOG, sum, {}, log_sum);
  graph.pointwise(CUDNN_POINTWISE_ADD, highest, log_sum, stats);
  graph.pointwise(CUDNN_POINTWISE_DIV, exponential, sum, weights);
  graph.matmul(weights, v, out);
  return {q, k, v, out, stats, ends, std::move(graph).plan(target, workspace_limit)};
}

AttentionGradGraph attention_grad_graph(const AttentionShape& s, const AttentionShape& whole, bool packed,
                                        const dnn::Target& target, std::size_t workspace_limit) {
  Graph graph(describe("attention_grad", s));
  const Layout layout(s, whole);
  const auto scores = [&] { return graph.intermediate(layout.scores, CUDNN_DATA_FLOAT); };

  const Tensor q = graph.tensor(layout.query, layout.query_strides, CUDNN_DATA_BFLOAT16);
  const Tensor k = graph.tensor(transposed(layout.key), transposed(layout.key_strides), CUDNN_DATA_BFLOAT16);
  const Tensor v = graph.tensor(transposed(layout.key), transposed(layout.key_strides), CUDNN_DATA_BFLOAT16);
  const Tensor out = graph.tensor(layout.query, layout.query_strides, CUDNN_DATA_BFLOAT16);
  const Tensor stats = graph.tensor(layout.rows, dnn::packed(layout.rows), CUDNN_DATA_FLOAT);
  const Tensor d_out = graph.tensor(layout.query, layout.query_strides, CUDNN_DATA_BFLOAT16);
  const Tensor dq = graph.tensor(layout.query, layout.query_strides, CUDNN_DATA_BFLOAT16);
  const Tensor dk = graph.tensor(layout.key, layout.key_strides, CUDNN_DATA_BFLOAT16);
  const Tensor dv = graph.tensor(layout.key, layout.key_strides, CUDNN_DATA_BFLOAT16);
  const Tensor dq_sum = graph.tensor(layout.query, dnn::packed(layout.query), CUDNN_DATA_FLOAT);
  const Tensor out_sums = graph.tensor(layout.rows, dnn::packed(layout.rows), CUDNN_DATA_FLOAT);

  // A product per query head, summed over the query heads of each key head where there are several.
  const auto gradient = [&](Tensor left, Tensor right, Tensor to) {
    if (s.heads == s.kv_heads) return graph.matmul(left, right, to);
    const Tensor each =
        graph.intermediate(sizes_of(s.batch, s.sequence_kv, s.heads, s.head_dim), CUDNN_DATA_BFLOAT16);
    graph.matmul(left, right, each);
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, each, to);
  };
  // The columns of the scores become rows.
  const auto turned = [&](Tensor x) {
    const Sizes sizes = layout.scores;
    const Tensor to = graph.intermediate(transposed(sizes), CUDNN_DATA_BFLOAT16, transposed(dnn::packed(sizes)));
    graph.reshape(x, to);
    return to;
  };

  const Tensor products = graph.intermediate(layout.query, CUDNN_DATA_FLOAT);
  const Tensor sums = graph.intermediate(layout.rows, CUDNN_DATA_FLOAT);
  graph.pointwise(CUDNN_POINTWISE_MUL, d_out, out, products);
  graph.reduce(CUDNN_REDUCE_TENSOR_ADD, products, sums);
  graph.pointwise(CUDNN_POINTWISE_MUL, sums, graph.scalar(1.0f), out_sums);  // where the pattern has its dropout

  const Tensor scale = graph.scalar(s.scale);
  const Tensor product = scores(), scaled = scores(), shifted = scores(), weights = scores();
  graph.matmul(q, k, product);
  graph.pointwise(CUDNN_POINTWISE_MUL, product, scale, scaled);
  graph.pointwise(CUDNN_POINTWISE_SUB, scaled, stats, shifted);
  const std::optional<Tensor> ends = ends_of(graph, s, packed);
  graph.pointwise(CUDNN_POINTWISE_EXP, masked(graph, s, layout, ends, shifted), {}, weights);
  gradient(turned(weights), d_out, dv);

  const Tensor d_weights = scores(), centred = scores(), d_scaled = scores(), d_scores = scores();
  graph.matmul(d_out, v, d_weights);
  graph.pointwise(CUDNN_POINTWISE_SUB, d_weights, out_sums, centred);
  graph.pointwise(CUDNN_POINTWISE_MUL, centred, weights, d_scaled);
  graph.pointwise(CUDNN_POINTWISE_MUL, d_scaled, scale, d_scores);
  gradient(turned(d_scores), q, dk);

  const Tensor keys = graph.intermediate(layout.key, CUDNN_DATA_BFLOAT16, layout.key_strides);
  graph.reshape(k, keys);
  graph.matmul(d_scores, keys, dq_sum);
  graph.pointwise(CUDNN_POINTWISE_IDENTITY, dq_sum, {}, dq);
  return {q,  k,  v,      out,      stats, d_out,
          dq, dk, dv, dq_sum, out_sums, ends, std::move(graph).plan(target, workspace_limit)};
}

}  // namespace ithaca::cuda
