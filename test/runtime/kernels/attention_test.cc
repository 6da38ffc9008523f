// Attention and its gradient against the definition, for masks of every kind.
#include <omp.h>

#include <algorithm>

#include "check.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/bf16_products.h"

namespace ithaca::test {
namespace {

struct Reference {
  std::vector<double> out, lse, dq, dk, dv;
};

template <typename T>
Reference attend(const cpu::AttentionShape& s, const Array<T>& q, const Array<T>& k, const Array<T>& v,
                 const std::vector<std::int32_t>& segments, const Array<T>& d_out) {
  const std::int64_t S = s.sequence_q, N = s.sequence_kv, H = s.heads, G = s.kv_heads, D = s.head_dim;
  Reference r;
  r.out.resize(static_cast<std::size_t>(q.size()));
  r.lse.resize(static_cast<std::size_t>(s.batch * S * H));
  r.dq.resize(static_cast<std::size_t>(q.size()));
  r.dk.resize(static_cast<std::size_t>(k.size()));
  r.dv.resize(static_cast<std::size_t>(v.size()));
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < H; ++h)
      for (std::int64_t i = 0; i < S; ++i) {
        const std::int64_t qi = ((b * S + i) * H + h) * D;
        const auto key = [&](std::int64_t j) { return ((b * N + j) * G + h / (H / G)) * D; };
        double high = -INFINITY, sum = 0.0;
        const std::int64_t at = i + s.query_offset;
        const std::int64_t begin = s.window > 0 ? std::max<std::int64_t>(0, at - s.window + 1) : 0;
        const std::int64_t end = s.causal ? std::min(at + 1, N) : N;
        // Of key begin + n.
        std::vector<double> p(std::size_t(std::max<std::int64_t>(0, end - begin)), -INFINITY), slope(p.size(), 1.0);
        for (std::int64_t j = begin; j < end; ++j) {
          if (!segments.empty() && segments[std::size_t(b * N + at)] != segments[std::size_t(b * N + j)]) continue;
          double score = 0.0;
          for (std::int64_t d = 0; d < D; ++d) score += q.at(qi + d) * k.at(key(j) + d);
          score *= double(s.scale);
          if (s.softcap > 0) {
            const double t = std::tanh(score / double(s.softcap));
            slope[std::size_t(j - begin)] = 1.0 - t * t;
            score = double(s.softcap) * t;
          }
          p[std::size_t(j - begin)] = score;
          high = std::max(high, score);
        }
        for (std::int64_t j = begin; j < end; ++j) {
          double& x = p[std::size_t(j - begin)];
          x = high == -INFINITY ? 0.0 : std::exp(x - high);
          sum += x;
        }
        r.lse[std::size_t((b * S + i) * H + h)] = high + std::log(sum);
        double delta = 0.0;
        for (std::int64_t d = 0; d < D; ++d) {
          double o = 0.0;
          for (std::int64_t j = begin; j < end; ++j)
            if (sum > 0) o += p[std::size_t(j - begin)] / sum * v.at(key(j) + d);
          r.out[std::size_t(qi + d)] = o;
          delta += o * d_out.at(qi + d);
        }
        for (std::int64_t j = begin; j < end; ++j) {
          if (p[std::size_t(j - begin)] == 0.0) continue;
          const double prob = p[std::size_t(j - begin)] / sum;
          double dp = 0.0;
          for (std::int64_t d = 0; d < D; ++d) dp += d_out.at(qi + d) * v.at(key(j) + d);
          const double ds = prob * (dp - delta) * slope[std::size_t(j - begin)] * double(s.scale);
          for (std::int64_t d = 0; d < D; ++d) {
            r.dv[std::size_t(key(j) + d)] += prob * d_out.at(qi + d);
            r.dq[std::size_t(qi + d)] += ds * k.at(key(j) + d);
            r.dk[std::size_t(key(j) + d)] += ds * q.at(qi + d);
          }
        }
      }
  return r;
}

template <typename T>
void compare(const std::string& what, const cpu::AttentionShape& s, bool documents, double tolerance) {
  const std::int64_t queries = s.batch * s.sequence_q * s.heads * s.head_dim;
  const std::int64_t keys = s.batch * s.sequence_kv * s.kv_heads * s.head_dim;
  auto q = Array<T>::noise(queries, 1), k = Array<T>::noise(keys, 2), v = Array<T>::noise(keys, 3);
  auto d_out = Array<T>::noise(queries, 4);
  std::vector<std::int32_t> segments;
  if (documents)
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t i = 0; i < s.sequence_kv; ++i)
        segments.push_back(static_cast<std::int32_t>(i < 3 ? 0 : i * (3 + b) / s.sequence_kv + 1));
  const Reference want = attend(s, q, k, v, segments, d_out);
  const int threads = omp_get_max_threads();
  const std::size_t bytes =
      std::max(cpu::attention_workspace_bytes(s, threads),
               cpu::attention_grad_workspace_bytes(s, threads, dtype_of<T>));
  Array<float> workspace(static_cast<std::int64_t>(bytes / 4), NAN);
  Array<T> out(queries, NAN), dq(queries, NAN), dk(keys, NAN), dv(keys, NAN);
  Array<float> lse(s.batch * s.sequence_q * s.heads, NAN);
  const std::int32_t* seg = documents ? segments.data() : nullptr;
  cpu::attention(s, q.data(), k.data(), v.data(), seg, out.data(), lse.data(), workspace.data());
  cpu::attention_grad(s, q.data(), k.data(), v.data(), seg, out.data(), lse.data(), d_out.data(), dq.data(), dk.data(),
                      dv.data(), workspace.data());
  const std::string name = std::string("attention ") + type_name<T>() + " " + what;
  expect_close(out, want.out, tolerance, name + " out");
  bool finite = true;
  for (const double x : want.lse) finite = finite && std::isfinite(x);
  if (finite) expect_close(lse, want.lse, tolerance, name + " lse");
  expect_close(dq, want.dq, 2 * tolerance, name + " dq");
  expect_close(dk, want.dk, 2 * tolerance, name + " dk");
  expect_close(dv, want.dv, 2 * tolerance, name + " dv");
}

