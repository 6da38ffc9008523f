// What the passes of attention share: which keys a query sees, and how scratch memory is handed out.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention.h"
#include "vector.h"
#include "ithaca/error.h"

namespace ithaca::cpu {

inline constexpr float kLog2e = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;

inline void check_shape(const AttentionShape& s, const std::int32_t* segments) {
  if (s.kv_heads <= 0 || s.heads % s.kv_heads != 0)
    fail("attention: ", s.heads, " query heads can't be shared evenly by ", s.kv_heads, " key heads");
  if (segments != nullptr && (s.query_offset < 0 || s.query_offset + s.sequence_q > s.sequence_kv))
    fail("attention: ", s.sequence_q, " queries from position ", s.query_offset, " on don't stand among ",
         s.sequence_kv, " keys");
  if (s.head_dim < 1 || s.head_dim > 256)
    fail("attention: heads of ", s.head_dim, " elements; 1 to 256 are supported");
  if (!(s.scale > 0.0f)) fail("attention: scale is ", s.scale, "; it must be positive");
  if (s.sequence_q > INT32_MAX / 2 || s.sequence_kv > INT32_MAX / 2)
    fail("attention: sequences of ", std::max(s.sequence_q, s.sequence_kv), " are longer than 2^30");
}

// attention.h promises what a thread needs; this holds the code to it.
inline void check_scratch(std::size_t needed, std::size_t promised) {
  if (needed > promised) fail("attention: a thread needs ", needed, " bytes of workspace, attention.h says ", promised);
}

inline std::size_t padded_bytes(std::int64_t count, std::size_t element) {
  return static_cast<std::size_t>(round_up(count * static_cast<std::int64_t>(element), 64));
}

// Hands out parts of a thread's scratch.
class Cursor {
 public:
  explicit Cursor(void* base) : at_(static_cast<std::byte*>(base)) {}

  template <typename Element>
  Element* take(std::size_t bytes) {
    auto* part = reinterpret_cast<Element*>(at_);
    at_ += bytes;
    return part;
  }

 private:
  std::byte* at_;
};

// Fills first[i], last[i] (inclusive) for queries begin + i, i < count, of one sample; queries beyond the last one
// repeat it. Both are non-decreasing. A query that sees nothing has first > last.
inline void visible_keys(const AttentionShape& shape, const std::int32_t* segments, std::int64_t begin,
                         std::int64_t count, std::int32_t* first, std::int32_t* last) {
  const std::int64_t keys = shape.sequence_kv;
  std::int64_t document = 0;
  std::int64_t document_end = segments == nullptr ? keys : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t here = std::min(begin + i, shape.sequence_q - 1) + shape.query_offset;
    if (segments != nullptr && here >= document_end) {
      document = std::lower_bound(segments, segments + keys, segments[here]) - segments;
      document_end = std::upper_bound(segments + document, segments + keys, segments[here]) - segments;
    }
    const std::int64_t oldest = shape.window > 0 ? std::max(document, here - shape.window + 1) : document;
    const std::int64_t newest = shape.causal ? std::min(here, document_end - 1) : document_end - 1;
    first[i] = static_cast<std::int32_t>(oldest);
    last[i] = static_cast<std::int32_t>(newest);
  }
}

}  // namespace ithaca::cpu
