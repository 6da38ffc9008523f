// Strided copies: neighbouring dimensions are merged; what is contiguous on both sides moves 16 bytes at a time, what
// is contiguous in different dimensions goes through tiles in shared memory.
#include "copy.h"

#include "elementwise.h"
#include "ithaca/error.h"
#include "launch.h"

namespace ithaca::cuda {
namespace {

constexpr int kRank = 8;

struct Dimension {
  std::int64_t size, from, to;  // strides in elements
};

struct Dimensions {
  Dimension d[kRank];
  int rank;

  std::int64_t elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= d[i].size;
    return n;
  }
};

// Drops dimensions of size one and merges neighbours that are contiguous on both sides.
Dimensions merge(const std::int64_t* src_strides, const std::int64_t* dst_strides, const std::int64_t* dims, int rank) {
  Dimensions all{{}, 0};
  for (int i = 0; i < rank; ++i) {
    if (dims[i] == 1) continue;
    const Dimension next{dims[i], src_strides[i], dst_strides[i]};
    Dimension* last = all.d + all.rank - 1;
    if (all.rank > 0 && last->from == next.size * next.from && last->to == next.size * next.to)
      *last = {last->size * next.size, next.from, next.to};
    else
      all.d[all.rank++] = next;
  }
  if (all.rank == 0) all.d[all.rank++] = {1, 1, 1};
  return all;
}

// Dimensions for the device, with 32-bit indices where the copy is small enough: their divisions are much faster.
template <typename Index>
struct Walk {
  Index sizes[kRank];
  std::int64_t from[kRank], to[kRank];
  int rank;

  explicit Walk(const Dimensions& all) : sizes{}, from{}, to{}, rank(all.rank) {
    for (int i = 0; i < rank; ++i) {
      sizes[i] = static_cast<Index>(all.d[i].size);
      from[i] = all.d[i].from;
      to[i] = all.d[i].to;
    }
  }
  // Where the element (or plane) of number `index` lies in either array.
  __device__ void find(Index index, std::int64_t& source, std::int64_t& target) const {
    source = target = 0;
#pragma unroll
    for (int i = kRank - 1; i > 0; --i) {
      if (i >= rank) continue;
      const Index rest = index / sizes[i];
      const auto own = static_cast<std::int64_t>(index - rest * sizes[i]);
      source += own * from[i];
      target += own * to[i];
      index = rest;
    }
    source += static_cast<std::int64_t>(index) * from[0];
    target += static_cast<std::int64_t>(index) * to[0];
  }
};

constexpr int kThreads = 256;
constexpr int kEach = 4;  // elements of a thread, a block's width apart, under way together

template <typename Element, typename Index>
__global__ void __launch_bounds__(kThreads) copy_elements(const Element* src, Element* dst, Walk<Index> walk, Index n) {
  constexpr Index kStep = kThreads;
  for (auto first = static_cast<Index>(blockIdx.x) * (kStep * kEach) + static_cast<Index>(threadIdx.x); first < n;
       first += static_cast<Index>(gridDim.x) * (kStep * kEach)) {
    Element held[kEach];
    std::int64_t to[kEach];
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const Index at = first + static_cast<Index>(k) * kStep;
      if (at >= n) break;
      std::int64_t from;
      walk.find(at, from, to[k]);
      held[k] = src[from];
    }
#pragma unroll
    for (int k = 0; k < kEach; ++k)
      if (first + static_cast<Index>(k) * kStep < n) dst[to[k]] = held[k];
  }
}

constexpr int kTile = 64;

// Planes in which the source is contiguous along `across` and the target along `along`; `walk` numbers the planes.
template <typename Element>
__global__ void __launch_bounds__(kThreads)
    copy_tiles(const Element* src, Element* dst, Walk<std::int64_t> walk, Dimension across, Dimension along,
               std::int64_t tiles_across, std::int64_t tiles_along, std::int64_t tiles) {
  __shared__ Element held[kTile][kTile + 1];
  constexpr int kRows = kThreads / kTile;
  const int x = static_cast<int>(threadIdx.x) % kTile, y = static_cast<int>(threadIdx.x) / kTile;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    std::int64_t from, to;
    walk.find(tile / (tiles_across * tiles_along), from, to);
    const std::int64_t a = tile % tiles_across * kTile, b = tile / tiles_across % tiles_along * kTile;
#pragma unroll
    for (int j = y; j < kTile; j += kRows)
      if (a + x < across.size && b + j < along.size) held[j][x] = src[from + a + x + (b + j) * along.from];
    __syncthreads();
#pragma unroll
    for (int j = y; j < kTile; j += kRows)
      if (b + x < along.size && a + j < across.size) dst[to + b + x + (a + j) * across.to] = held[x][j];
    __syncthreads();
  }
}

template <typename Element>
void copy(const void* src, void* dst, const Dimensions& all, cudaStream_t stream) {
  const auto* from = static_cast<const Element*>(src);
  auto* to = static_cast<Element*>(dst);
  const std::int64_t n = all.elements();
  const auto start = [&]<typename Index>(Index) {
    launch("copy_strided", copy_elements<Element, Index>, blocks_for(n, kThreads * kEach), kThreads, 0, stream, from, to,
           Walk<Index>(all), static_cast<Index>(n));
  };
  if (n < std::int64_t{1} << 31)
    start(std::uint32_t{});
  else
    start(std::int64_t{});
}

