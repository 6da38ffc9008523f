// Matrix products: dnnl_sgemm for f32; for bf16 our own on AMX, else oneDNN's primitive or conversion and dnnl_sgemm.
#include "matmul.h"

#include <dnnl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <memory>

#include "elementwise.h"
#include "ithaca/error.h"
#include "matmul_amx.h"
#include "scratch.h"

namespace ithaca::cpu {
namespace {

void check(dnnl_status_t status, const char* what) {
  if (status != dnnl_success) fail("matmul: oneDNN's ", what, " failed with status ", static_cast<int>(status));
}

// c (+)= op(a) op(b), row-major, with leading dimensions.
void sgemm(const float* a, std::int64_t lda, bool transpose_a, const float* b, std::int64_t ldb, bool transpose_b,
           float* c, std::int64_t ldc, std::int64_t M, std::int64_t N, std::int64_t K, bool accumulate) {
  check(dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, 1.0f, a, lda, b, ldb,
                   accumulate ? 1.0f : 0.0f, c, ldc),
        "dnnl_sgemm");
}

dnnl_engine_t engine() {
  static const dnnl_engine_t the_engine = [] {
    dnnl_engine_t created = nullptr;
    check(dnnl_engine_create(&created, dnnl_cpu, 0), "dnnl_engine_create");
    return created;
  }();
  return the_engine;
}

struct Shape {
  std::int64_t M, N, K;
  bool transpose_a, transpose_b, accumulate, to_float, bias;

  auto operator<=>(const Shape&) const = default;
};

#if DNNL_VERSION_MAJOR >= 3
using Descriptor = dnnl_memory_desc_t;
#else
using Descriptor = const dnnl_memory_desc_t*;
#endif

// A bf16 product of one shape, ready to run on the thread that made it.
class Bf16Product {
 public:
  explicit Bf16Product(const Shape& s) {
    check(dnnl_stream_create(&stream_, engine(), dnnl_stream_default_flags), "dnnl_stream_create");
    dnnl_primitive_attr_t attributes = nullptr;
    check(dnnl_primitive_attr_create(&attributes), "dnnl_primitive_attr_create");
    check(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user), "scratchpad mode");
    if (s.accumulate) {
      dnnl_post_ops_t sum = nullptr;
      check(dnnl_post_ops_create(&sum), "dnnl_post_ops_create");
#if DNNL_VERSION_MAJOR >= 3
      check(dnnl_post_ops_append_sum(sum, 1.0f, 0, dnnl_data_type_undef), "dnnl_post_ops_append_sum");
#else
      check(dnnl_post_ops_append_sum(sum, 1.0f), "dnnl_post_ops_append_sum");
#endif
      check(dnnl_primitive_attr_set_post_ops(attributes, sum), "dnnl_primitive_attr_set_post_ops");
      dnnl_post_ops_destroy(sum);
    }
    const dnnl_data_type_t to = s.to_float ? dnnl_f32 : dnnl_bf16;
    const std::int64_t a_strides[] = {s.transpose_a ? 1 : s.K, s.transpose_a ? s.M : 1};
    const std::int64_t b_strides[] = {s.transpose_b ? 1 : s.N, s.transpose_b ? s.K : 1};
    const std::int64_t c_strides[] = {s.N, 1};
    describe(0, DNNL_ARG_SRC, s.M, s.K, dnnl_bf16, a_strides);
    describe(1, DNNL_ARG_WEIGHTS, s.K, s.N, dnnl_bf16, b_strides);
    describe(2, DNNL_ARG_DST, s.M, s.N, to, c_strides);
    if (s.bias) describe(3, DNNL_ARG_BIAS, 1, s.N, dnnl_bf16, c_strides);
    dnnl_primitive_desc_t description = nullptr;
#if DNNL_VERSION_MAJOR >= 3
    check(dnnl_matmul_primitive_desc_create(&description, engine(), descriptors_[0], descriptors_[1],
                                            s.bias ? descriptors_[3] : nullptr, descriptors_[2], attributes),
          "dnnl_matmul_primitive_desc_create");
#else
    dnnl_matmul_desc_t operation;
    check(dnnl_matmul_desc_init(&operation, &descriptors_[0], &descriptors_[1], s.bias ? &descriptors_[3] : nullptr,
                                &descriptors_[2]),
          "dnnl_matmul_desc_init");
    check(dnnl_primitive_desc_create(&description, &operation, attributes, engine(), nullptr),
          "dnnl_primitive_desc_create");
#endif
    check(dnnl_primitive_create(&primitive_, description), "dnnl_primitive_create");
#if DNNL_VERSION_MAJOR >= 3
    const Descriptor scratchpad = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
    scratchpad_bytes_ = dnnl_memory_desc_get_size(scratchpad);
#else
    const Descriptor scratchpad = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
    scratchpad_bytes_ = dnnl_memory_desc_get_size(scratchpad);
#endif
    add(DNNL_ARG_SCRATCHPAD, scratchpad);
    dnnl_primitive_desc_destroy(description);
    dnnl_primitive_attr_destroy(attributes);
  }

