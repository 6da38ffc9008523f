// Shares of tensors: the box that a rank holds and its contiguous runs.
#include "ithaca/layout.h"

#include <sstream>

#include "ithaca/error.h"

namespace ithaca {

std::int64_t Share::elements() const {
  std::int64_t count = 1;
  for (std::int64_t n : size) count *= n;
  return count;
}

Share share_of(const TensorSpec& tensor, const Mesh& mesh, int rank) {
  Share share;
  std::vector<bool> splits(mesh.axes(), false);
  for (int d = 0; d < tensor.rank; ++d) {
    std::int64_t begin = 0;
    std::int64_t size = tensor.dims[d];
    std::istringstream names(tensor.axes[d] ? tensor.axes[d] : "");
    for (std::string name; std::getline(names, name, ',');) {
      const int axis = mesh.find(name);
      if (axis < 0) {
        throw Error(std::string(tensor.name) + ": dimension " + std::to_string(d) + " is split over \"" + name +
                    "\", which is no axis of the mesh");
      }
      const int degree = mesh.degree(axis);
      if (size % degree != 0) {
        throw Error(std::string(tensor.name) + ": dimension " + std::to_string(d) + " of " + shape_text(tensor) +
                    " can't be shared evenly by the " + std::to_string(degree) + " ranks of \"" + name + "\"");
      }
      size /= degree;
      begin += mesh.coordinate(rank, axis) * size;
      splits[axis] = true;
    }
    share.dims.push_back(tensor.dims[d]);
    share.begin.push_back(begin);
    share.size.push_back(size);
  }
  share.primary = true;
  for (int axis = 0; axis < mesh.axes(); ++axis) {
    if (!splits[axis] && mesh.coordinate(rank, axis) != 0) share.primary = false;
  }
  return share;
}

void for_each_run(const Share& share,
                  const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit) {
  const int rank = static_cast<int>(share.dims.size());
  if (share.elements() == 0) return;
  // Whole trailing dimensions merge into one run, together with the innermost split dimension before them.
  int inner = rank;
  std::int64_t run = 1;
  while (inner > 0) {
    --inner;
    run *= share.size[inner];
    if (share.size[inner] != share.dims[inner]) break;
  }
  std::vector<std::int64_t> index(inner, 0);
  for (std::int64_t local = 0;; local += run) {
    std::int64_t global = 0;
    for (int d = 0; d < rank; ++d) global = global * share.dims[d] + share.begin[d] + (d < inner ? index[d] : 0);
    visit(global, local, run);
    int d = inner - 1;
    for (; d >= 0 && ++index[d] == share.size[d]; --d) index[d] = 0;
    if (d < 0) return;
  }
}

std::int64_t element_count(const TensorSpec& tensor) {
  std::int64_t count = 1;
  for (int d = 0; d < tensor.rank; ++d) count *= tensor.dims[d];
  return count;
}

std::string shape_text(const std::vector<std::int64_t>& dims) {
  std::string text = "[";
  for (std::size_t d = 0; d < dims.size(); ++d) text += (d ? ", " : "") + std::to_string(dims[d]);
  return text + "]";
}

std::string shape_text(const TensorSpec& tensor) {
  return shape_text(std::vector<std::int64_t>(tensor.dims, tensor.dims + tensor.rank));
}

}  // namespace ithaca
