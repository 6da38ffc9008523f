// What a graph of cuDNN's backend means, by plain loops in double.
#pragma once

#include <cudnn_graph.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "calls.h"

namespace ithaca::test {

// A descriptor as it was set.
struct Attributes {
  cudnnBackendDescriptorType_t type;
  bool finalized;
  std::map<int, std::vector<unsigned char>> bytes;

  void set(int name, cudnnBackendAttributeType_t type_of, std::int64_t count, const void* values);
  bool has(int name) const { return bytes.contains(name); }
  template <typename T>
  std::vector<T> values(int name) const {
    const std::vector<unsigned char>& from = bytes.at(name);
    std::vector<T> to(from.size() / sizeof(T));
    std::memcpy(to.data(), from.data(), to.size() * sizeof(T));
    return to;
  }
  template <typename T>
  T value(int name) const {
    T to;
    std::memcpy(&to, bytes.at(name).data(), sizeof to);
    return to;
  }
  Attributes* descriptor(int name) const { return value<Attributes*>(name); }
};

// Runs the operations in order and says in `call` what was read and written; false, with a line on stdout, where the
// graph or the pack is not as cuDNN wants them.
bool evaluate(const Attributes& graph, const Attributes& pack, LibraryCall& call);

}  // namespace ithaca::test
