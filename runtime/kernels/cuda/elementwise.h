// Float mathematics for kernels and for generated loops, and packs: elements that move 16 bytes at a time.
//
// The functions are the CUDA library's accurate ones, within 2 ulp; nothing here is -use_fast_math. Call them from
// inside namespace ithaca::cuda, or one nested in it: the global namespace has functions of the same names.
#pragma once

#include <cmath>
#include <cstdint>

#include <cuda_runtime.h>

#include "ithaca/dtype.h"
#include "launch.h"

namespace ithaca::cuda {

__device__ inline float float_of(std::uint32_t bf16_bits) { return __uint_as_float(bf16_bits << 16); }

// Two floats rounded to nearest even; `low` in the lower half.
__device__ inline std::uint32_t bf16_bits(float low, float high) {
#ifdef __CUDA_ARCH__
  std::uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#elif defined(__CUDACC__)
  return 0;  // nvcc's host pass only reads this
#else
  return to_bf16(low).bits | static_cast<std::uint32_t>(to_bf16(high).bits) << 16;
#endif
}

__device__ inline float load(const float* x) { return *x; }
__device__ inline float load(const bf16* x) { return float_of(x->bits); }
__device__ inline void store(float* y, float value) { *y = value; }
__device__ inline void store(bf16* y, float value) { y->bits = static_cast<std::uint16_t>(bf16_bits(value, 0.0f)); }

// The value of x once it has been stored as T.
template <typename T>
__device__ inline float rounded(float x) {
  if constexpr (sizeof(T) == 2) return float_of(bf16_bits(x, 0.0f) & 0xffffu);
  return x;
}

__device__ inline float exp(float x) { return ::expf(x); }
__device__ inline float log(float x) { return ::logf(x); }
__device__ inline float sqrt(float x) { return ::sqrtf(x); }
__device__ inline float rsqrt(float x) { return 1.0f / ::sqrtf(x); }
__device__ inline float abs(float x) { return ::fabsf(x); }
__device__ inline float tanh(float x) { return ::tanhf(x); }
__device__ inline float erf(float x) { return ::erff(x); }
__device__ inline float relu(float x) { return x < 0.0f ? 0.0f : x; }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// silu(x) = x sigmoid(x).
__device__ inline float silu(float x) { return x / (1.0f + exp(-x)); }
__device__ inline float silu_grad(float x) {
  const float s = sigmoid(x);
  return s + s * x * (1.0f - s);
}

// gelu(x) = x Phi(x), exactly (gelu) and by tanh (gelu_tanh, "gelu_pytorch_tanh").
__device__ inline float gelu(float x) { return 0.5f * x * (1.0f + erf(x * 0.707106781186547524f)); }
__device__ inline float gelu_grad(float x) {
  const float density = 0.398942280401432678f * exp(-0.5f * x * x);
  return 0.5f * (1.0f + erf(x * 0.707106781186547524f)) + x * density;
}
__device__ inline float gelu_tanh(float x) {
  const float inner = 0.797884560802865356f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (1.0f + tanh(inner));
}
__device__ inline float gelu_tanh_grad(float x) {
  const float inner = 0.797884560802865356f * (x + 0.044715f * x * x * x);
  const float slope = 0.797884560802865356f * (1.0f + 0.134145f * x * x);
  const float t = tanh(inner);
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope;
}

// N neighbouring elements in registers, floats or integers.
template <typename V, int N>
struct Pack {
  V values[N];
  __device__ V& operator[](int i) { return values[i]; }
  __device__ const V& operator[](int i) const { return values[i]; }
};

// How many elements of T are 16 bytes.
template <typename T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));

// 16 bytes as they lie in memory, to floats and back.
template <typename T>
__device__ inline Pack<float, kWide<T>> widen(uint4 raw) {
  if constexpr (sizeof(T) == 2) {
    return {{float_of(raw.x), __uint_as_float(raw.x & 0xffff0000u), float_of(raw.y), __uint_as_float(raw.y & 0xffff0000u),
             float_of(raw.z), __uint_as_float(raw.z & 0xffff0000u), float_of(raw.w), __uint_as_float(raw.w & 0xffff0000u)}};
  } else {
    return {{__uint_as_float(raw.x), __uint_as_float(raw.y), __uint_as_float(raw.z), __uint_as_float(raw.w)}};
  }
}
template <typename T>
__device__ inline uint4 narrow(const Pack<float, kWide<T>>& p) {
  if constexpr (sizeof(T) == 2)
    return make_uint4(bf16_bits(p[0], p[1]), bf16_bits(p[2], p[3]), bf16_bits(p[4], p[5]), bf16_bits(p[6], p[7]));
  else
    return make_uint4(__float_as_uint(p[0]), __float_as_uint(p[1]), __float_as_uint(p[2]), __float_as_uint(p[3]));
}

