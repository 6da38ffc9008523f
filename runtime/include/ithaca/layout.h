// Which part of a global tensor a rank holds, and where.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ithaca/mesh.h"
#include "ithaca/program.h"

namespace ithaca {

// One rank's share of a tensor: the box [begin, begin + size) of the global one, stored row-major.
struct Share {
  std::vector<std::int64_t> dims;   // global sizes
  std::vector<std::int64_t> begin;
  std::vector<std::int64_t> size;
  bool primary;  // the first of the ranks that hold these same elements: the one that writes them to a file

  std::int64_t elements() const;  // of the share
};

// Throws Error if an axis isn't in the mesh or a size can't be divided evenly, naming the tensor and both numbers.
Share share_of(const TensorSpec& tensor, const Mesh& mesh, int rank);

// Calls `visit(global, local, count)` for each run of elements that is contiguous both in the global tensor and in the
// share, in ascending order; offsets are in elements.
void for_each_run(const Share& share,
                  const std::function<void(std::int64_t global, std::int64_t local, std::int64_t count)>& visit);

std::int64_t element_count(const TensorSpec& tensor);  // global, of one member
std::string shape_text(const std::vector<std::int64_t>& dims);  // "[1003, 96]"
std::string shape_text(const TensorSpec& tensor);

}  // namespace ithaca
