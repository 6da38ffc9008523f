// The `local` collectives: the ranks are threads of one process and read each other's memory.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ithaca/world.h"

namespace ithaca {

struct LocalGroup;

// What the ranks of one run share.
class LocalWorld final : public World {
 public:
  explicit LocalWorld(int ranks);
  ~LocalWorld() override;

  int ranks() const override { return ranks_; }
  std::vector<int> own_ranks() const override;
  int ranks_on_machine() const override { return ranks_; }
  std::unique_ptr<Comm> join(int rank, const std::vector<int>& members, const std::string& purpose = "") override;
  void fail(int rank, const std::string& why) override;
  std::string failure() const override;

 private:
  int ranks_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::vector<int>>, std::unique_ptr<LocalGroup>> groups_;
  std::string failure_;
};

}  // namespace ithaca
