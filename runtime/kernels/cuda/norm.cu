// Root mean square normalisation: rows stay in registers between the sum and its use.
#include "norm.h"

#include "block_sums.h"
#include "elementwise.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

// How many threads share a row, how many rows share a block, and how many 16-byte packs a thread holds.
struct RowShape {
  int threads, rows, packs;
};

// The sum over the threads of a row: a warp has its row to itself, more threads have the block.
template <int N>
__device__ void row_sums(float (&values)[N], int turn) {
  if (blockDim.x > 32) {
    block_sums(values, turn);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = warp_sum(values[i]);
  }
}

__device__ inline float inverse_root(float squares, std::int64_t columns, float eps) {
  return rsqrt(squares / static_cast<float>(columns) + eps);
}

template <typename T, int PACKS>
__global__ void rms_norm_rows(const T* x, const T* w, T* y, std::int64_t rows, int columns, float eps) {
  constexpr int N = kWide<T>;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const T* from = x + row * columns;
  T* to = y + row * columns;
  uint4 held[PACKS];
  float squares[1] = {0.0f};
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const int c = static_cast<int>(p * blockDim.x + threadIdx.x) * N;
    held[p] = c < columns ? load_raw(from + c) : uint4{};
  }
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const auto values = widen<T>(held[p]);
#pragma unroll
    for (int i = 0; i < N; ++i) squares[0] += values[i] * values[i];
  }
  row_sums(squares, 0);
  const float inverse = inverse_root(squares[0], columns, eps);
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const int c = static_cast<int>(p * blockDim.x + threadIdx.x) * N;
    if (c >= columns) break;
    auto values = widen<T>(held[p]);
    const auto weights = load<N>(w + c);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = weights[i] * rounded<T>(values[i] * inverse);
    store<N>(to + c, values);
  }
}

// Rows of any length and alignment, read twice.
template <typename T>
__global__ void rms_norm_any(const T* x, const T* w, T* y, std::int64_t rows, std::int64_t columns, float eps) {
  int turn = 0;
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * columns;
    float squares[1] = {0.0f};
    for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) squares[0] += load(from + c) * load(from + c);
    block_sums(squares, turn);
    turn = 1 - turn;
    const float inverse = inverse_root(squares[0], columns, eps);
    for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x)
      store(y + row * columns + c, load(w + c) * rounded<T>(load(from + c) * inverse));
  }
}

