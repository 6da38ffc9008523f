// Products and attention as they ask NVIDIA's libraries for them, whose calls are answered by stand-ins that do what the
// calls mean: the results are those of the CPU's kernels, on the stream and in the memory that were given.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "../../runtime/kernels/check.h"
#include "../shim/fibers.h"
#include "calls.h"
#include "ithaca/error.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cuda/attention_cudnn.h"
#include "kernels/cuda/matmul.h"

namespace ithaca::test {
namespace {

int here;  // its address stands for a stream
const cudaStream_t kStream = reinterpret_cast<cudaStream_t>(&here);

// A workspace of exactly `bytes`, NaN, that notices what is written behind it.
class Workspace {
 public:
  explicit Workspace(std::size_t bytes) : bytes_(bytes), memory_(static_cast<std::int64_t>(bytes / 4 + kGuard)) {
    std::memset(static_cast<void*>(memory_.data()), 0xff, bytes_ + 4 * kGuard);
    address_ = reinterpret_cast<std::byte*>(memory_.data());
    address_ += (256 - reinterpret_cast<std::uintptr_t>(address_) % 256) % 256;
  }
  void* data() { return address_; }
  bool has(const void* pointer, std::size_t bytes = 1) const {
    const auto* from = static_cast<const std::byte*>(pointer);
    return from >= address_ && from + bytes <= address_ + bytes_;
  }
  bool is_whole() const {
    const auto* end = address_ + bytes_;
    return std::all_of(end, end + 4 * kGuard - 256, [](std::byte byte) { return byte == std::byte{0xff}; });
  }

 private:
  static constexpr std::size_t kGuard = 1024;
  std::size_t bytes_;
  Array<float> memory_;
  std::byte* address_ = nullptr;
};

template <typename T>
std::vector<double> values_of(const Array<T>& array) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < array.size(); ++i) values.push_back(array.at(i));
  return values;
}

// What the libraries saw since the last call of this: all on the stream, with workspaces inside the given one.
std::size_t check_calls(const Workspace& workspace, const std::string& what) {
  const std::size_t count = library_calls.size();
  for (const LibraryCall& call : library_calls) {
    report(call.stream == kStream, what + ": " + call.name + " is on the stream");
    report(workspace.has(call.workspace, call.workspace_bytes), what + ": " + call.name + " works in the workspace");
  }
  report(workspace.is_whole(), what + ": nothing is written behind the workspace");
  library_calls.clear();
  return count;
}

template <typename T, typename O>
void product(cuda::Libraries& libraries, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
             bool transpose_b, bool accumulate, std::int64_t aside = 0) {
  const std::string what = std::string("matmul ") + type_name<T>() + (transpose_a ? " T" : " N") +
                           (transpose_b ? "T" : "N") + (accumulate ? "+ " : " ") + std::to_string(M) + " x " +
                           std::to_string(N) + " x " + std::to_string(K);
  auto a = Array<T>::noise(M * K + aside, 1), b = Array<T>::noise(K * N, 2);
  auto got = Array<O>::noise(M * N, 3);
  Array<O> want(got);
  Workspace workspace(cuda::kMatmulWorkspaceBytes);
  const auto run = [&](Array<O>& to) {
    cuda::matmul(libraries, a.data() + aside, b.data(), to.data(), M, N, K, transpose_a, transpose_b, accumulate,
                 workspace.data(), cuda::kMatmulWorkspaceBytes, kStream);
  };
  Workspace scratch(static_cast<std::size_t>(
      cpu::matmul_workspace_bytes(M, N, K, omp_get_max_threads(), dtype_of<T>, dtype_of<O>)));
  cpu::matmul(a.data() + aside, b.data(), want.data(), M, N, K, transpose_a, transpose_b, accumulate, scratch.data());
  run(got);
  expect_close(got, values_of(want), 2 * rounding<O>() + 1e-5, what);
  const int plans = library_plans;
  run(got);
  report(library_plans == plans, what + ": its algorithm is chosen once");
  report(check_calls(workspace, what) == 2, what + ": one call each");
}

struct Mask {
  bool causal = true;
  std::int64_t window = 0;
  bool packed = false;
};

