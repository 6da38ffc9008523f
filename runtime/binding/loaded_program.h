// A program.so in this process: its ranks, and the one thread that drives them. Knows nothing of Node.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ithaca/executor.h"
#include "ithaca/lane.h"
#include "ithaca/local_comm.h"

namespace ithaca {

class LoadedProgram {
 public:
  // `ranks`: how many ranks to run as threads of this process; it must be the program's own number.
  // `host_spill`: as the executors take it.
  LoadedProgram(const std::string& path, int threads, int ranks, const std::string& host_spill);
  ~LoadedProgram();

  const ProgramSpec& spec() const { return executors_.front()->spec(); }
  Executor& executor(int rank);
  int ranks() const { return static_cast<int>(executors_.size()); }

  // One optimizer step of all ranks; throws what failed first, and where no token has a label. Returns seconds.
  double step();
  // Initial values, from safetensors files where there are any.
  void load(const std::vector<std::string>& weights, std::uint64_t seed);
  // Runs a job on the program's own thread.
  void submit(std::function<void()> job) { driver_->submit(std::move(job)); }

 private:
  struct Library {
    explicit Library(const std::string& path);
    ~Library();
    void* handle;
  };

  void require_labels() const;

  // In this order: lanes must end before the code they run is unloaded.
  Library library_;
  std::unique_ptr<LocalWorld> world_;
  std::vector<std::unique_ptr<Executor>> executors_;
  std::unique_ptr<Lane> driver_;
};

}  // namespace ithaca