// A block sums dw over its own rows in registers; the row that comes next is on its way while one is worked on.
template <typename T, int PACKS>
__global__ void __launch_bounds__(512)
    rms_norm_grad_rows(const T* x, const T* w, const T* dy, T* dx, float* partial, std::int64_t rows,
                       std::int64_t row_blocks, int columns, float eps) {
  constexpr int N = kWide<T>;
  const std::int64_t begin = blockIdx.x * rows / row_blocks, end = (blockIdx.x + 1) * rows / row_blocks;
  float sums[PACKS][N] = {};
  uint4 next_x[PACKS], next_d[PACKS];
  const auto fetch = [&](std::int64_t row) {
#pragma unroll
    for (int p = 0; p < PACKS; ++p) {
      const int c = static_cast<int>(p * blockDim.x + threadIdx.x) * N;
      const bool inside = row < end && c < columns;
      next_x[p] = inside ? load_raw(x + row * columns + c) : uint4{};
      next_d[p] = inside ? load_raw(dy + row * columns + c) : uint4{};
    }
  };
  fetch(begin + threadIdx.y);
  int turn = 0;
  for (std::int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
    uint4 own_x[PACKS], own_d[PACKS];
    float both[2] = {0.0f, 0.0f};  // squares, and dy * w * x
#pragma unroll
    for (int p = 0; p < PACKS; ++p) own_x[p] = next_x[p], own_d[p] = next_d[p];
    fetch(row + blockDim.y);
#pragma unroll
    for (int p = 0; p < PACKS; ++p) {
      const int c = static_cast<int>(p * blockDim.x + threadIdx.x) * N;
      if (c >= columns) break;
      const auto xs = widen<T>(own_x[p]), ds = widen<T>(own_d[p]);
      const auto weights = load<N>(w + c);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        both[0] += xs[i] * xs[i];
        both[1] += ds[i] * weights[i] * xs[i];
      }
    }
    row_sums(both, turn);
    turn = 1 - turn;
    const float inverse = inverse_root(both[0], columns, eps);
    // d/dx of x_hat = x * inverse: inverse * (d - x_hat * mean(d * x_hat)).
    const float pull = both[1] * inverse * inverse / static_cast<float>(columns);
#pragma unroll
    for (int p = 0; p < PACKS; ++p) {
      const int c = static_cast<int>(p * blockDim.x + threadIdx.x) * N;
      if (c >= columns) break;
      auto xs = widen<T>(own_x[p]);
      const auto ds = widen<T>(own_d[p]);
      const auto weights = load<N>(w + c);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        sums[p][i] += ds[i] * rounded<T>(xs[i] * inverse);
        xs[i] = inverse * (ds[i] * weights[i] - xs[i] * pull);
      }
      store<N>(dx + row * columns + c, xs);
    }
  }
  // Where every warp has rows of its own, the first one adds the others' sums in order.
  auto* shared = dynamic_shared<float>();
  if (blockDim.y > 1) {
#pragma unroll
    for (int p = 0; p < PACKS; ++p)
#pragma unroll
      for (int i = 0; i < N; ++i) shared[((threadIdx.y * PACKS + p) * N + i) * 32 + threadIdx.x] = sums[p][i];
    __syncthreads();
    if (threadIdx.y > 0) return;
    for (unsigned from = 1; from < blockDim.y; ++from)
#pragma unroll
      for (int p = 0; p < PACKS; ++p)
#pragma unroll
        for (int i = 0; i < N; ++i) sums[p][i] += shared[((from * PACKS + p) * N + i) * 32 + threadIdx.x];
  }
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const int c = static_cast<int>(p * blockDim.x + threadIdx.x) * N;
    if (c >= columns) break;
#pragma unroll
    for (int i = 0; i < N; ++i) partial[static_cast<std::int64_t>(blockIdx.x) * columns + c + i] = sums[p][i];
  }
}

// Rows of any length and alignment; a thread owns its columns of the partial sums, which stay in the cache.
template <typename T>
__global__ void rms_norm_grad_any(const T* x, const T* w, const T* dy, T* dx, float* partial, std::int64_t rows,
                                  std::int64_t row_blocks, std::int64_t columns, float eps) {
  float* sums = partial + blockIdx.x * columns;
  for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) sums[c] = 0.0f;
  const std::int64_t end = (blockIdx.x + 1) * rows / row_blocks;
  int turn = 0;
  for (std::int64_t row = blockIdx.x * rows / row_blocks; row < end; ++row) {
    const T* xr = x + row * columns;
    const T* dyr = dy + row * columns;
    float both[2] = {0.0f, 0.0f};
    for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
      both[0] += load(xr + c) * load(xr + c);
      both[1] += load(dyr + c) * load(w + c) * load(xr + c);
    }
    block_sums(both, turn);
    turn = 1 - turn;
    const float inverse = inverse_root(both[0], columns, eps);
    const float pull = both[1] * inverse * inverse / static_cast<float>(columns);
    for (std::int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
      const float d = load(dyr + c);
      const float xc = load(xr + c);
      sums[c] += d * rounded<T>(xc * inverse);
      store(dx + row * columns + c, inverse * (d * load(w + c) - xc * pull));
    }
  }
}

constexpr int kAnyThreads = 256;

template <typename T, int PACKS>
void start_norm(const RowShape& shape, const T* x, const T* w, T* y, std::int64_t rows, std::int64_t columns,
                float eps, cudaStream_t stream) {
  const dim3 block(static_cast<unsigned>(shape.threads), static_cast<unsigned>(shape.rows));
  launch("rms_norm", rms_norm_rows<T, PACKS>, blocks_for(rows, shape.rows), block, 0, stream, x, w, y, rows, columns,
         eps);
}

