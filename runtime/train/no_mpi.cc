// Stands in for src/mpi where a binary is linked without it; alone in its file, so that either can be taken.
#include "ithaca/error.h"
#include "ithaca/world.h"

namespace ithaca {

std::unique_ptr<World> open_mpi_world(int, const std::string&, std::chrono::seconds) {
  throw Error("the run file asks for comm \"mpi\", this binary was linked without MPI; compile it again with "
              "parallel.comm: mpi");
}

}  // namespace ithaca
