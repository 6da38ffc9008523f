// A check on a real GPU: products and attention by NVIDIA's libraries beside sums in double, and how fast they are.
//
// Build and run (CUDNN and CUBLAS are folders with include/ and lib/, of a wheel or a toolkit; `-l:libcudnn.so.9`
// because wheels have no other name):
//   nvcc -std=c++20 -O3 -arch=native -Xcompiler -fopenmp -Iruntime/include -Iruntime/kernels -I$CUDNN/include
//     -I$CUBLAS/include test/cuda/gpu_libraries.cc
//     runtime/kernels/cuda/{libraries,matmul,attention_cudnn,attention_graphs,dnn_graph}.cc
//     runtime/kernels/cuda/{copy,documents,launch}.cu -o /tmp/gpu_libraries -L$CUDNN/lib -L$CUBLAS/lib
//     -l:libcudnn.so.9 -l:libcublasLt.so.13 -Xlinker -rpath=$CUDNN/lib:$CUBLAS/lib && /tmp/gpu_libraries
// Exits with 1 if an error is above its bound.
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn_graph.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "cuda/attention_cudnn.h"
#include "cuda/matmul.h"
#include "ithaca/error.h"

namespace {

using namespace ithaca;
using namespace ithaca::cuda;

int failures = 0;

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) fail(call, ": ", cudaGetErrorString(status));
}

