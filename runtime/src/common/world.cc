// What every world does alike: the groups of a mesh.
#include "ithaca/world.h"

namespace ithaca {

std::vector<std::unique_ptr<Comm>> World::join_axes(int rank, const Mesh& mesh) {
  std::vector<std::unique_ptr<Comm>> comms(mesh.axes());
  for (int axis = 0; axis < mesh.axes(); ++axis) {
    if (mesh.degree(axis) > 1) comms[axis] = join(rank, mesh.group(rank, axis), mesh.name(axis));
  }
  return comms;
}

std::unique_ptr<Comm> World::join_all(int rank) {
  std::vector<int> members(ranks());
  for (int r = 0; r < ranks(); ++r) members[r] = r;
  return join(rank, members);
}

}  // namespace ithaca
