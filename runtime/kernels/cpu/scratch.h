// Scratch memory that belongs to a thread and grows to the largest size asked for.
#pragma once

#include <cstddef>
#include <cstdlib>

#include "ithaca/error.h"

namespace ithaca::cpu {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  // 4096-aligned; what it held before is lost when it grows.
  void* at_least(std::size_t bytes) {
    if (bytes > bytes_) {
      std::free(data_);
      bytes_ = (bytes + 4095) / 4096 * 4096;
      data_ = std::aligned_alloc(4096, bytes_);
      if (data_ == nullptr) fail("matmul: no memory for ", bytes_, " bytes of scratch");
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

}  // namespace ithaca::cpu