// Memory of the device, with 0xff behind its end, so that what is never written is NaN.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) : bytes_(bytes) {
    check(cudaMalloc(&data_, bytes + kGuard), "cudaMalloc");
    check(cudaMemset(data_, 0xff, bytes + kGuard), "cudaMemset");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  bool guard_is_whole() const {
    std::vector<unsigned char> guard(kGuard);
    check(cudaMemcpy(guard.data(), static_cast<char*>(data_) + bytes_, kGuard, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return std::all_of(guard.begin(), guard.end(), [](unsigned char byte) { return byte == 0xff; });
  }

 private:
  static constexpr std::size_t kGuard = 4096;
  std::size_t bytes_;
  void* data_ = nullptr;
};

// The same values on both sides.
template <typename T>
struct Tensor {
  std::vector<T> host;
  DeviceMemory device;

  explicit Tensor(std::int64_t count)
      : host(static_cast<std::size_t>(count)), device(static_cast<std::size_t>(count) * sizeof(T)) {}
  T* data() const { return device.as<T>(); }
  double at(std::int64_t i) const { return host[static_cast<std::size_t>(i)]; }

  void randomize(std::uint64_t seed, float scale = 1.0f) {
    const auto count = static_cast<std::int64_t>(host.size());
#pragma omp parallel for
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint64_t x = (static_cast<std::uint64_t>(i) + 1) * 0x9e3779b97f4a7c15u + seed;
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
      x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
      const float sum = static_cast<float>(x & 0xffff) + static_cast<float>((x >> 16) & 0xffff) +
                        static_cast<float>((x >> 32) & 0xffff) - 98304.0f;
      host[static_cast<std::size_t>(i)] = from_float<T>(scale * sum / 32768.0f);  // variance 1
    }
    send();
  }
  void send() {
    check(cudaMemcpy(data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  void fetch() {
    check(cudaMemcpy(host.data(), data(), host.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
  }
};

// The largest difference, relative to the largest expected value. NaN counts as infinite.
class Distance {
 public:
  void add(double got, double expected) {
    const double difference = std::abs(got - expected);
    most_ = std::isfinite(difference) ? std::max(most_, difference) : INFINITY;
    scale_ = std::max(scale_, std::abs(expected));
  }
  double value() const { return most_ / std::max(scale_, 1e-30); }

 private:
  double most_ = 0, scale_ = 0;
};

std::string shown(const char* name, const Distance& error, double bound) {
  char text[64];
  const bool bad = !(error.value() <= bound);
  std::snprintf(text, sizeof text, " %s %.1e%s", name, error.value(), bad ? " TOO MUCH" : "");
  failures += bad;
  return text;
}

double milliseconds(cudaStream_t stream, int times, const std::function<void()>& run) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  check(cudaEventRecord(begin, stream), "cudaEventRecord");
  for (int i = 0; i < times; ++i) run();
  check(cudaEventRecord(end, stream), "cudaEventRecord");
  check(cudaEventSynchronize(end), "cudaEventSynchronize");
  float time = 0;
  check(cudaEventElapsedTime(&time, begin, end), "cudaEventElapsedTime");
  return static_cast<double>(time) / times;
}

template <typename T, typename O>
void check_matmul(Libraries& libraries, cudaStream_t stream, std::int64_t M, std::int64_t N, std::int64_t K,
                  bool transpose_a, bool transpose_b, bool accumulate, double bound) {
  Tensor<T> a(M * K), b(K * N);
  Tensor<O> c(M * N), before(M * N);
  const DeviceMemory workspace(kMatmulWorkspaceBytes);
  a.randomize(1);
  b.randomize(2);
  c.randomize(3);
  before.host = c.host;
  const auto run = [&] {
    matmul(libraries, a.data(), b.data(), c.data(), M, N, K, transpose_a, transpose_b, accumulate,
           workspace.as<void>(), kMatmulWorkspaceBytes, stream);
  };
  run();
  check(cudaStreamSynchronize(stream), "matmul");
  c.fetch();
  Distance error;
  for (int sample = 0; sample < 200; ++sample) {
    const std::int64_t m = sample * 7919 % M, n = sample * 104729 % N;
    double sum = accumulate ? before.at(m * N + n) : 0;
    for (std::int64_t k = 0; k < K; ++k)
      sum += a.at(transpose_a ? k * M + m : m * K + k) * b.at(transpose_b ? n * K + k : k * N + n);
    error.add(c.at(m * N + n), sum);
  }
  const double time = milliseconds(stream, 20, run);
  const std::string line = shown("error", error, bound);
  const bool whole = workspace.guard_is_whole() && c.device.guard_is_whole();
  failures += !whole;
  std::printf("matmul %s->%s %6ld x %6ld x %6ld %c%c%s:%s, %.3f ms, %.1f TFLOP/s%s\n",
              sizeof(T) == 2 ? "bf16" : "f32", sizeof(O) == 2 ? "bf16" : "f32", static_cast<long>(M),
              static_cast<long>(N), static_cast<long>(K), transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N',
              accumulate ? "+" : " ", line.c_str(), time,
              2e-9 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K) / time,
              whole ? "" : ", WROTE BEHIND ITS END");
}

struct Attention {
  AttentionShape s;
  Tensor<bf16> q, k, v, out, d_out, dq, dk, dv;
  Tensor<float> lse;
  Tensor<std::int32_t> segments;
  bool packed;

  explicit Attention(const AttentionShape& shape, bool has_documents)
      : s(shape),
        q(queries()), k(keys()), v(keys()), out(queries()), d_out(queries()), dq(queries()), dk(keys()), dv(keys()),
        lse(s.batch * s.sequence_q * s.heads), segments(s.batch * s.sequence_q), packed(has_documents) {
    // Documents of 1, 2, 4, ... 1024 tokens, again and again, elsewhere in each sample.
    std::int32_t segment = 0;
    for (std::int64_t i = 0, left = 7; i < s.batch * s.sequence_q; ++i) {
      if (i % s.sequence_q == 0) segment = 0;
      segments.host[static_cast<std::size_t>(i)] = segment;
      if (--left > 0) continue;
      left = std::int64_t{1} << ++segment % 11;
    }
    segments.send();
  }
  const std::int32_t* segments_or_null() const { return packed ? segments.data() : nullptr; }
  std::int64_t queries() const { return s.batch * s.sequence_q * s.heads * s.head_dim; }
  std::int64_t keys() const { return s.batch * s.sequence_kv * s.kv_heads * s.head_dim; }
  std::int64_t row(std::int64_t b, std::int64_t i, std::int64_t h) const { return (b * s.sequence_q + i) * s.heads + h; }
  std::int64_t key_row(std::int64_t b, std::int64_t j, std::int64_t g) const {
    return (b * s.sequence_kv + j) * s.kv_heads + g;
  }
  bool sees(std::int64_t b, std::int64_t i, std::int64_t j) const {
    const auto segment = [&](std::int64_t place) { return segments.at(b * s.sequence_q + place); };
    return !(packed && segment(i) != segment(j)) && !(s.causal && j > i) && !(s.window > 0 && i - j >= s.window);
  }
  double dot(const Tensor<bf16>& x, std::int64_t x_row, const Tensor<bf16>& y, std::int64_t y_row) const {
    double sum = 0;
    for (std::int64_t d = 0; d < s.head_dim; ++d) sum += x.at(x_row * s.head_dim + d) * y.at(y_row * s.head_dim + d);
    return sum;
  }
};

struct Errors {
  Distance out, lse, dq, dk, dv;
};

// One query: its output, log-sum-exp and dq. Weights are taken from the scores, never from what is checked.
void check_query(const Attention& t, std::int64_t b, std::int64_t i, std::int64_t h, Errors& errors) {
  const AttentionShape& s = t.s;
  const std::int64_t D = s.head_dim, g = h / (s.heads / s.kv_heads), row = t.row(b, i, h);
  std::vector<double> weights(static_cast<std::size_t>(s.sequence_kv));
  double highest = -INFINITY, sum = 0;
  for (std::int64_t j = 0; j < s.sequence_kv; ++j) {
    double& weight = weights[static_cast<std::size_t>(j)];
    weight = t.sees(b, i, j) ? s.scale * t.dot(t.q, row, t.k, t.key_row(b, j, g)) : -INFINITY;
    highest = std::max(highest, weight);
  }
  for (double& weight : weights) sum += weight = std::exp(weight - highest);
  errors.lse.add(t.lse.at(row), highest + std::log(sum));
  std::vector<double> out(static_cast<std::size_t>(D)), dq(out);
  for (std::int64_t j = 0; j < s.sequence_kv; ++j)
    for (std::int64_t d = 0; d < D; ++d)
      out[static_cast<std::size_t>(d)] +=
          weights[static_cast<std::size_t>(j)] / sum * t.v.at(t.key_row(b, j, g) * D + d);
  double centre = 0;
  for (std::int64_t d = 0; d < D; ++d) {
    errors.out.add(t.out.at(row * D + d), out[static_cast<std::size_t>(d)]);
    centre += out[static_cast<std::size_t>(d)] * t.d_out.at(row * D + d);
  }
  for (std::int64_t j = 0; j < s.sequence_kv; ++j) {
    if (!t.sees(b, i, j)) continue;
    const double d_score = weights[static_cast<std::size_t>(j)] / sum * s.scale *
                           (t.dot(t.d_out, row, t.v, t.key_row(b, j, g)) - centre);
    for (std::int64_t d = 0; d < D; ++d)
      dq[static_cast<std::size_t>(d)] += d_score * t.k.at(t.key_row(b, j, g) * D + d);
  }
  for (std::int64_t d = 0; d < D; ++d) errors.dq.add(t.dq.at(row * D + d), dq[static_cast<std::size_t>(d)]);
}

// One key: dk and dv. Here the log-sum-exps and outputs are those of the device, which check_query has checked.
void check_key(const Attention& t, std::int64_t b, std::int64_t j, std::int64_t g, Errors& errors) {
  const AttentionShape& s = t.s;
  const std::int64_t D = s.head_dim, group = s.heads / s.kv_heads, key = t.key_row(b, j, g);
  std::vector<double> dk(static_cast<std::size_t>(D)), dv(dk);
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h)
    for (std::int64_t i = 0; i < s.sequence_q; ++i) {
      if (!t.sees(b, i, j)) continue;
      const std::int64_t row = t.row(b, i, h);
      const double weight = std::exp(s.scale * t.dot(t.q, row, t.k, key) - t.lse.at(row));
      const double d_score =
          weight * s.scale * (t.dot(t.d_out, row, t.v, key) - t.dot(t.d_out, row, t.out, row));
      for (std::int64_t d = 0; d < D; ++d) {
        dk[static_cast<std::size_t>(d)] += d_score * t.q.at(row * D + d);
        dv[static_cast<std::size_t>(d)] += weight * t.d_out.at(row * D + d);
      }
    }
  for (std::int64_t d = 0; d < D; ++d) {
    errors.dk.add(t.dk.at(key * D + d), dk[static_cast<std::size_t>(d)]);
    errors.dv.add(t.dv.at(key * D + d), dv[static_cast<std::size_t>(d)]);
  }
}

void check_attention(Libraries& libraries, cudaStream_t stream, const AttentionShape& s, bool packed = false) {
  if (!cudnn_attention_supported(s, packed)) fail("a shape of this check is not supported");
  Attention t(s, packed);
  const std::size_t forward_bytes = attention_workspace_bytes(s), backward_bytes = attention_grad_workspace_bytes(s);
  const DeviceMemory forward(forward_bytes), backward(backward_bytes);
  std::uint64_t seed = 10;
  for (Tensor<bf16>* tensor : {&t.q, &t.k, &t.v, &t.d_out}) tensor->randomize(seed++);
  const auto run_forward = [&] {
    attention(libraries, s, t.q.data(), t.k.data(), t.v.data(), t.segments_or_null(), t.out.data(),
              t.lse.data(), forward.as<void>(), stream);
  };
  const auto run_backward = [&] {
    attention_grad(libraries, s, t.q.data(), t.k.data(), t.v.data(), t.segments_or_null(), t.out.data(), t.lse.data(), t.d_out.data(),
                   t.dq.data(), t.dk.data(), t.dv.data(), backward.as<void>(), stream);
  };
  run_forward();
  run_backward();
  check(cudaStreamSynchronize(stream), "attention");
  for (Tensor<bf16>* tensor : {&t.out, &t.dq, &t.dk, &t.dv}) tensor->fetch();
  t.lse.fetch();
  constexpr int kSamples = 24;
  std::vector<Errors> each(kSamples);
#pragma omp parallel for schedule(dynamic)
  for (int sample = 0; sample < kSamples; ++sample) {
    const std::int64_t b = sample % s.batch, h = sample * 5 % s.heads;
    const std::int64_t i = sample == 0 ? 0 : sample == 1 ? s.sequence_q - 1 : sample * 7919 % s.sequence_q;
    check_query(t, b, i, h, each[static_cast<std::size_t>(sample)]);
    check_key(t, b, sample == 0 ? 0 : sample == 1 ? s.sequence_kv - 1 : sample * 7919 % s.sequence_kv,
              h / (s.heads / s.kv_heads), each[static_cast<std::size_t>(sample)]);
  }
  std::string line;
  const auto most = [&](const char* name, Distance Errors::*which, double bound) {
    const auto worst = std::max_element(each.begin(), each.end(), [&](const Errors& x, const Errors& y) {
      return (x.*which).value() < (y.*which).value();
    });
    line += shown(name, (*worst).*which, bound);
  };
  most("out", &Errors::out, 2e-2);
  most("lse", &Errors::lse, 1e-4);
  most("dq", &Errors::dq, 4e-2);
  most("dk", &Errors::dk, 4e-2);
  most("dv", &Errors::dv, 4e-2);
  const double forward_time = milliseconds(stream, 5, run_forward), backward_time = milliseconds(stream, 5, run_backward);
  const bool whole = forward.guard_is_whole() && backward.guard_is_whole() && t.dk.device.guard_is_whole();
  failures += !whole;
  const auto length = static_cast<double>(s.sequence_kv);
  const double keys = s.window > 0 && s.window < s.sequence_kv ? static_cast<double>(s.window)
                                                               : s.causal ? length / 2 : length;
  const double flops = 4e-9 * static_cast<double>(s.batch * s.heads * s.sequence_q * s.head_dim) * keys;
  std::printf("attention B%ld S%-6ld H%ld/%ld D%ld%s%s W%ld:%s; forward %.3f ms, %.0f TFLOP/s; backward %.3f ms, %.0f "
              "TFLOP/s; workspace %.0f and %.0f MiB%s\n",
              static_cast<long>(s.batch), static_cast<long>(s.sequence_q), static_cast<long>(s.heads),
              static_cast<long>(s.kv_heads), static_cast<long>(s.head_dim), s.causal ? " causal" : "", packed ? " packed" : "",
              static_cast<long>(s.window), line.c_str(), forward_time, flops / forward_time, backward_time,
              2.5 * flops / backward_time, static_cast<double>(forward_bytes) / (1 << 20),
              static_cast<double>(backward_bytes) / (1 << 20), whole ? "" : ", WROTE BEHIND ITS END");
  std::fflush(stdout);
}

AttentionShape shape(std::int64_t batch, std::int64_t sequence, std::int64_t heads, std::int64_t kv_heads,
                     std::int64_t head_dim, bool causal = true, std::int64_t window = 0) {
  return {batch, sequence, sequence, heads, kv_heads, head_dim, causal, window,
          1.0f / std::sqrt(static_cast<float>(head_dim)), 0.0f};
}

void run() {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  std::printf("%s, cuDNN %zu, cuBLASLt %zu\n", device.name, cudnnGetVersion(), cublasLtGetVersion());
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  Libraries libraries;
  // Forward (NT), input's gradient (NN) and weight's gradient (TN) of layers of Llama-3.2-1B at 8192 tokens.
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{2048, 2048}, {8192, 2048}, {2048, 8192}}) {
    check_matmul<bf16, bf16>(libraries, stream, 8192, out, in, false, true, false, 8e-3);
    check_matmul<bf16, bf16>(libraries, stream, 8192, in, out, false, false, false, 8e-3);
    check_matmul<bf16, bf16>(libraries, stream, in, out, 8192, true, false, false, 8e-3);
    check_matmul<bf16, float>(libraries, stream, in, out, 8192, true, false, true, 1e-5);
  }
  check_matmul<bf16, bf16>(libraries, stream, 2048, 128256, 2048, false, true, false, 8e-3);
  check_matmul<bf16, float>(libraries, stream, 2048, 128256, 2048, false, true, false, 1e-5);
  check_matmul<bf16, float>(libraries, stream, 128256, 2048, 2048, true, false, true, 1e-5);
  check_matmul<bf16, bf16>(libraries, stream, 37, 53, 41, false, true, false, 8e-3);
  check_matmul<bf16, float>(libraries, stream, 37, 53, 41, true, false, true, 1e-5);
  for (const bool a : {false, true})
    for (const bool b : {false, true}) check_matmul<float, float>(libraries, stream, 1000, 520, 300, a, b, a, 1e-5);
  check_matmul<float, float>(libraries, stream, 2048, 2048, 2048, false, true, false, 1e-5);

  for (const AttentionShape& s :
       {shape(1, 512, 8, 8, 64), shape(2, 512, 8, 2, 64), shape(2, 1000, 8, 2, 128), shape(1, 777, 4, 1, 64),
        shape(1, 1, 4, 2, 64), shape(3, 100, 6, 3, 32), shape(2, 640, 8, 2, 128, false), shape(2, 1024, 8, 2, 64, true, 100),
        shape(1, 4096, 32, 8, 64, true, 1024), shape(1, 8191, 8, 2, 128), shape(1, 4096, 32, 8, 64),
        shape(1, 8192, 32, 8, 128), shape(1, 32768, 32, 8, 64), shape(1, 32768, 32, 8, 128),
        shape(1, 131072, 8, 2, 128)})
    check_attention(libraries, stream, s);
  for (const AttentionShape& s : {shape(2, 1000, 8, 2, 64), shape(1, 8192, 32, 8, 128), shape(1, 4096, 8, 2, 64, true, 100),
                                  shape(1, 8192, 32, 8, 128, true, 1024)})
    check_attention(libraries, stream, s, true);
}

}  // namespace

int main() {
  try {
    run();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
