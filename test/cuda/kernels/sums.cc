// Sums of every kind.
#include "kernel_check.h"
#include "kernels/cpu/reduce.h"
#include "kernels/cuda/reduce.h"

namespace ithaca::test {
namespace {

template <typename T>
void squares(std::int64_t n, std::int64_t aside) {
  auto x = Array<T>::noise(n, 5);
  Aside<T> own(x, aside);
  Array<float> out(1);
  double want = 0.0;
  for (std::int64_t i = 0; i < n; ++i) want += x.at(i) * x.at(i);
  in_every_order("sum_squares",
                 [&] {
                   Workspace workspace(cuda::sum_squares_workspace_bytes());
                   cuda::sum_squares(own.data(), out.data(), n, workspace.data(), kNoStream);
                 },
                 out);
  expect_close(out, {want}, 1e-6, std::string("sum_squares ") + type_name<T>());
}

template <typename T, typename O>
void over_rows(std::int64_t R, std::int64_t C, std::int64_t aside) {
  auto x = Array<T>::noise(R * C, 6);
  Aside<T> own(x, aside);
  Array<O> out(C);
  std::vector<double> want(std::size_t(C), 0.0);
  for (std::int64_t i = 0; i < R * C; ++i) want[std::size_t(i % C)] += x.at(i);
  in_every_order("sum_rows",
                 [&] {
                   Workspace workspace(cuda::sum_rows_workspace_bytes(R, C));
                   cuda::sum_rows(own.data(), out.data(), R, C, workspace.data(), kNoStream);
                 },
                 out);
  expect_close(out, want, rounding<O>() + 1e-6, std::string("sum_rows ") + type_name<T>());
}

template <typename T, typename O>
void over_dimensions(const std::vector<std::int64_t>& dims) {
  const int rank = static_cast<int>(dims.size());
  std::int64_t n = 1;
  for (const std::int64_t size : dims) n *= size;
  auto x = Array<T>::noise(n, 7);
  for (unsigned mask = 0; mask < 1u << rank; ++mask) {
    std::int64_t outputs = 1;
    for (int d = 0; d < rank; ++d) outputs *= mask >> d & 1 ? 1 : dims[std::size_t(d)];
    Array<O> want(outputs), out(outputs);
    cpu::reduce_sum(x.data(), dims.data(), rank, mask, want.data());
    in_every_order("reduce_sum", [&] { cuda::reduce_sum(x.data(), dims.data(), rank, mask, out.data(), kNoStream); },
                   out);
    expect_close(out, values_of(want), rounding<O>() / 8 + 1e-6, "reduce_sum " + std::to_string(mask));
  }
}

template <typename T>
void sums() {
  for (const std::int64_t n : {1, 3, 1003, 4096, 1200007}) squares<T>(n, 0);
  squares<T>(2049, 1);
  for (const std::int64_t R : {1, 9, 77, 2500})
    for (const std::int64_t C : {1, 301, 512}) over_rows<T, T>(R, C, 0);
  over_rows<T, float>(33, 264, 0);
  over_rows<T, float>(33, 264, 1);
  over_dimensions<T, T>({3, 4, 5, 6});
  over_dimensions<T, float>({70, 3, 50});
  over_dimensions<T, float>({1, 40, 1, 130});
}

}  // namespace

void test_sums_kernels() {
  sums<float>();
  sums<bf16>();
}

}  // namespace ithaca::test