  Bf16Product(const Bf16Product&) = delete;
  Bf16Product& operator=(const Bf16Product&) = delete;

  ~Bf16Product() {
    for (int i = 0; i < count_; ++i) dnnl_memory_destroy(arguments_[i].memory);
#if DNNL_VERSION_MAJOR >= 3
    for (const Descriptor descriptor : descriptors_)
      if (descriptor != nullptr) dnnl_memory_desc_destroy(descriptor);
#endif
    dnnl_primitive_destroy(primitive_);
    dnnl_stream_destroy(stream_);
  }

  void run(const void* a, const void* b, void* c, const void* bias) {
    for (int i = 0; i < count_; ++i) {
      const int arg = arguments_[i].arg;
      const void* data = arg == DNNL_ARG_SRC       ? a
                         : arg == DNNL_ARG_WEIGHTS ? b
                         : arg == DNNL_ARG_DST     ? c
                         : arg == DNNL_ARG_BIAS    ? bias
                                                   : thread_scratch().at_least(scratchpad_bytes_);
      check(dnnl_memory_set_data_handle(arguments_[i].memory, const_cast<void*>(data)), "set_data_handle");
    }
    check(dnnl_primitive_execute(primitive_, stream_, count_, arguments_.data()), "dnnl_primitive_execute");
    check(dnnl_stream_wait(stream_), "dnnl_stream_wait");
  }

 private:
  void describe(int at, int arg, std::int64_t rows, std::int64_t columns, dnnl_data_type_t type,
                const std::int64_t* strides) {
    const dnnl_dims_t dims = {rows, columns};
    const dnnl_dims_t steps = {strides[0], strides[1]};
#if DNNL_VERSION_MAJOR >= 3
    check(dnnl_memory_desc_create_with_strides(&descriptors_[at], 2, dims, type, steps), "memory descriptor");
    add(arg, descriptors_[at]);
#else
    check(dnnl_memory_desc_init_by_strides(&descriptors_[at], 2, dims, type, steps), "memory descriptor");
    add(arg, &descriptors_[at]);
#endif
  }

  void add(int arg, Descriptor descriptor) {
    dnnl_memory_t memory = nullptr;
    check(dnnl_memory_create(&memory, descriptor, engine(), DNNL_MEMORY_NONE), "dnnl_memory_create");
    arguments_[count_++] = {arg, memory};
  }

  dnnl_stream_t stream_ = nullptr;
  dnnl_primitive_t primitive_ = nullptr;
  std::array<dnnl_memory_desc_t, 4> descriptors_{};
  std::array<dnnl_exec_arg_t, 5> arguments_{};
  int count_ = 0;
  std::size_t scratchpad_bytes_ = 0;
};

// Copies a block [rows, columns] of a matrix with leading dimension ld into f32.
void widen(const bf16* from, std::int64_t ld, float* to, std::int64_t rows, std::int64_t columns) {
#pragma omp parallel for schedule(static)
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) to[r * columns + c] = from[r * ld + c];
}

