// How fast kernels run on this GPU: those that stream memory beside a plain copy, attention in FLOPs.
//
// From the repository's root:
//   nvcc -std=c++20 -O3 -arch=native -Iruntime -Iruntime/include runtime/kernels/cuda/*.cu test/cuda/gpu/measure.cu -o measure
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "ithaca/dtype.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/kernels.h"

namespace {

using namespace ithaca;

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

// Device memory for one measurement, the bytes of small numbers as bf16 and as f32.
class Buffer {
 public:
  explicit Buffer(std::int64_t bytes) {
    check(cudaMalloc(&data_, static_cast<std::size_t>(bytes)));
    std::vector<std::uint16_t> values(static_cast<std::size_t>(bytes / 2));
    std::uint32_t state = 1;
    for (std::uint16_t& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<std::uint16_t>((state >> 31 << 15) | 0x3c00u | (state >> 20 & 0x3ffu));  // around 0.01 to 1
    }
    check(cudaMemcpy(data_, values.data(), values.size() * 2, cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// The fastest of several runs, in seconds; caches are flushed by what lies between.
double seconds(const std::function<void(cudaStream_t)>& run, int repeats = 10) {
  cudaStream_t stream;
  cudaEvent_t begin, end;
  check(cudaStreamCreate(&stream));
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  run(stream);
  float best = 1e30f;
  for (int i = 0; i < repeats; ++i) {
    check(cudaEventRecord(begin, stream));
    run(stream);
    check(cudaEventRecord(end, stream));
    check(cudaEventSynchronize(end));
    float milliseconds;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    best = milliseconds < best ? milliseconds : best;
  }
  check(cudaStreamDestroy(stream));
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  return static_cast<double>(best) / 1e3;
}

double copy_rate = 0.0;  // bytes read and written in a second by cudaMemcpy

void show(const std::string& what, double bytes, double time) {
  std::printf("%-46s %8.1f us %8.0f GB/s %4.0f%% of a copy\n", what.c_str(), time * 1e6, bytes / time / 1e9,
              100.0 * bytes / time / copy_rate);
}

void rows(std::int64_t R, std::int64_t C) {
  const std::int64_t n = R * C;
  const auto size = " " + std::to_string(R) + " x " + std::to_string(C);
  const Buffer x(n * 2), y(n * 2), d(n * 2), w(C * 4), dw(C * 4), f32(n * 4);
  const Buffer workspace(static_cast<std::int64_t>(cuda::rms_norm_grad_workspace_bytes(R, C)));
  const auto total = static_cast<double>(n);
  show("rms_norm bf16" + size, 4 * total, seconds([&](cudaStream_t s) {
         cuda::rms_norm(x.as<bf16>(), w.as<bf16>(), y.as<bf16>(), R, C, 1e-5f, s);
       }));
  show("rms_norm_grad bf16" + size, 6 * total, seconds([&](cudaStream_t s) {
         cuda::rms_norm_grad(x.as<bf16>(), w.as<bf16>(), d.as<bf16>(), y.as<bf16>(), dw.as<float>(), R, C, 1e-5f,
                             workspace.as<void>(), s);
       }));
  show("sum_rows bf16" + size, 2 * total, seconds([&](cudaStream_t s) {
         cuda::sum_rows(x.as<bf16>(), dw.as<float>(), R, C, workspace.as<void>(), s);
       }));
  const std::int64_t D = 128, H = C / D;
  const Buffer cos(R * D * 2), sin(R * D * 2);
  show("rope bf16" + size, 4 * total + 4.0 * static_cast<double>(R * D), seconds([&](cudaStream_t s) {
         cuda::rope(x.as<bf16>(), cos.as<float>(), sin.as<float>(), y.as<bf16>(), R, H, D, false, s);
       }));
  const std::int64_t swap_dims[] = {H, R, D}, swap_from[] = {D, C, 1}, swap_to[] = {R * D, D, 1};
  show("copy_strided, heads before rows" + size, 4 * total, seconds([&](cudaStream_t s) {
         cuda::copy_strided(x.as<void>(), swap_from, y.as<void>(), swap_to, swap_dims, 3, 2, s);
       }));
  const std::int64_t dims[] = {C, R}, from[] = {1, C}, to[] = {R, 1};
  show("copy_strided, transpose bf16" + size, 4 * total, seconds([&](cudaStream_t s) {
         cuda::copy_strided(x.as<void>(), from, y.as<void>(), to, dims, 2, 2, s);
       }));
  show("copy_strided, transpose f32" + size, 8 * total, seconds([&](cudaStream_t s) {
         static const Buffer other(n * 4);
         cuda::copy_strided(f32.as<void>(), from, other.as<void>(), to, dims, 2, 4, s);
       }));
}

struct Swiglu {
  const bf16 *gate, *up;
  bf16* out;
  template <int N>
  __device__ void run(std::int64_t i, std::int64_t, std::int64_t) const {
    const auto g = cuda::load<N>(gate + i), u = cuda::load<N>(up + i);
    cuda::Pack<float, N> y;
#pragma unroll
    for (int k = 0; k < N; ++k) y[k] = cuda::silu(g[k]) * u[k];
    cuda::store<N>(out + i, y);
  }
};

void streams() {
  const std::int64_t n = std::int64_t{1} << 28;
  const Buffer a(n * 4), b(n * 4), c(n * 4), d(n * 4), scalars(64), workspace(1 << 20);
  const auto total = static_cast<double>(n);
  copy_rate = 8 * total / seconds([&](cudaStream_t s) {
                check(cudaMemcpyAsync(b.as<void>(), a.as<void>(), static_cast<std::size_t>(n) * 4,
                                      cudaMemcpyDeviceToDevice, s));
              });
  std::printf("a copy moves %.0f GB/s, read and written\n", copy_rate / 1e9);
  show("adamw", 28 * total, seconds([&](cudaStream_t s) {
         cuda::adamw(a.as<float>(), b.as<float>(), c.as<float>(), d.as<float>(), n, scalars.as<float>(),
                     scalars.as<std::int32_t>() + 1, scalars.as<float>(), 0.9, 0.95, 1e-8, 0.1, s);
       }));
  show("sum_squares f32", 4 * total, seconds([&](cudaStream_t s) {
         cuda::sum_squares(b.as<float>(), scalars.as<float>(), n, workspace.as<void>(), s);
       }));
  show("swiglu bf16", 6 * total, seconds([&](cudaStream_t s) {
         cuda::run_loop("swiglu", Swiglu{a.as<bf16>(), b.as<bf16>(), c.as<bf16>()}, 1, n, true, s);
       }));
  show("fill f32", 4 * total, seconds([&](cudaStream_t s) { cuda::fill(c.as<float>(), n, 0.0f, s); }));
}

void vocabulary(std::int64_t R, std::int64_t V) {
  const auto size = " " + std::to_string(R) + " x " + std::to_string(V);
  const Buffer logits(R * V * 2), lse(R * 4), workspace(R * 4), scalars(64);
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < R; ++r) ids.push_back(static_cast<std::int32_t>(r * 7919 % V));
  const Buffer labels(R * 4);
  check(cudaMemcpy(labels.as<void>(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
  const auto total = static_cast<double>(R * V);
  show("cross_entropy bf16" + size, 2 * total, seconds([&](cudaStream_t s) {
         cuda::cross_entropy(logits.as<bf16>(), labels.as<std::int32_t>(), scalars.as<float>(),
                             scalars.as<std::int32_t>() + 1, lse.as<float>(), R, V, workspace.as<void>(), s);
       }));
  show("cross_entropy_grad bf16, in place" + size, 4 * total, seconds([&](cudaStream_t s) {
         cuda::cross_entropy_grad(logits.as<bf16>(), labels.as<std::int32_t>(), lse.as<float>(), scalars.as<float>(),
                                  logits.as<bf16>(), R, V, s);
       }));
}

void embeddings(std::int64_t R, std::int64_t C, std::int64_t V) {
  const auto size = " " + std::to_string(R) + " x " + std::to_string(C) + " of " + std::to_string(V);
  const Buffer table(V * C * 4), out(R * C * 2), ids(R * 4);
  std::vector<std::int32_t> all;
  std::uint32_t state = 5;
  for (std::int64_t r = 0; r < R; ++r) {
    state = state * 1664525u + 1013904223u;
    // A quarter of all tokens is one of sixteen, as in text.
    all.push_back(static_cast<std::int32_t>(state >> 30 == 0 ? state >> 20 & 15u : (state >> 4) % V));
  }
  check(cudaMemcpy(ids.as<void>(), all.data(), all.size() * 4, cudaMemcpyHostToDevice));
  const auto moved = static_cast<double>(R * C);
  show("embedding f32 to bf16" + size, 6 * moved, seconds([&](cudaStream_t s) {
         cuda::embedding(ids.as<std::int32_t>(), table.as<float>(), out.as<bf16>(), R, C, V, s);
       }));
  show("embedding_grad bf16" + size, 2 * moved + 4 * static_cast<double>(V * C), seconds([&](cudaStream_t s) {
         cuda::embedding_grad(ids.as<std::int32_t>(), out.as<bf16>(), table.as<float>(), R, C, V, false, s);
       }));
}

template <typename T>
void attentions(const char* type, const cuda::AttentionShape& shape) {
  const std::int64_t q_size = shape.batch * shape.sequence_q * shape.heads * shape.head_dim;
  const std::int64_t k_size = shape.batch * shape.sequence_kv * shape.kv_heads * shape.head_dim;
  const auto bytes = [](std::int64_t elements) { return elements * static_cast<std::int64_t>(sizeof(T)); };
  const Buffer q(bytes(q_size)), k(bytes(k_size)), v(bytes(k_size)), out(bytes(q_size)), d_out(bytes(q_size));
  const Buffer dq(bytes(q_size)), dk(bytes(k_size)), dv(bytes(k_size)), lse(q_size * 4);
  const Buffer workspace(static_cast<std::int64_t>(cuda::plain::attention_grad_workspace_bytes(shape)));
  const std::int32_t* none = nullptr;
  // Causal FLOPs: half of the square.
  const double flops = 2.0 * static_cast<double>(shape.batch * shape.heads * shape.head_dim) *
                       static_cast<double>(shape.sequence_q) * static_cast<double>(shape.sequence_kv);
  const auto line = [&](const char* what, double count, double time) {
    std::printf("%s %s, %lld tokens, heads of %lld: %.0f us, %.1f TFLOP/s\n", what, type,
                static_cast<long long>(shape.sequence_q), static_cast<long long>(shape.head_dim), time * 1e6,
                count / time / 1e12);
  };
  line("attention", flops, seconds([&](cudaStream_t s) {
         cuda::plain::attention(shape, q.as<T>(), k.as<T>(), v.as<T>(), none, out.as<T>(), lse.as<float>(), nullptr, s);
       }, 3));
  line("attention_grad", 2.5 * flops, seconds([&](cudaStream_t s) {
         cuda::plain::attention_grad(shape, q.as<T>(), k.as<T>(), v.as<T>(), none, out.as<T>(), lse.as<float>(),
                                     d_out.as<T>(), dq.as<T>(), dk.as<T>(), dv.as<T>(), workspace.as<void>(), s);
       }, 3));
}

}  // namespace

int main() {
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
  streams();
  for (const std::int64_t columns : {2048, 4096, 8192}) rows(32768, columns);
  rows(1048576, 128);
  vocabulary(4096, 128256);
  vocabulary(4096, 50257);
  embeddings(131072, 4096, 128256);
  for (const std::int64_t d : {64, 128}) {
    attentions<float>("f32", {1, 8192, 8192, 16, 4, d, true, 0, 0.1f, 0.0f});
    attentions<bf16>("bf16", {1, 8192, 8192, 16, 4, d, true, 0, 0.1f, 0.0f});
  }
  return 0;
}