template <typename T>
void all_masks() {
  const double tolerance = 4 * rounding<T>() + 1e-6;
  const auto run = [&](const std::string& what, cpu::AttentionShape s, bool documents) {
    s.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    compare<T>(what, s, documents, tolerance);
  };
  run("one query", {1, 1, 1, 1, 1, 8, true, 0, 0, 0}, false);
  run("causal 77, 6/3 heads of 16", {2, 77, 77, 6, 3, 16, true, 0, 0, 0}, false);
  run("causal 257, 4/1 heads of 64", {1, 257, 257, 4, 1, 64, true, 0, 0, 0}, false);
  run("causal 300, 3/3 heads of 80", {1, 300, 300, 3, 3, 80, true, 0, 0, 0}, false);
  run("causal 130, 2/1 heads of 128", {1, 130, 130, 2, 1, 128, true, 0, 0, 0}, false);
  run("causal 100, 2/2 heads of 256", {1, 100, 100, 2, 2, 256, true, 0, 0, 0}, false);
  run("whole 129, 2/2 heads of 32", {1, 129, 129, 2, 2, 32, false, 0, 0, 0}, false);
  run("cross 90 to 211, 2/1 heads of 24", {2, 90, 211, 2, 1, 24, false, 0, 0, 0}, false);
  run("causal 211 to 90, window 50, rows without keys", {1, 211, 90, 2, 1, 24, true, 50, 0, 0}, false);
  run("window 40 of 500, 4/2 heads of 32", {1, 500, 500, 4, 2, 32, true, 40, 0, 0}, false);
  run("documents 500, 6/3 heads of 10", {3, 500, 500, 6, 3, 10, true, 0, 0, 0}, true);
  run("documents 300, whole, 2/2 heads of 66", {2, 300, 300, 2, 2, 66, false, 0, 0, 0}, true);
  run("documents 600, window 100, 2/1 heads of 64", {2, 600, 600, 2, 1, 64, true, 100, 0, 0}, true);
  run("window 20 of 16400 (shared by keys), 2/1 heads of 8", {1, 16400, 16400, 2, 1, 8, true, 20, 0, 0}, false);
  run("queries 100 to 199 of 300, 4/2 heads of 32", {1, 100, 300, 4, 2, 32, true, 0, 0, 0, 100}, false);
  run("queries 270 to 399 of 400, window 70, 2/1 heads of 64", {2, 130, 400, 2, 1, 64, true, 70, 0, 0, 270}, false);
  run("queries 0 to 76 of 231, documents", {2, 77, 231, 3, 3, 16, true, 0, 0, 0, 0}, true);
  run("queries 77 to 153 of 231, documents", {2, 77, 231, 6, 2, 16, true, 0, 0, 0, 77}, true);
  run("queries 500 to 599 of 600, documents, window 100", {1, 100, 600, 2, 1, 64, true, 100, 0, 0, 500}, true);
  run("queries 40 to 59 of 200, documents, whole", {2, 20, 200, 2, 2, 24, false, 0, 0, 0, 40}, true);
  run("queries 8200 to 8299 of 16400 (shared by keys)", {1, 100, 16400, 2, 1, 8, true, 20, 0, 0, 8200}, true);
  run("queries in front of all keys", {1, 40, 100, 2, 1, 16, true, 0, 0, 0, -40}, false);
  run("queries behind all keys, window 90", {1, 40, 100, 2, 1, 16, true, 90, 0, 0, 100}, false);
  run("softcap 3, 150, 2/1 heads of 32", {1, 150, 150, 2, 1, 32, true, 0, 0, 3.0f}, false);
}

// A NaN in one document's values stays in that document.
void nan_stays() {
  cpu::AttentionShape s{1, 200, 200, 2, 1, 16, true, 0, 0.25f, 0};
  auto q = Array<float>::noise(200 * 32, 1), k = Array<float>::noise(200 * 16, 2), v = Array<float>::noise(200 * 16, 3);
  k[150 * 16] = NAN;
  std::vector<std::int32_t> segments(200, 0);
  std::fill(segments.begin() + 100, segments.end(), 1);
  Array<float> out(200 * 32), lse(400);
  Array<float> workspace(static_cast<std::int64_t>(cpu::attention_workspace_bytes(s, omp_get_max_threads()) / 4));
  cpu::attention(s, q.data(), k.data(), v.data(), segments.data(), out.data(), lse.data(), workspace.data());
  CHECK(std::isfinite(out[99 * 32]));
  CHECK(std::isnan(out[150 * 32]) && std::isnan(out[199 * 32]));
}

}  // namespace

void test_attention() {
  all_masks<float>();
  for (const auto products : {cpu::Bf16Products::f32, cpu::Bf16Products::dot, cpu::Bf16Products::amx}) {
    cpu::allow_bf16_products(products);
    all_masks<bf16>();
  }
  nan_stays();
}

}  // namespace ithaca::test
