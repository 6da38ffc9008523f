// Kernels that work row by row: norms and rotary embedding.
#include "kernel_check.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/rope.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope.h"

namespace ithaca::test {
namespace {

template <typename T>
void norms(std::int64_t R, std::int64_t C, std::int64_t aside) {
  const std::string size =
      std::string(type_name<T>()) + " " + std::to_string(R) + "x" + std::to_string(C) + (aside > 0 ? " aside" : "");
  const float eps = 1e-5f;
  const double tolerance = 2 * rounding<T>() + 2e-6;
  auto x = Array<T>::noise(R * C, 1), w = Array<T>::noise(C, 2), dy = Array<T>::noise(R * C, 3);
  Aside<T> own_x(x, aside), own_w(w, aside), own_dy(dy, aside);
  Array<T> want_y(R * C), want_dx(R * C), y(R * C), dx(R * C);
  Array<float> want_dw(C), dw(C);
  Array<float> scratch(static_cast<std::int64_t>(cpu::rms_norm_grad_workspace_bytes(R, C) / 4));
  cpu::rms_norm(x.data(), w.data(), want_y.data(), R, C, eps);
  cpu::rms_norm_grad(x.data(), w.data(), dy.data(), want_dx.data(), want_dw.data(), R, C, eps, scratch.data());
  in_every_order("rms_norm " + size,
                 [&] { cuda::rms_norm(own_x.data(), own_w.data(), y.data(), R, C, eps, kNoStream); }, y);
  expect_close(y, values_of(want_y), tolerance, "rms_norm " + size);
  in_every_order("rms_norm_grad " + size,
                 [&] {
                   Workspace workspace(cuda::rms_norm_grad_workspace_bytes(R, C));
                   cuda::rms_norm_grad(own_x.data(), own_w.data(), own_dy.data(), dx.data(), dw.data(), R, C, eps,
                                       workspace.data(), kNoStream);
                 },
                 dx, dw);
  expect_close(dx, values_of(want_dx), tolerance, "rms_norm_grad dx " + size);
  expect_close(dw, values_of(want_dw), tolerance, "rms_norm_grad dw " + size);
  Workspace workspace(cuda::rms_norm_grad_workspace_bytes(R, C));
  cuda::rms_norm_grad(own_x.data(), own_w.data(), own_dy.data(), own_dy.data(), dw.data(), R, C, eps, workspace.data(),
                      kNoStream);
  CHECK(std::memcmp(own_dy.data(), dx.data(), static_cast<std::size_t>(R * C) * sizeof(T)) == 0);
}

void rope_tables(std::int64_t half) {
  const std::vector<std::int32_t> positions = {0, 1, 77, 4095, 1000003, 19999999};
  const auto rows = static_cast<std::int64_t>(positions.size());
  std::vector<float> inv_freq;
  for (std::int64_t i = 0; i < half; ++i) inv_freq.push_back(std::pow(1e-6f, float(i) / float(half)));
  Array<float> cos(rows * half), sin(rows * half), want_cos(rows * half), want_sin(rows * half);
  cpu::rope_table(positions.data(), inv_freq.data(), want_cos.data(), want_sin.data(), rows, half, 1.5f);
  in_every_order("rope_table",
                 [&] {
                   cuda::rope_table(positions.data(), inv_freq.data(), cos.data(), sin.data(), rows, half, 1.5f,
                                    kNoStream);
                 },
                 cos, sin);
  expect_close(cos, values_of(want_cos), 1.2e-7, "rope_table cos");
  expect_close(sin, values_of(want_sin), 1.2e-7, "rope_table sin");
}

template <typename T>
void ropes(std::int64_t R, std::int64_t H, std::int64_t D, std::int64_t aside) {
  auto x = Array<T>::noise(R * H * D, 1);
  auto cos = Array<float>::noise(R * D / 2, 2), sin = Array<float>::noise(R * D / 2, 3);
  for (const bool inverse : {false, true}) {
    Array<T> want(R * H * D), y(R * H * D);
    Aside<T> own(x, aside);
    cpu::rope(x.data(), cos.data(), sin.data(), want.data(), R, H, D, inverse);
    in_every_order("rope", [&] { cuda::rope(own.data(), cos.data(), sin.data(), y.data(), R, H, D, inverse, kNoStream); },
                   y);
    expect_close(y, values_of(want), rounding<T>() + 1e-7, std::string("rope ") + type_name<T>());
    cuda::rope(own.data(), cos.data(), sin.data(), own.data(), R, H, D, inverse, kNoStream);
    CHECK(std::memcmp(own.data(), y.data(), static_cast<std::size_t>(R * H * D) * sizeof(T)) == 0);
  }
}

template <typename T>
void rows() {
  // Sizes that take each of the shapes in which threads share a row, and the plain loops.
  for (const auto& [R, C] : {std::pair<std::int64_t, std::int64_t>{1, 3}, {7, 96}, {5, 1003}, {2100, 40}, {33, 512},
                             {9, 1024}, {6, 2048}, {5, 4096}, {3, 8192}, {2, 16384}, {1, 40000}})
    norms<T>(R, C, 0);
  norms<T>(5, 512, 1);
  norms<T>(17, 256, 3);
  for (const std::int64_t aside : {0, 1}) {
    ropes<T>(13, 3, 22, aside);
    ropes<T>(9, 4, 128, aside);
  }
}

}  // namespace

void test_rows_kernels() {
  rows<float>();
  rows<bf16>();
  rope_tables(5);
  rope_tables(64);
  rope_tables(131);
}

}  // namespace ithaca::test
