// The tensors of an exchange between ranks.
#pragma once

#include <cstdint>

namespace ithaca {

// A rank's share seen as [outer, major, middle, minor, inner], where major and minor are the two dimensions exchanged.
struct ExchangeShape {
  std::int64_t outer, major, middle, minor, inner;
  int element_bytes;
};

// One tensor of an exchange. `shape` has the sizes of the parts: x and y are size() times its elements.
struct Exchange {
  const void* x;
  void* y;
  ExchangeShape shape;
};

}  // namespace ithaca