template <typename O>
void matmul_widened(const bf16* a, const bf16* b, O* c, const Shape& s, const bf16* bias) {
  constexpr std::int64_t kBlock = 1024;  // 4 MiB of f32 for each of a, b and c
  auto* scratch = static_cast<float*>(thread_scratch().at_least(3 * kBlock * kBlock * sizeof(float)));
  float* wide_a = scratch;
  float* wide_b = scratch + kBlock * kBlock;
  float* wide_c = scratch + 2 * kBlock * kBlock;
  for (std::int64_t m = 0; m < s.M; m += kBlock) {
    const std::int64_t rows = std::min(kBlock, s.M - m);
    for (std::int64_t n = 0; n < s.N; n += kBlock) {
      const std::int64_t columns = std::min(kBlock, s.N - n);
      for (std::int64_t k = 0; k < s.K; k += kBlock) {
        const std::int64_t depth = std::min(kBlock, s.K - k);
        if (s.transpose_a)
          widen(a + k * s.M + m, s.M, wide_a, depth, rows);
        else
          widen(a + m * s.K + k, s.K, wide_a, rows, depth);
        if (s.transpose_b)
          widen(b + n * s.K + k, s.K, wide_b, columns, depth);
        else
          widen(b + k * s.N + n, s.N, wide_b, depth, columns);
        sgemm(wide_a, s.transpose_a ? rows : depth, s.transpose_a, wide_b, s.transpose_b ? depth : columns,
              s.transpose_b, wide_c, columns, rows, columns, depth, k > 0);
      }
#pragma omp parallel for schedule(static)
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = 0; i < columns; ++i) {
          O* to = c + (m + r) * s.N + n + i;
          float value = wide_c[r * columns + i];
          if (s.bias) value += bias[n + i];
          if (s.accumulate) value += load(to);
          store(to, value);
        }
    }
  }
}

Bf16Products available() {
  if (matmul_amx_available()) return Bf16Products::amx;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bf16")) return Bf16Products::dot;
#endif
  return Bf16Products::f32;
}

std::atomic<Bf16Products> allowed_products = Bf16Products::amx;

void product(const float* a, const float* b, float* c, const Shape& s, const float* bias) {
  bool add = s.accumulate;
  if (s.bias) {
#pragma omp parallel for schedule(static)
    for (std::int64_t m = 0; m < s.M; ++m) {
      float* row = c + m * s.N;
      for (std::int64_t n = 0; n < s.N; ++n) row[n] = s.accumulate ? row[n] + bias[n] : bias[n];
    }
    add = true;
  }
  sgemm(a, s.transpose_a ? s.M : s.K, s.transpose_a, b, s.transpose_b ? s.K : s.N, s.transpose_b, c, s.N, s.M, s.N,
        s.K, add);
}

template <typename O>
void product(const bf16* a, const bf16* b, O* c, const Shape& s, const bf16* bias) {
  switch (matmul_products()) {
    case Bf16Products::amx:
      return matmul_amx(a, b, c, s.M, s.N, s.K, s.transpose_a, s.transpose_b, s.accumulate, bias);
    case Bf16Products::f32: return matmul_widened(a, b, c, s, bias);
    case Bf16Products::dot: break;
  }
  // Per thread: a primitive holds its arguments while it runs. oneDNN itself shares the compiled code.
  static thread_local std::map<Shape, std::unique_ptr<Bf16Product>> ready;
  std::unique_ptr<Bf16Product>& prepared = ready[s];
  if (!prepared) prepared = std::make_unique<Bf16Product>(s);
  prepared->run(a, b, c, bias);
}

}  // namespace

template <typename T, typename O>
void matmul(const T* a, const T* b, O* c, std::int64_t M, std::int64_t N, std::int64_t K, bool transpose_a,
            bool transpose_b, bool accumulate, const T* bias) {
  if (M == 0 || N == 0) return;
  if (K == 0) fail("matmul: [", M, ", 0] x [0, ", N, "] has nothing to sum over");
  constexpr bool to_float = sizeof(O) == sizeof(float);
  product(a, b, c, Shape{M, N, K, transpose_a, transpose_b, accumulate, to_float, bias != nullptr}, bias);
}

Bf16Products matmul_products() {
  static const Bf16Products most = available();
  return std::min(most, allowed_products.load(std::memory_order_relaxed));
}

void matmul_use(Bf16Products most) { allowed_products = most; }

#define ITHACA_INSTANTIATE(T, O) \
  template void matmul(const T*, const T*, O*, std::int64_t, std::int64_t, std::int64_t, bool, bool, bool, const T*);
ITHACA_INSTANTIATE(float, float)
ITHACA_INSTANTIATE(bf16, bf16)
ITHACA_INSTANTIATE(bf16, float)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cpu
