// The mesh: ranks arranged along named axes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ithaca {

struct MeshAxis;

// Row-major: the last axis varies fastest with the rank number. A mesh without axes has one rank.
class Mesh {
 public:
  Mesh(const MeshAxis* axes, int num_axes);

  int ranks() const { return ranks_; }
  int axes() const { return static_cast<int>(names_.size()); }
  const std::string& name(int axis) const { return names_[axis]; }
  int degree(int axis) const { return degrees_[axis]; }
  // The number of the axis of that name, or -1.
  int find(std::string_view name) const;
  // Where a rank stands along an axis.
  int coordinate(int rank, int axis) const;
  // The ranks that differ from `rank` along `axis` alone, `rank` included, in order of their coordinate.
  std::vector<int> group(int rank, int axis) const;

 private:
  std::vector<std::string> names_;
  std::vector<int> degrees_;
  int ranks_ = 1;
};

}  // namespace ithaca
