// Attention's own kernels beside the CPU's: every mask, shared key heads, lengths and widths that fill no tile.
#include "kernel_check.h"
#include "kernels/cpu/attention.h"
#include "kernels/cuda/attention.h"

namespace ithaca::test {
namespace {

struct Case {
  cuda::AttentionShape shape;
  bool documents;
};

cpu::AttentionShape on_cpu(const cuda::AttentionShape& s) {
  return {s.batch,  s.sequence_q, s.sequence_kv, s.heads,   s.kv_heads,    s.head_dim,
          s.causal, s.window,     s.scale,       s.softcap, s.query_offset};
}

std::string name_of(const cuda::AttentionShape& s) {
  std::string name = "attention";
  for (const std::int64_t part : {s.batch, s.sequence_q, s.sequence_kv, s.heads, s.kv_heads, s.head_dim, s.window})
    name += " " + std::to_string(part);
  return name + (s.causal ? " causal" : "") + (s.softcap > 0.0f ? " capped" : "");
}

std::vector<std::int32_t> documents_of(const cuda::AttentionShape& s) {
  std::vector<std::int32_t> segments;
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t i = 0; i < s.sequence_kv; ++i)
      segments.push_back(static_cast<std::int32_t>((b + 3) * i * i / (s.sequence_kv * s.sequence_kv)));
  return segments;
}

// The CPU's bf16 products round probabilities to bf16, twice the error of storing a result.
template <typename T>
void both_ways(const Case& each, std::int64_t aside) {
  const auto& [shape, documents] = each;
  const std::string name = name_of(shape) + " " + type_name<T>();
  const std::int64_t queries = shape.batch * shape.sequence_q * shape.heads;
  const std::int64_t keys = shape.batch * shape.sequence_kv * shape.kv_heads;
  const std::int64_t d = shape.head_dim;
  auto q = Array<T>::noise(queries * d, 1), k = Array<T>::noise(keys * d, 2), v = Array<T>::noise(keys * d, 3);
  auto d_out = Array<T>::noise(queries * d, 4);
  Aside<T> own_q(q, aside), own_k(k, aside), own_v(v, aside), own_d(d_out, aside);
  const std::vector<std::int32_t> ids = documents_of(shape);
  const std::int32_t* segments = documents ? ids.data() : nullptr;
  const DType dtype = dtype_of<T>;

  Array<T> want(queries * d), want_dq(queries * d), want_dk(keys * d), want_dv(keys * d);
  Array<float> want_lse(queries);
  const auto cpu_shape = on_cpu(shape);
  Workspace forward(cpu::attention_workspace_bytes(cpu_shape, 2));
  Workspace backward(cpu::attention_grad_workspace_bytes(cpu_shape, 2, dtype));
  cpu::attention(cpu_shape, q.data(), k.data(), v.data(), segments, want.data(), want_lse.data(), forward.data());
  cpu::attention_grad(cpu_shape, q.data(), k.data(), v.data(), segments, want.data(), want_lse.data(), d_out.data(),
                      want_dq.data(), want_dk.data(), want_dv.data(), backward.data());

  const double tolerance = sizeof(T) == 2 ? 0.02 : 4e-6;
  Array<T> out(queries * d), dq(queries * d), dk(keys * d), dv(keys * d);
  Array<float> lse(queries);
  in_every_order(name,
                 [&] {
                   cuda::plain::attention(shape, own_q.data(), own_k.data(), own_v.data(), segments, out.data(),
                                          lse.data(), nullptr, kNoStream);
                 },
                 out, lse);
  expect_close(out, values_of(want), tolerance, name);
  expect_close(lse, values_of(want_lse), 1e-6, name + " lse");
  in_every_order(name + " gradient",
                 [&] {
                   Workspace workspace(cuda::plain::attention_grad_workspace_bytes(shape));
                   cuda::plain::attention_grad(shape, own_q.data(), own_k.data(), own_v.data(), segments, want.data(),
                                               want_lse.data(), own_d.data(), dq.data(), dk.data(), dv.data(),
                                               workspace.data(), kNoStream);
                 },
                 dq, dk, dv);
  expect_close(dq, values_of(want_dq), tolerance, name + " dq");
  expect_close(dk, values_of(want_dk), tolerance, name + " dk");
  expect_close(dv, values_of(want_dv), tolerance, name + " dv");
}

// A part of the queries, with its place among the keys, gives that part of the result.
void part_of_queries() {
  const cuda::AttentionShape whole{1, 90, 90, 2, 1, 16, true, 33, 0.25f, 0.0f};
  cuda::AttentionShape part = whole;
  part.query_offset = 37;
  part.sequence_q = 40;
  const std::int64_t row = 32;
  auto q = Array<float>::noise(90 * row, 1), k = Array<float>::noise(90 * 16, 2), v = Array<float>::noise(90 * 16, 3);
  auto d_out = Array<float>::noise(90 * row, 4);
  Array<float> out(90 * row), lse(180), part_out(40 * row), part_lse(80);
  Array<float> dq(90 * row), dk(90 * 16), dv(90 * 16), part_dq(40 * row), part_dk(90 * 16), part_dv(90 * 16);
  const std::int32_t* none = nullptr;
  cuda::plain::attention(whole, q.data(), k.data(), v.data(), none, out.data(), lse.data(), nullptr, kNoStream);
  const std::int64_t from = 37 * row;
  cuda::plain::attention(part, q.data() + from, k.data(), v.data(), none, part_out.data(), part_lse.data(), nullptr,
                         kNoStream);
  auto outs = values_of(out), sums = values_of(lse);
  expect_close(part_out, {outs.begin() + from, outs.begin() + from + 40 * row}, 1e-6, "a part of the queries");
  expect_close(part_lse, {sums.begin() + 74, sums.begin() + 154}, 1e-6, "a part of the queries, lse");
  // With no gradient coming in from elsewhere, the part's gradients are the whole's.
  for (std::int64_t i = 0; i < 90 * row; ++i)
    if (i < from || i >= from + 40 * row) d_out[i] = 0.0f;
  Workspace workspace(cuda::plain::attention_grad_workspace_bytes(whole));
  cuda::plain::attention_grad(whole, q.data(), k.data(), v.data(), none, out.data(), lse.data(), d_out.data(), dq.data(),
                              dk.data(), dv.data(), workspace.data(), kNoStream);
  cuda::plain::attention_grad(part, q.data() + from, k.data(), v.data(), none, part_out.data(), part_lse.data(),
                              d_out.data() + from, part_dq.data(), part_dk.data(), part_dv.data(), workspace.data(),
                              kNoStream);
  auto dqs = values_of(dq);
  expect_close(part_dq, {dqs.begin() + from, dqs.begin() + from + 40 * row}, 1e-6, "a part of the queries, dq");
  expect_close(part_dk, values_of(dk), 1e-6, "a part of the queries, dk");
  expect_close(part_dv, values_of(dv), 1e-6, "a part of the queries, dv");
}

// Queries that see nothing give 0 and no gradient; NaN in a visible key comes out.
void edges() {
  cuda::AttentionShape shape{1, 8, 8, 1, 1, 8, true, 0, 0.3f, 0.0f};
  shape.query_offset = -3;
  auto q = Array<float>::noise(64, 1), k = Array<float>::noise(64, 2), v = Array<float>::noise(64, 3);
  Array<float> out(64, NAN), lse(8, NAN), dq(64, NAN), dk(64, NAN), dv(64, NAN);
  const std::int32_t* none = nullptr;
  const auto forward = [&] {
    cuda::plain::attention(shape, q.data(), k.data(), v.data(), none, out.data(), lse.data(), nullptr, kNoStream);
  };
  forward();
  Workspace workspace(cuda::plain::attention_grad_workspace_bytes(shape));
  cuda::plain::attention_grad(shape, q.data(), k.data(), v.data(), none, out.data(), lse.data(), q.data(), dq.data(),
                              dk.data(), dv.data(), workspace.data(), kNoStream);
  for (std::int64_t i = 0; i < 24; ++i) CHECK(out[i] == 0.0f && dq[i] == 0.0f);
  for (std::int64_t i = 0; i < 3; ++i) CHECK(lse[i] == -INFINITY);
  for (std::int64_t i = 40; i < 64; ++i) CHECK(dk[i] == 0.0f && dv[i] == 0.0f);
  CHECK(out[24] == v[0] && !std::isnan(dk[0]));
  k[0] = NAN;
  forward();
  for (std::int64_t i = 24; i < 64; ++i) CHECK(std::isnan(out[i]));
  shape.head_dim = 257;
  expect_error(forward, "257 elements");
}

}  // namespace

