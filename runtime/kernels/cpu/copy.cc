// Strided copies: dimensions that lie together are merged, then rows are copied or tiles transposed.
#include "copy.h"

#include <algorithm>
#include <cstring>

#include "ithaca/error.h"

namespace ithaca::cpu {
namespace {

struct Dimension {
  std::int64_t size, from, to;  // strides in elements
};

// Drops dimensions of size one and merges neighbours that are contiguous on both sides. Returns the rank left.
int merge(Dimension* d, const std::int64_t* src_strides, const std::int64_t* dst_strides, const std::int64_t* dims,
          int rank) {
  int count = 0;
  for (int i = 0; i < rank; ++i) {
    if (dims[i] == 1) continue;
    const Dimension next{dims[i], src_strides[i], dst_strides[i]};
    if (count > 0 && d[count - 1].from == next.size * next.from && d[count - 1].to == next.size * next.to)
      d[count - 1] = {d[count - 1].size * next.size, next.from, next.to};
    else
      d[count++] = next;
  }
  if (count == 0) d[count++] = {1, 1, 1};
  return count;
}

// One row of the innermost dimension, or, with a second one, a plane walked in tiles that stay in the cache.
template <typename Element>
void copy_plane(const Element* src, Element* dst, Dimension outer, Dimension inner) {
  if (inner.from == 1 && inner.to == 1) {
    for (std::int64_t i = 0; i < outer.size; ++i)
      std::memcpy(dst + i * outer.to, src + i * outer.from, static_cast<std::size_t>(inner.size) * sizeof(Element));
    return;
  }
  constexpr std::int64_t kTile = 32;
  for (std::int64_t ib = 0; ib < outer.size; ib += kTile)
    for (std::int64_t jb = 0; jb < inner.size; jb += kTile)
      for (std::int64_t i = ib; i < std::min(ib + kTile, outer.size); ++i)
        for (std::int64_t j = jb; j < std::min(jb + kTile, inner.size); ++j)
          dst[i * outer.to + j * inner.to] = src[i * outer.from + j * inner.from];
}

template <typename Element>
void copy(const Element* src, Element* dst, const Dimension* d, int rank) {
  const Dimension inner = d[rank - 1];
  Dimension outer = rank > 1 ? d[rank - 2] : Dimension{1, 0, 0};
  std::int64_t planes = 1;
  for (int i = 0; i + 2 < rank; ++i) planes *= d[i].size;
  // Few planes: cut them into slices, so that all threads have work.
  const std::int64_t slice = std::max<std::int64_t>(32, 16384 / inner.size / 32 * 32);
  const std::int64_t slices = (outer.size + slice - 1) / slice;
  // A single long row is cut as well.
  if (rank == 1 && inner.size > 65536) {
    const std::int64_t pieces = (inner.size + 65535) / 65536;
#pragma omp parallel for schedule(static)
    for (std::int64_t p = 0; p < pieces; ++p) {
      const std::int64_t begin = p * 65536;
      copy_plane(src + begin * inner.from, dst + begin * inner.to, outer,
                 {std::min<std::int64_t>(65536, inner.size - begin), inner.from, inner.to});
    }
    return;
  }
#pragma omp parallel for schedule(static)
  for (std::int64_t task = 0; task < planes * slices; ++task) {
    std::int64_t index = task / slices, from = 0, to = 0;
    for (int i = rank - 3; i >= 0; --i) {
      from += index % d[i].size * d[i].from;
      to += index % d[i].size * d[i].to;
      index /= d[i].size;
    }
    const std::int64_t begin = task % slices * slice;
    const Dimension part{std::min(slice, outer.size - begin), outer.from, outer.to};
    copy_plane(src + from + begin * outer.from, dst + to + begin * outer.to, part, inner);
  }
}

}  // namespace

void copy_strided(const void* src, const std::int64_t* src_strides, void* dst, const std::int64_t* dst_strides,
                  const std::int64_t* dims, int rank, int element_bytes) {
  if (rank > 8) fail("copy_strided: rank ", rank, " is more than 8");
  for (int i = 0; i < rank; ++i)
    if (dims[i] == 0) return;
  Dimension d[8];
  const int count = merge(d, src_strides, dst_strides, dims, rank);
  const auto run = [&]<typename Element>(Element) {
    copy(static_cast<const Element*>(src), static_cast<Element*>(dst), d, count);
  };
  switch (element_bytes) {
    case 1: return run(std::uint8_t{});
    case 2: return run(std::uint16_t{});
    case 4: return run(std::uint32_t{});
    case 8: return run(std::uint64_t{});
    default: fail("copy_strided: elements of ", element_bytes, " bytes; 1, 2, 4 and 8 are supported");
  }
}

}  // namespace ithaca::cpu
