// The `local` collectives: the ranks are threads of one process and read each other's memory.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/mesh.h"

namespace ithaca {

struct LocalGroup;

// What the ranks of one run share. It must outlive the Comms it hands out.
class LocalWorld {
 public:
  explicit LocalWorld(int ranks);
  ~LocalWorld();

  // `rank`'s end of the group `members` (rank numbers, ascending). Every member joins with the same list and purpose;
  // groups of different purposes may be used at the same time.
  std::unique_ptr<Comm> join(int rank, const std::vector<int>& members, const std::string& purpose = "");
  // A Comm for each axis of the mesh, nullptr where its degree is 1.
  std::vector<std::unique_ptr<Comm>> join_axes(int rank, const Mesh& mesh);
  // A Comm among all ranks.
  std::unique_ptr<Comm> join_all(int rank);

  // Records the first failure and wakes every rank. Safe from any thread.
  void fail(int rank, const std::string& why);
  // "rank 2 failed: ..." for the first failure; empty while there is none.
  std::string failure() const;

 private:
  int ranks_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::vector<int>>, std::unique_ptr<LocalGroup>> groups_;
  std::string failure_;
};

}  // namespace ithaca
