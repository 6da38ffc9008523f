// The ranks of one run, wherever they are: which of them this process runs, how they join, how they end together.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/mesh.h"

namespace ithaca {

// It must outlive the Comms it hands out.
class World {
 public:
  virtual ~World() = default;

  virtual int ranks() const = 0;
  // The ranks that are threads of this process, ascending; rank 0 leads the run.
  virtual std::vector<int> own_ranks() const = 0;
  // How many ranks share this machine's memory, those of other processes included.
  virtual int ranks_on_machine() const = 0;

  // `rank`'s end of the group `members` (rank numbers, ascending). Every member joins with the same list and purpose,
  // and joins its groups in the same order; groups of different purposes may be used at the same time.
  virtual std::unique_ptr<Comm> join(int rank, const std::vector<int>& members, const std::string& purpose = "") = 0;
  // A Comm for each axis of the mesh, nullptr where its degree is 1.
  std::vector<std::unique_ptr<Comm>> join_axes(int rank, const Mesh& mesh);
  // A Comm among all ranks.
  std::unique_ptr<Comm> join_all(int rank);

  // Records the first failure and makes every rank stop. Safe from any thread. Ranks of other processes end at once,
  // and so does this process then, after it has said why: the call returns only where all ranks are threads.
  virtual void fail(int rank, const std::string& why) = 0;
  // The first failure, beginning with its rank; empty while there is none.
  virtual std::string failure() const = 0;
};

// The world of the MPI job that this process is part of: one rank a process. `program` is the program's hash. Throws
// Error where MPI started another number of ranks than `ranks`, the processes run different programs, or this binary
// was linked without MPI (src/mpi defines the function; else train/no_mpi.cc does). A rank that gives no sign of life for
// `timeout` ends the run (0: never), and so does one whose calls are not those of the others.
std::unique_ptr<World> open_mpi_world(int ranks, const std::string& program, std::chrono::seconds timeout);

}  // namespace ithaca