void test_attention_kernels() {
  const Case cases[] = {
      {{1, 1, 1, 1, 1, 4, true, 0, 1.0f, 0.0f}, false},
      {{2, 70, 70, 4, 2, 10, true, 0, 0.3f, 0.0f}, true},
      {{1, 131, 131, 3, 1, 64, true, 0, 0.125f, 0.0f}, false},
      {{1, 150, 150, 2, 2, 64, true, 40, 0.125f, 0.0f}, true},
      {{1, 100, 100, 2, 1, 96, false, 0, 0.1f, 0.0f}, true},
      {{1, 66, 129, 2, 2, 16, false, 0, 0.25f, 0.0f}, false},
      {{1, 70, 70, 4, 1, 128, true, 0, 0.09f, 2.0f}, false},
      {{1, 97, 97, 2, 1, 256, true, 30, 0.0625f, 0.0f}, false},
      {{1, 67, 67, 1, 1, 6, true, 5, 0.4f, 0.0f}, false},
      {{2, 50, 150, 2, 1, 16, true, 0, 0.25f, 0.0f, 100}, true},
      {{1, 70, 140, 4, 2, 24, true, 30, 0.2f, 0.0f, 35}, true},
      {{1, 66, 198, 1, 1, 32, false, 0, 0.2f, 0.0f, 0}, true},
  };
  for (const Case& each : cases) {
    both_ways<float>(each, 0);
    both_ways<bf16>(each, 0);
  }
  both_ways<float>(cases[2], 1);
  both_ways<bf16>(cases[2], 1);
  part_of_queries();
  edges();
}

}  // namespace ithaca::test