template <typename T>
__device__ inline uint4 load_raw(const T* x) {
  return *reinterpret_cast<const uint4*>(x);
}
template <typename T>
__device__ inline void store_raw(T* y, uint4 raw) {
  *reinterpret_cast<uint4*>(y) = raw;
}

// N elements of x as floats: one by one, or 16 bytes at a time where N is a multiple of kWide, x 16-byte aligned.
template <int N, typename T>
__device__ inline Pack<float, N> load(const T* x) {
  Pack<float, N> p;
  if constexpr (N % kWide<T> == 0) {
#pragma unroll
    for (int k = 0; k < N; k += kWide<T>) {
      const auto part = widen<T>(load_raw(x + k));
#pragma unroll
      for (int i = 0; i < kWide<T>; ++i) p[k + i] = part[i];
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) p[k] = load(x + k);
  }
  return p;
}
template <int N>
__device__ inline Pack<std::int32_t, N> load(const std::int32_t* x) {
  Pack<std::int32_t, N> p;
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      const int4 part = *reinterpret_cast<const int4*>(x + k);
      p[k] = part.x, p[k + 1] = part.y, p[k + 2] = part.z, p[k + 3] = part.w;
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) p[k] = x[k];
  }
  return p;
}

template <int N, typename T>
__device__ inline void store(T* y, const Pack<float, N>& p) {
  if constexpr (N % kWide<T> == 0) {
#pragma unroll
    for (int k = 0; k < N; k += kWide<T>) {
      Pack<float, kWide<T>> part;
#pragma unroll
      for (int i = 0; i < kWide<T>; ++i) part[i] = p[k + i];
      store_raw(y + k, narrow<T>(part));
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) store(y + k, p[k]);
  }
}
template <int N>
__device__ inline void store(std::int32_t* y, const Pack<std::int32_t, N>& p) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int k = 0; k < N; k += 4)
      *reinterpret_cast<int4*>(y + k) = make_int4(p[k], p[k + 1], p[k + 2], p[k + 3]);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) y[k] = p[k];
  }
}

// The same number N times, for operands of a single element.
template <int N, typename V>
__device__ inline Pack<V, N> repeated(V value) {
  Pack<V, N> p;
#pragma unroll
  for (int k = 0; k < N; ++k) p[k] = value;
  return p;
}

// Elements that a generated loop handles at a time: 16 bytes of bf16, 32 of f32 and i32.
inline constexpr int kPack = 8;

// Calls body.run<N>(i, row, column) once for every run of N elements of [rows, columns] that begins at the flat index
// i = row * columns + column: with N = kPack, and N = 1 for what is left over. A generated loop is a struct of its
// pointers with such a member. With one row, `row` is 0.
template <typename Body, typename Index>
__global__ void run_packs(Body body, Index packs, Index columns) {
  for (auto at = static_cast<Index>(global_thread()); at < packs; at += static_cast<Index>(global_threads())) {
    const Index i = at * kPack;
    const Index row = i / columns;
    body.template run<kPack>(static_cast<std::int64_t>(i), static_cast<std::int64_t>(row),
                             static_cast<std::int64_t>(i - row * columns));
  }
}
template <typename Body, typename Index>
__global__ void run_each(Body body, Index begin, Index end, Index columns) {
  for (Index i = begin + static_cast<Index>(global_thread()); i < end; i += static_cast<Index>(global_threads())) {
    const Index row = i / columns;
    body.template run<1>(static_cast<std::int64_t>(i), static_cast<std::int64_t>(row),
                         static_cast<std::int64_t>(i - row * columns));
  }
}

// Starts a generated loop over [rows, columns]. `wide`: every array that the loop moves in packs is 16-byte aligned.
template <typename Body>
void run_loop(const char* name, const Body& body, std::int64_t rows, std::int64_t columns, bool wide,
              cudaStream_t stream) {
  constexpr int kThreads = 256;
  const std::int64_t n = rows * columns;
  const std::int64_t packs = wide && (rows == 1 || columns % kPack == 0) ? n / kPack : 0;
  const std::int64_t begin = packs * kPack;
  const auto start = [&]<typename Index>(Index) {
    const auto width = static_cast<Index>(columns);
    launch(name, run_packs<Body, Index>, blocks_for(packs, kThreads), kThreads, 0, stream, body,
           static_cast<Index>(packs), width);
    launch(name, run_each<Body, Index>, blocks_for(n - begin, kThreads), kThreads, 0, stream, body,
           static_cast<Index>(begin), static_cast<Index>(n), width);
  };
  // 32-bit divisions are several times faster; room above n for a step of the grid behind the last element.
  if (n < std::int64_t{1} << 31)
    start(std::uint32_t{});
  else
    start(std::int64_t{});
}

// Whether all pointers are 16-byte aligned.
template <typename... T>
bool wide_pointers(const T*... pointers) {
  return (aligned(pointers, 16) && ...);
}

}  // namespace ithaca::cuda