template <typename T, int PACKS>
void start_grad(const RowShape& shape, const T* x, const T* w, const T* dy, T* dx, float* partial, std::int64_t rows,
                std::int64_t columns, float eps, cudaStream_t stream) {
  const std::int64_t blocks = row_blocks(rows);
  const dim3 block(static_cast<unsigned>(shape.threads), static_cast<unsigned>(shape.rows));
  const std::size_t shared = shape.rows > 1 ? sizeof(float) * 32 * kWide<T> * PACKS * static_cast<std::size_t>(shape.rows) : 0;
  launch("rms_norm_grad", rms_norm_grad_rows<T, PACKS>, static_cast<unsigned>(blocks), block, shared, stream, x, w, dy,
         dx, partial, rows, blocks, columns, eps);
}

}  // namespace

template <typename T>
void rms_norm(const T* x, const T* w, T* y, std::int64_t rows, std::int64_t columns, float eps, cudaStream_t stream) {
  const std::int64_t packs = columns / kWide<T>;
  if (!wide_pointers(x, w, y) || columns % kWide<T> != 0 || packs > 4096)
    return launch("rms_norm", rms_norm_any<T>, blocks_for(rows, 1), kAnyThreads, 0, stream, x, w, y, rows, columns, eps);
  const auto start = [&]<int PACKS>(int threads, int rows_of_block) {
    start_norm<T, PACKS>({threads, rows_of_block, PACKS}, x, w, y, rows, columns, eps, stream);
  };
  if (packs <= 32) return start.template operator()<1>(32, 8);
  if (packs <= 64) return start.template operator()<2>(32, 8);
  if (packs <= 128) return start.template operator()<4>(32, 8);
  if (packs <= 256) return start.template operator()<2>(128, 1);
  if (packs <= 512) return start.template operator()<2>(256, 1);
  if (packs <= 1024) return start.template operator()<4>(256, 1);
  if (packs <= 2048) return start.template operator()<4>(512, 1);
  start.template operator()<4>(1024, 1);
}

template <typename T>
void rms_norm_grad(const T* x, const T* w, const T* dy, T* dx, float* dw, std::int64_t rows, std::int64_t columns,
                   float eps, void* workspace, cudaStream_t stream) {
  auto* partial = static_cast<float*>(workspace);
  const std::int64_t packs = columns / kWide<T>;
  const auto start = [&]<int PACKS>(int threads, int rows_of_block) {
    start_grad<T, PACKS>({threads, rows_of_block, PACKS}, x, w, dy, dx, partial, rows, columns, eps, stream);
  };
  if (!wide_pointers(x, w, dy, dx) || columns % kWide<T> != 0 || packs > 2048)
    launch("rms_norm_grad", rms_norm_grad_any<T>, static_cast<unsigned>(row_blocks(rows)), kAnyThreads, 0, stream, x, w,
           dy, dx, partial, rows, row_blocks(rows), columns, eps);
  else if (packs <= 32)
    start.template operator()<1>(32, 8);
  else if (packs <= 64)
    start.template operator()<2>(32, 8);
  else if (packs <= 128)
    start.template operator()<1>(128, 1);
  else if (packs <= 256)
    start.template operator()<1>(256, 1);
  else if (packs <= 512)
    start.template operator()<2>(256, 1);
  else if (packs <= 1024)
    start.template operator()<2>(512, 1);
  else
    start.template operator()<4>(512, 1);
  add_blocks(partial, dw, row_blocks(rows), columns, stream);
}

#define ITHACA_INSTANTIATE(T)                                                                                    \
  template void rms_norm(const T*, const T*, T*, std::int64_t, std::int64_t, float, cudaStream_t);               \
  template void rms_norm_grad(const T*, const T*, const T*, T*, float*, std::int64_t, std::int64_t, float, void*, \
                              cudaStream_t);
ITHACA_INSTANTIATE(float)
ITHACA_INSTANTIATE(bf16)
#undef ITHACA_INSTANTIATE

}  // namespace ithaca::cuda
