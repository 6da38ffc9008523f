// Kernels at the two ends of a step: embedding, loss, optimizer.
#include "kernel_check.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/loss.h"
#include "kernels/cpu/optimizer.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/loss.h"
#include "kernels/cuda/optimizer.h"

namespace ithaca::test {
namespace {

std::vector<std::int32_t> some_ids(std::int64_t rows, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  std::mt19937 random(3);
  // Half of all rows have one of three tokens, as in text.
  for (std::int64_t r = 0; r < rows; ++r)
    ids.push_back(static_cast<std::int32_t>(random() % (random() % 2 == 0 ? std::min<std::int64_t>(3, vocabulary) : vocabulary)));
  return ids;
}

template <typename T, typename O>
void lookups(std::int64_t R, std::int64_t C, std::int64_t V, std::int64_t aside) {
  auto table = Array<T>::noise(V * C, 1);
  Aside<T> own(table, aside);
  std::vector<std::int32_t> ids = some_ids(R, V);
  Array<O> want(R * C), out(R * C);
  cpu::embedding(ids.data(), table.data(), want.data(), R, C, V);
  in_every_order("embedding", [&] { cuda::embedding(ids.data(), own.data(), out.data(), R, C, V, kNoStream); }, out);
  CHECK(bytes_of(out) == bytes_of(want));
  for (const std::int32_t outside : {-1, static_cast<std::int32_t>(V)}) {
    ids[std::size_t(R - 1)] = outside;
    expect_stop([&] { cuda::embedding(ids.data(), own.data(), out.data(), R, C, V, kNoStream); },
                 "a token is outside the vocabulary");
  }
}

template <typename T>
void lookup_grads(std::int64_t R, std::int64_t C, std::int64_t V, std::int64_t aside) {
  auto d_out = Array<T>::noise(R * C, 1);
  Aside<T> own(d_out, aside);
  std::vector<std::int32_t> ids = some_ids(R, V);
  Array<float> want(V * C, 0.5f), got(V * C), again(V * C);
  cpu::embedding_grad(ids.data(), d_out.data(), want.data(), R, C, V, true);
  in_every_order("embedding_grad",
                 [&] {
                   for (std::int64_t i = 0; i < V * C; ++i) got[i] = 0.5f;
                   cuda::embedding_grad(ids.data(), own.data(), got.data(), R, C, V, true, kNoStream);
                 },
                 got);
  CHECK(bytes_of(got) == bytes_of(want));  // the same order of additions as on the CPU
  cpu::embedding_grad(ids.data(), d_out.data(), want.data(), R, C, V, false);
  in_every_order("embedding_grad",
                 [&] { cuda::embedding_grad(ids.data(), own.data(), again.data(), R, C, V, false, kNoStream); }, again);
  CHECK(bytes_of(again) == bytes_of(want));
  ids[0] = static_cast<std::int32_t>(V);
  expect_stop([&] { cuda::embedding_grad(ids.data(), own.data(), again.data(), R, C, V, false, kNoStream); },
               "a token is outside the vocabulary");
}

template <typename T>
void losses(std::int64_t R, std::int64_t V, std::int64_t aside) {
  const std::string size = std::string(type_name<T>()) + " " + std::to_string(R) + "x" + std::to_string(V);
  auto logits = Array<T>::noise(R * V, 1, 4.0f);
  for (std::int64_t v = 2; v < V; v += 5) logits[v] = from_float<T>(-INFINITY);  // masked tokens
  Aside<T> own(logits, aside);
  std::vector<std::int32_t> labels;
  for (std::int64_t r = 0; r < R; ++r) labels.push_back(r % 3 == 1 ? -100 : static_cast<std::int32_t>((r + 1) * 35 % V));
  labels[0] = static_cast<std::int32_t>(V - 1 - (V - 1) % 5);
  Array<float> want_loss(1), want_lse(R), loss(1), lse(R), scratch(R), d_loss(1, 0.37f);
  Array<std::int32_t> want_count(1, -1.0f), count(1, -2.0f);
  cpu::cross_entropy(logits.data(), labels.data(), want_loss.data(), want_count.data(), want_lse.data(), R, V, scratch.data());
  const auto run = [&] {
    Workspace workspace(cuda::cross_entropy_workspace_bytes(R));
    cuda::cross_entropy(own.data(), labels.data(), loss.data(), count.data(), lse.data(), R, V, workspace.data(), kNoStream);
  };
  in_every_order("cross_entropy " + size, run, loss, lse);
  CHECK(count[0] == want_count[0]);
  expect_close(loss, values_of(want_loss), 2e-6, "cross_entropy " + size);
  expect_close(lse, values_of(want_lse), 1e-6, "cross_entropy lse " + size);
  Array<T> want_d(R * V), d(R * V);
  cpu::cross_entropy_grad(logits.data(), labels.data(), want_lse.data(), d_loss.data(), want_d.data(), R, V);
  in_every_order("cross_entropy_grad " + size,
                 [&] {
                   cuda::cross_entropy_grad(own.data(), labels.data(), lse.data(), d_loss.data(), d.data(), R, V,
                                            kNoStream);
                 },
                 d);
  expect_close(d, values_of(want_d), rounding<T>() + 2e-6, "cross_entropy_grad " + size);
  own.data()[V / 2] = from_float<T>(NAN);
  run();
  CHECK(std::isnan(loss[0]) && std::isnan(lse[0]));
  std::copy_n(logits.data(), R * V, own.data());
  cuda::cross_entropy_grad(own.data(), labels.data(), want_lse.data(), d_loss.data(), own.data(), R, V, kNoStream);
  std::copy_n(own.data(), R * V, d.data());
  expect_close(d, values_of(want_d), rounding<T>() + 2e-6, "cross_entropy_grad in place " + size);
  labels[0] = static_cast<std::int32_t>(V);
  expect_stop(run, "a label is outside the vocabulary");
}

void optimizer(std::int64_t n, std::int64_t aside) {
  auto p = Array<float>::noise(n, 1), g = Array<float>::noise(n, 2), m = Array<float>::noise(n, 3);
  Array<float> v(n, 0.25f);
  Aside<float> own_p(p, aside), own_g(g, aside), own_m(m, aside), own_v(v, aside);
  Array<float> rate(1, 1e-2f), scale(1, 0.7f);
  Array<std::int32_t> step(1);
  for (step[0] = 1; step[0] <= 1000; step[0] = step[0] * 3 + 1) {
    cpu::adamw(p.data(), g.data(), m.data(), v.data(), n, rate.data(), step.data(), scale.data(), 0.9, 0.95, 1e-8, 0.1);
    cuda::adamw(own_p.data(), own_g.data(), own_m.data(), own_v.data(), n, rate.data(), step.data(), scale.data(), 0.9,
                0.95, 1e-8, 0.1, kNoStream);
  }
  Array<float> got_p(n), got_m(n), got_v(n);
  std::copy_n(own_p.data(), n, got_p.data());
  std::copy_n(own_m.data(), n, got_m.data());
  std::copy_n(own_v.data(), n, got_v.data());
  expect_close(got_p, values_of(p), 5e-7, "adamw");
  expect_close(got_m, values_of(m), 5e-7, "adamw m");
  expect_close(got_v, values_of(v), 5e-7, "adamw v");
}

}  // namespace

void test_training_kernels() {
  for (const std::int64_t aside : {0, 1}) {
    lookups<float, float>(37, 7, 13, aside);
    lookups<float, bf16>(100, 64, 300, aside);
    lookups<bf16, bf16>(5, 2304, 20, aside);
    lookup_grads<float>(37, 7, 13, aside);
    lookup_grads<bf16>(300, 64, 1300, aside);
    lookup_grads<float>(4100, 24, 5, aside);      // several rounds of collecting
    lookup_grads<bf16>(1200, 1040, 130, aside);   // two tiles of columns, two blocks of ids
    for (const auto& [R, V] : {std::pair<std::int64_t, std::int64_t>{1, 3}, {5, 11}, {4, 517}, {3, 20011}, {2, 32776}}) {
      losses<float>(R, V, aside);
      losses<bf16>(R, V, aside);
    }
    for (const std::int64_t n : {1, 1003, 40008}) optimizer(n, aside);
  }
}

}  // namespace ithaca::test
