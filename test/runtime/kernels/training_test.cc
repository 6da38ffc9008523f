// Kernels at the two ends of a step: embedding, loss, optimizer.
#include "check.h"
#include "ithaca/error.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/optimizer.h"

namespace ithaca::test {
namespace {

template <typename F>
bool throws(F f) {
  try {
    f();
    return false;
  } catch (const Error&) {
    return true;
  }
}

template <typename T>
void losses(std::int64_t R, std::int64_t V) {
  const std::string size = std::string(type_name<T>()) + " " + std::to_string(R) + "x" + std::to_string(V);
  auto logits = Array<T>::noise(R * V, 1, 4.0f);
  std::vector<std::int32_t> labels;
  for (std::int64_t r = 0; r < R; ++r) labels.push_back(r % 3 == 1 ? -100 : static_cast<std::int32_t>(r * 37 % V));
  std::vector<double> want_lse(std::size_t(R), 0.0), want_d(std::size_t(R * V), 0.0);
  double total = 0.0;
  std::int32_t labelled = 0;
  const float d_loss_value = 0.37f;
  for (std::int64_t r = 0; r < R; ++r) {
    if (labels[std::size_t(r)] == -100) continue;
    double sum = 0.0;
    for (std::int64_t v = 0; v < V; ++v) sum += std::exp(logits.at(r * V + v));
    want_lse[std::size_t(r)] = std::log(sum);
    total += std::log(sum) - logits.at(r * V + labels[std::size_t(r)]);
    ++labelled;
    for (std::int64_t v = 0; v < V; ++v)
      want_d[std::size_t(r * V + v)] =
          double(d_loss_value) * (std::exp(logits.at(r * V + v)) / sum - (v == labels[std::size_t(r)] ? 1.0 : 0.0));
  }
  Array<float> loss(1, NAN), lse(R, NAN), workspace(R, NAN), d_loss(1, d_loss_value);
  std::int32_t count = -1;
  cpu::cross_entropy(logits.data(), labels.data(), loss.data(), &count, lse.data(), R, V, workspace.data());
  CHECK(count == labelled);
  expect_close(loss, {total}, 2e-6, "cross_entropy " + size);
  expect_close(lse, want_lse, 1e-6, "cross_entropy lse " + size);
  Array<T> d(R * V, NAN);
  cpu::cross_entropy_grad(logits.data(), labels.data(), lse.data(), d_loss.data(), d.data(), R, V);
  expect_close(d, want_d, rounding<T>() + 2e-6, "cross_entropy_grad " + size);
  cpu::cross_entropy_grad(logits.data(), labels.data(), lse.data(), d_loss.data(), logits.data(), R, V);
  expect_close(logits, want_d, rounding<T>() + 2e-6, "cross_entropy_grad in place " + size);
  logits[V / 2] = from_float<T>(NAN);
  cpu::cross_entropy(logits.data(), labels.data(), loss.data(), &count, lse.data(), R, V, workspace.data());
  CHECK(std::isnan(loss[0]) && std::isnan(lse[0]));
  labels[0] = static_cast<std::int32_t>(V);
  CHECK(throws([&] {
    cpu::cross_entropy(logits.data(), labels.data(), loss.data(), &count, lse.data(), R, V, workspace.data());
  }));
}

template <typename T, typename O>
void embeddings() {
  const std::int64_t R = 101, C = 97, V = 53;
  auto table = Array<T>::noise(V * C, 1);
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < R; ++r) ids.push_back(static_cast<std::int32_t>(r * r % V));
  Array<O> out(R * C, NAN);
  cpu::embedding(ids.data(), table.data(), out.data(), R, C, V);
  std::vector<double> want;
  for (std::int64_t i = 0; i < R * C; ++i) want.push_back(table.at(ids[std::size_t(i / C)] * C + i % C));
  expect_close(out, want, std::is_same_v<T, O> ? 0.0 : rounding<O>(), "embedding");
  auto d_out = Array<T>::noise(R * C, 2);
  Array<float> d_table(V * C, NAN);
  for (const bool accumulate : {false, true}) {
    std::vector<double> sums(std::size_t(V * C), 0.0);
    for (std::int64_t i = 0; i < R * C; ++i)
      sums[std::size_t(ids[std::size_t(i / C)] * C + i % C)] += (accumulate ? 2.0 : 1.0) * d_out.at(i);
    cpu::embedding_grad(ids.data(), d_out.data(), d_table.data(), R, C, V, accumulate);
    expect_close(d_table, sums, 1e-6, "embedding_grad");
  }
  ids[3] = static_cast<std::int32_t>(V);
  CHECK(throws([&] { cpu::embedding(ids.data(), table.data(), out.data(), R, C, V); }));
  ids[3] = -1;
  CHECK(throws([&] { cpu::embedding_grad(ids.data(), d_out.data(), d_table.data(), R, C, V, false); }));
}

void adamw() {
  const std::int64_t n = 1003;
  auto p = Array<float>::noise(n, 1), g = Array<float>::noise(n, 2), m = Array<float>::noise(n, 3, 0.1f);
  auto v = Array<float>::noise(n, 4, 0.1f);
  for (std::int64_t i = 0; i < n; ++i) v[i] = std::fabs(v[i]);
  std::vector<double> want(std::size_t(n), 0.0);
  const double lr = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.1, scale = 0.5;
  for (std::int64_t i = 0; i < n; ++i) {
    const double grad = g.at(i) * scale;
    const double first = m.at(i) * beta1 + (1 - beta1) * grad, second = v.at(i) * beta2 + (1 - beta2) * grad * grad;
    want[std::size_t(i)] = p.at(i) * (1 - lr * decay) - lr / (1 - std::pow(beta1, 3)) * first /
                                                        (std::sqrt(second) / std::sqrt(1 - std::pow(beta2, 3)) + eps);
  }
  const float rate = 1e-3f, grad_scale = 0.5f;
  const std::int32_t step = 3;
  cpu::adamw(p.data(), g.data(), m.data(), v.data(), n, &rate, &step, &grad_scale, beta1, beta2, eps, decay);
  expect_close(p, want, 2e-7, "adamw");
}

}  // namespace

void test_training() {
  losses<float>(7, 1003);
  losses<bf16>(7, 1003);
  losses<float>(1, 2);
  losses<float>(130, 77);
  embeddings<float, float>();
  embeddings<bf16, bf16>();
  embeddings<float, bf16>();
  adamw();
}

}  // namespace ithaca::test
