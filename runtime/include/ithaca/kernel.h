// What the kernel of an op of your own is given: the one header that it needs.
//
// A kernel is a function of the op's name, outside of any namespace:
//
//     void my_op(ithaca::Tensor<const float> x, ithaca::Tensor<float> result, double by);
//
// It takes the operands in the order of the record, then the results, then the attributes: numbers as double, truth as
// bool, words as const char*, lists of numbers as std::span<const double>, each as it stands in the graph: a size among
// them is that of the whole, not of this rank's share. Behind them come `void* workspace` if the kernel asks for any, and
// on a GPU a `cudaStream_t stream` that everything must be started on, with nothing waited for. Elements are float,
// ithaca::bf16 or std::int32_t, as in the graph: a template serves all, overloads serve some.
//
// On the CPU a kernel may use omp_get_max_threads() threads. It writes all elements of its results, allocates nothing,
// keeps nothing, and gives the same result every time: backward may run it again. What it can't work with it says by
// ithaca::fail("..."), outside of parallel loops.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ithaca/dtype.h"
#include "ithaca/error.h"

namespace ithaca {

// One rank's share of a tensor, or of a tile of it: row-major, contiguous, 64-byte aligned for a whole one.
template <typename T>
struct Tensor {
  T* data;
  int rank;               // number of dimensions
  std::int64_t sizes[8];  // of this share

  constexpr std::int64_t count() const {
    std::int64_t product = 1;
    for (int i = 0; i < rank; ++i) product *= sizes[i];
    return product;
  }
  // The last dimension, and all others together.
  constexpr std::int64_t columns() const { return rank == 0 ? 1 : sizes[rank - 1]; }
  constexpr std::int64_t rows() const { return count() / columns(); }
};

}  // namespace ithaca
