// Copies between pinned memory and a rank's file, in a stream's order: a host function of the stream reads or writes.
#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <mutex>
#include <set>
#include <string>

#include "ithaca/file.h"

namespace ithaca::cuda {

class FileCopies {
 public:
  void spill(const void* from, const File& file, std::size_t offset, std::size_t bytes, cudaStream_t stream);
  void fetch(const File& file, std::size_t offset, void* to, std::size_t bytes, cudaStream_t stream);
  // Throws Error where a copy that has run since the last check failed.
  void check();

 private:
  struct Copy {
    FileCopies* owner;
    const File* file;
    bool writes;
    std::byte* memory;
    std::size_t offset, bytes;
    auto operator<=>(const Copy&) const = default;
  };
  void issue(const Copy& copy, cudaStream_t stream);
  void run(const Copy& copy);

  // A program makes the same ones in every step, and a captured graph refers to them for as long as it is replayed.
  std::set<Copy> copies_;
  std::mutex mutex_;
  std::string failure_;
};

}  // namespace ithaca::cuda
