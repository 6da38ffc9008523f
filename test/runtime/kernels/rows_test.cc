// Kernels that work row by row: norms, rotary embedding, reductions.
#include "check.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cpu/rope.h"

namespace ithaca::test {
namespace {

template <typename T>
void norms(std::int64_t R, std::int64_t C) {
  const std::string size = std::string(type_name<T>()) + " " + std::to_string(R) + "x" + std::to_string(C);
  const float eps = 1e-5f;
  auto x = Array<T>::noise(R * C, 1), w = Array<T>::noise(C, 2);
  auto dy = Array<T>::noise(R * C, 3), r = Array<T>::noise(R * C, 4);
  Array<T> y(R * C, NAN), dx(R * C, NAN), sum(R * C), y2(R * C), y3(R * C);
  Array<float> dw(C, NAN);
  Array<float> workspace(static_cast<std::int64_t>(cpu::rms_norm_grad_workspace_bytes(R, C) / 4), NAN);
  std::vector<double> want_y(std::size_t(R * C)), want_dx(std::size_t(R * C)), want_dw(static_cast<std::size_t>(C));
  for (std::int64_t i = 0; i < R; ++i) {
    double squares = 0.0, dot = 0.0;
    for (std::int64_t c = 0; c < C; ++c) {
      squares += x.at(i * C + c) * x.at(i * C + c);
      dot += x.at(i * C + c) * dy.at(i * C + c) * w.at(c);
    }
    const double inverse = 1.0 / std::sqrt(squares / double(C) + double(eps));
    for (std::int64_t c = 0; c < C; ++c) {
      const std::size_t at = std::size_t(i * C + c);
      want_y[at] = w.at(c) * x.at(i * C + c) * inverse;
      want_dx[at] = inverse * (dy.at(i * C + c) * w.at(c) - x.at(i * C + c) * inverse * inverse * dot / double(C));
      want_dw[std::size_t(c)] += dy.at(i * C + c) * x.at(i * C + c) * inverse;
    }
  }
  cpu::rms_norm(x.data(), w.data(), y.data(), R, C, eps);
  expect_close(y, want_y, 2 * rounding<T>() + 1e-6, "rms_norm " + size);
  cpu::rms_norm_grad(x.data(), w.data(), dy.data(), dx.data(), dw.data(), R, C, eps, workspace.data());
  expect_close(dx, want_dx, 2 * rounding<T>() + 1e-6, "rms_norm_grad dx " + size);
  expect_close(dw, want_dw, 2 * rounding<T>() + 1e-6, "rms_norm_grad dw " + size);
  cpu::add_rms_norm(x.data(), r.data(), w.data(), sum.data(), y2.data(), R, C, eps);
  cpu::rms_norm(sum.data(), w.data(), y3.data(), R, C, eps);
  bool same = true;
  for (std::int64_t i = 0; i < R * C; ++i) same = same && y2.at(i) == y3.at(i);
  CHECK(same);
}

void rope_tables() {
  const std::vector<std::int32_t> positions = {0, 1, 77, 4095, 1000003, 19999999};
  const std::vector<float> inv_freq = {1.0f, 0.74989420f, 0.1f, 0.0123f, 1e-6f};
  Array<float> cos(30, NAN), sin(30, NAN);
  std::vector<double> want_cos, want_sin;
  for (const std::int32_t p : positions)
    for (const float f : inv_freq) {
      const float angle = static_cast<float>(p) * f;
      want_cos.push_back(1.5 * std::cos(double(angle)));
      want_sin.push_back(1.5 * std::sin(double(angle)));
    }
  cpu::rope_table(positions.data(), inv_freq.data(), cos.data(), sin.data(), 6, 5, 1.5f);
  expect_close(cos, want_cos, 1.2e-7, "rope_table cos");
  expect_close(sin, want_sin, 1.2e-7, "rope_table sin");
}

template <typename T>
void ropes() {
  const std::int64_t R = 13, H = 3, D = 22;
  auto x = Array<T>::noise(R * H * D, 1);
  auto cos = Array<float>::noise(R * D / 2, 2), sin = Array<float>::noise(R * D / 2, 3);
  for (const bool inverse : {false, true}) {
    std::vector<double> want(std::size_t(R * H * D));
    for (std::int64_t r = 0; r < R; ++r)
      for (std::int64_t h = 0; h < H; ++h)
        for (std::int64_t d = 0; d < D; ++d) {
          const std::int64_t at = (r * H + h) * D, i = d % (D / 2);
          const double s = (inverse ? -1.0 : 1.0) * sin.at(r * D / 2 + i), c = cos.at(r * D / 2 + i);
          want[std::size_t(at + d)] = d < D / 2 ? x.at(at + d) * c - x.at(at + d + D / 2) * s
                                                : x.at(at + d) * c + x.at(at + d - D / 2) * s;
        }
    Array<T> y(R * H * D, NAN);
    cpu::rope(x.data(), cos.data(), sin.data(), y.data(), R, H, D, inverse);
    expect_close(y, want, rounding<T>() + 1e-7, std::string("rope ") + type_name<T>());
    Array<T> in_place(x);
    cpu::rope(in_place.data(), cos.data(), sin.data(), in_place.data(), R, H, D, inverse);
    expect_close(in_place, want, rounding<T>() + 1e-7, std::string("rope in place ") + type_name<T>());
  }
}

template <typename T>
void sums() {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{1003}, std::int64_t{1200007}}) {
    auto x = Array<T>::noise(n, 5);
    Array<float> out(1, NAN);
    Array<double> workspace(256);
    double want = 0.0;
    for (std::int64_t i = 0; i < n; ++i) want += x.at(i) * x.at(i);
    cpu::sum_squares(x.data(), out.data(), n, workspace.data());
    expect_close(out, {want}, 1e-6, std::string("sum_squares ") + type_name<T>());
  }
  for (const std::int64_t R : {1, 9, 77, 1500}) {
    const std::int64_t C = 301;
    auto x = Array<T>::noise(R * C, 6);
    Array<T> out(C, NAN);
    Array<float> workspace(static_cast<std::int64_t>(cpu::sum_rows_workspace_bytes(R, C) / 4), NAN);
    std::vector<double> want(std::size_t(C), 0.0);
    for (std::int64_t i = 0; i < R * C; ++i) want[std::size_t(i % C)] += x.at(i);
    cpu::sum_rows(x.data(), out.data(), R, C, workspace.data());
    expect_close(out, want, rounding<T>() + 1e-6, std::string("sum_rows ") + type_name<T>());
  }
  const std::int64_t dims[] = {3, 4, 5, 6};
  auto x = Array<T>::noise(360, 7);
  for (unsigned mask = 0; mask < 16; ++mask) {
    std::int64_t outputs = 1;
    for (int d = 0; d < 4; ++d) outputs *= mask >> d & 1 ? 1 : dims[d];
    std::vector<double> want(std::size_t(outputs), 0.0);
    for (std::int64_t i = 0; i < 360; ++i) {
      const std::int64_t index[] = {i / 120, i / 30 % 4, i / 6 % 5, i % 6};
      std::int64_t at = 0;
      for (int d = 0; d < 4; ++d)
        if (!(mask >> d & 1)) at = at * dims[d] + index[d];
      want[std::size_t(at)] += x.at(i);
    }
    Array<T> out(outputs, NAN);
    cpu::reduce_sum(x.data(), dims, 4, mask, out.data());
    expect_close(out, want, rounding<T>(), "reduce_sum " + std::to_string(mask));
  }
}

}  // namespace

void test_rows() {
  for (const auto& [R, C] : {std::pair<std::int64_t, std::int64_t>{1, 3}, {7, 96}, {77, 1003}, {700, 33}}) {
    norms<float>(R, C);
    norms<bf16>(R, C);
  }
  rope_tables();
  ropes<float>();
  ropes<bf16>();
  sums<float>();
  sums<bf16>();
}

}  // namespace ithaca::test