template <typename Element>
void transpose(const void* src, void* dst, const Dimensions& all, int across, int along, cudaStream_t stream) {
  Dimensions planes{{}, 0};
  for (int i = 0; i < all.rank; ++i)
    if (i != across && i != along) planes.d[planes.rank++] = all.d[i];
  if (planes.rank == 0) planes.d[planes.rank++] = {1, 0, 0};
  const std::int64_t tiles_across = divide_up(all.d[across].size, kTile);
  const std::int64_t tiles_along = divide_up(all.d[along].size, kTile);
  const std::int64_t tiles = planes.elements() * tiles_across * tiles_along;
  launch("copy_strided", copy_tiles<Element>, blocks_for(tiles, 1), kThreads, 0, stream,
         static_cast<const Element*>(src), static_cast<Element*>(dst), Walk<std::int64_t>(planes), all.d[across],
         all.d[along], tiles_across, tiles_along, tiles);
}

// The dimension of at least a few elements that is contiguous by `stride`, or -1.
int contiguous(const Dimensions& all, std::int64_t Dimension::* stride) {
  for (int i = 0; i < all.rank; ++i)
    if (all.d[i].*stride == 1 && all.d[i].size >= 8) return i;
  return -1;
}

// The largest power of two of bytes, up to 16, in which runs that are contiguous on both sides can move.
int wide_bytes(const void* src, const void* dst, const Dimensions& all, int element_bytes) {
  const Dimension& inner = all.d[all.rank - 1];
  if (inner.from != 1 || inner.to != 1) return element_bytes;
  int bytes = 16;
  const auto fits = [&](std::int64_t elements) { return elements * element_bytes % bytes == 0; };
  const auto all_fit = [&] {
    if (!aligned(src, static_cast<std::size_t>(bytes)) || !aligned(dst, static_cast<std::size_t>(bytes))) return false;
    if (!fits(inner.size)) return false;
    for (int i = 0; i + 1 < all.rank; ++i)
      if (!fits(all.d[i].from) || !fits(all.d[i].to)) return false;
    return true;
  };
  while (bytes > element_bytes && !all_fit()) bytes /= 2;
  return bytes;
}

template <typename T>
struct Fill {
  T* x;
  T value;

  template <int N>
  __device__ void run(std::int64_t i, std::int64_t, std::int64_t) const {
    if constexpr (sizeof(T) == 2) {
      store<N>(x + i, repeated<N>(load(&value)));
    } else {
      store<N>(x + i, repeated<N>(value));
    }
  }
};

}  // namespace

void copy_strided(const void* src, const std::int64_t* src_strides, void* dst, const std::int64_t* dst_strides,
                  const std::int64_t* dims, int rank, int element_bytes, cudaStream_t stream) {
  if (rank > kRank) fail("copy_strided: rank ", rank, " is more than ", kRank);
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4 && element_bytes != 8)
    fail("copy_strided: elements of ", element_bytes, " bytes; 1, 2, 4 and 8 are supported");
  for (int i = 0; i < rank; ++i)
    if (dims[i] == 0) return;
  Dimensions all = merge(src_strides, dst_strides, dims, rank);
  const int across = contiguous(all, &Dimension::from), along = contiguous(all, &Dimension::to);
  if (across >= 0 && along >= 0 && across != along) {
    switch (element_bytes) {
      case 1: return transpose<std::uint8_t>(src, dst, all, across, along, stream);
      case 2: return transpose<std::uint16_t>(src, dst, all, across, along, stream);
      case 4: return transpose<std::uint32_t>(src, dst, all, across, along, stream);
      default: return transpose<std::uint64_t>(src, dst, all, across, along, stream);
    }
  }
  const int bytes = wide_bytes(src, dst, all, element_bytes);
  const std::int64_t ratio = bytes / element_bytes;
  if (ratio > 1) {
    for (int i = 0; i + 1 < all.rank; ++i) all.d[i].from /= ratio, all.d[i].to /= ratio;
    all.d[all.rank - 1].size /= ratio;
  }
  switch (bytes) {
    case 1: return copy<std::uint8_t>(src, dst, all, stream);
    case 2: return copy<std::uint16_t>(src, dst, all, stream);
    case 4: return copy<std::uint32_t>(src, dst, all, stream);
    case 8: return copy<uint2>(src, dst, all, stream);
    default: return copy<uint4>(src, dst, all, stream);
  }
}

template <typename T>
void fill(T* x, std::int64_t n, T value, cudaStream_t stream) {
  run_loop("fill", Fill<T>{x, value}, 1, n, aligned(x, 16), stream);
}

template void fill(float*, std::int64_t, float, cudaStream_t);
template void fill(bf16*, std::int64_t, bf16, cudaStream_t);
template void fill(std::int32_t*, std::int64_t, std::int32_t, cudaStream_t);

}  // namespace ithaca::cuda
