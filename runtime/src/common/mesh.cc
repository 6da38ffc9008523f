// The mesh's arithmetic: rank numbers to coordinates and back.
#include "ithaca/mesh.h"

#include "ithaca/error.h"
#include "ithaca/program.h"

namespace ithaca {

Mesh::Mesh(const MeshAxis* axes, int num_axes) {
  for (int i = 0; i < num_axes; ++i) {
    if (axes[i].degree < 1) {
      throw Error(std::string("mesh axis \"") + axes[i].name + "\" has degree " + std::to_string(axes[i].degree) +
                  "; it must be at least 1");
    }
    names_.push_back(axes[i].name);
    degrees_.push_back(axes[i].degree);
    ranks_ *= axes[i].degree;
  }
}

int Mesh::find(std::string_view name) const {
  for (int i = 0; i < axes(); ++i) {
    if (names_[i] == name) return i;
  }
  return -1;
}

int Mesh::coordinate(int rank, int axis) const {
  for (int i = axes() - 1; i > axis; --i) rank /= degrees_[i];
  return rank % degrees_[axis];
}

std::vector<int> Mesh::group(int rank, int axis) const {
  int stride = 1;
  for (int i = axes() - 1; i > axis; --i) stride *= degrees_[i];
  const int first = rank - coordinate(rank, axis) * stride;
  std::vector<int> members;
  for (int i = 0; i < degrees_[axis]; ++i) members.push_back(first + i * stride);
  return members;
}

}  // namespace ithaca