void attention(cuda::Libraries& libraries, std::int64_t batch, std::int64_t sequence, std::int64_t heads,
               std::int64_t kv_heads, std::int64_t width, const Mask& mask, std::size_t gradient_calls) {
  const std::string what = "attention " + std::to_string(batch) + " x " + std::to_string(sequence) + " x " +
                           std::to_string(heads) + "/" + std::to_string(kv_heads) + " x " + std::to_string(width) +
                           (mask.causal ? " causal" : "") + (mask.packed ? " packed" : "") + " window " +
                           std::to_string(mask.window);
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  const cpu::AttentionShape on_cpu{batch,    sequence,    sequence,    heads, kv_heads,
                                   width, mask.causal, mask.window, scale, 0.0f};
  const cuda::AttentionShape shape{batch,    sequence,    sequence,    heads, kv_heads,
                                   width, mask.causal, mask.window, scale, 0.0f};
  report(cuda::cudnn_attention_supported(shape, mask.packed), what + " is cuDNN's");
  const std::int64_t queries = batch * sequence * heads * width, keys = batch * sequence * kv_heads * width;
  auto q = Array<bf16>::noise(queries, 1), k = Array<bf16>::noise(keys, 2), v = Array<bf16>::noise(keys, 3),
       d_out = Array<bf16>::noise(queries, 4);
  Array<std::int32_t> segments(batch * sequence);
  for (std::int64_t i = 0; i < segments.size(); ++i)
    segments[i] = i % sequence == 0 ? 0 : segments[i - 1] + ((i * 7919) % 23 == 0 ? 1 : 0);
  const std::int32_t* documents = mask.packed ? segments.data() : nullptr;

  Array<bf16> want_out(queries), want_dq(queries), want_dk(keys), want_dv(keys);
  Array<float> want_lse(batch * sequence * heads);
  Workspace scratch(std::max(cpu::attention_workspace_bytes(on_cpu, 2),
                             cpu::attention_grad_workspace_bytes(on_cpu, 2, DType::bf16)));
  cpu::attention(on_cpu, q.data(), k.data(), v.data(), documents, want_out.data(), want_lse.data(), scratch.data());
  cpu::attention_grad(on_cpu, q.data(), k.data(), v.data(), documents, want_out.data(), want_lse.data(), d_out.data(),
                      want_dq.data(), want_dk.data(), want_dv.data(), scratch.data());

  const float nan = std::nanf("");
  Array<bf16> out(queries, nan), dq(queries, nan), dk(keys, nan), dv(keys, nan);
  Array<float> lse(batch * sequence * heads, nan);
  Workspace forward(cuda::attention_workspace_bytes(shape)), backward(cuda::attention_grad_workspace_bytes(shape));
  const auto run = [&] {
    cuda::attention(libraries, shape, q.data(), k.data(), v.data(), documents, out.data(), lse.data(), forward.data(),
                    kStream);
    report(check_calls(forward, what) == 1, what + ": one call forward");
    cuda::attention_grad(libraries, shape, q.data(), k.data(), v.data(), documents, out.data(), lse.data(),
                         d_out.data(), dq.data(), dk.data(), dv.data(), backward.data(), kStream);
    const std::size_t calls = check_calls(backward, what + " backward");
    report(calls == gradient_calls, what + ": backward in " + std::to_string(calls) + " calls");
  };
  run();
  // bf16 weights and score gradients are rounded in other places than on the CPU.
  expect_close(out, values_of(want_out), 2 * rounding<bf16>(), what + ": out");
  expect_close(lse, values_of(want_lse), 1e-5, what + ": lse");
  expect_close(dq, values_of(want_dq), 4 * rounding<bf16>(), what + ": dq");
  expect_close(dk, values_of(want_dk), 4 * rounding<bf16>(), what + ": dk");
  expect_close(dv, values_of(want_dv), 4 * rounding<bf16>(), what + ": dv");
  const int plans = library_plans;
  run();
  report(library_plans == plans, what + ": its plans are made once");
}

void run() {
  cuda::Libraries libraries;
  for (const bool a : {false, true})
    for (const bool b : {false, true})
      for (const bool accumulate : {false, true}) {
        product<float, float>(libraries, 37, 53, 41, a, b, accumulate);
        product<bf16, bf16>(libraries, 24, 16, 40, a, b, accumulate);
        product<bf16, float>(libraries, 19, 33, 7, a, b, accumulate);
      }
  product<bf16, bf16>(libraries, 24, 16, 40, false, true, false, 1);  // off the 16-byte boundary

  // The test is compiled with parts of two of these key heads, which have 65 rows or more each.
  attention(libraries, 2, 65, 4, 4, 16, {}, 1);
  attention(libraries, 2, 70, 6, 3, 32, {}, 2);
  attention(libraries, 2, 70, 6, 3, 32, {.packed = true}, 2);
  attention(libraries, 1, 150, 8, 4, 64, {.window = 40}, 4);
  attention(libraries, 2, 150, 8, 2, 64, {.window = 31, .packed = true}, 4);
  attention(libraries, 1, 33, 4, 1, 128, {.causal = false}, 1);
  attention(libraries, 1, 1, 2, 1, 8, {}, 1);
}

}  // namespace
}  // namespace ithaca::test

int main() {
  try {
    ithaca::test::run();
  } catch (const std::exception& error) {
    ithaca::test::report(false, error.what());
  }
  std::printf("%d checks, %d failed\n", ithaca::test::checks, ithaca::test::failures);
  return ithaca::test::failures == 0 ? 0 : 1;
}
