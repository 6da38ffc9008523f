// One rank of a program at work: its arenas, lanes, events and collectives.
#pragma once

#include <atomic>
#include <cstddef>
#include <future>
#include <memory>
#include <string_view>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/lane.h"
#include "ithaca/layout.h"
#include "ithaca/memory.h"
#include "ithaca/mesh.h"
#include "ithaca/program.h"

namespace ithaca {

class Executor {
 public:
  // `comms`: one for each mesh axis, nullptr where its degree is 1. `threads`: OpenMP threads of the compute lane.
  // Throws Error if the program is of another ABI, its tables contradict each other, or memory is short.
  Executor(const ProgramSpec& spec, int rank, int threads, std::vector<std::unique_ptr<Comm>> comms);
  ~Executor();

  // One optimizer step: every lane function once. Throws what failed first, with rank, step and lane; a program that
  // failed can't be stepped again.
  void step();
  // The two halves of step(), for one thread that drives several ranks. finish_step() must follow.
  void begin_step();
  void finish_step();

  const ProgramSpec& spec() const { return spec_; }
  const Mesh& mesh() const { return mesh_; }
  int rank() const { return rank_; }

  // nullptr where the program has no tensor of that name; tensor() throws Error instead.
  const TensorSpec* find(std::string_view name) const;
  const TensorSpec& tensor(std::string_view name) const;
  // This rank's share, all members; valid as long as the executor. Not to be touched during a step.
  std::byte* data(const TensorSpec& tensor) const;
  Share share(const TensorSpec& tensor) const { return share_of(tensor, mesh_, rank_); }
  // A whole tensor of one element. T must be the C++ type of its dtype.
  template <typename T>
  T& scalar(std::string_view name) const {
    return *reinterpret_cast<T*>(data(tensor(name)));
  }

 private:
  struct LaneState {
    std::unique_ptr<Lane> lane;
    Rank rank;
    std::future<void> done;
    alignas(64) std::atomic<int> current_step{-1};
  };
  void run_lane(int index);
  void stop_lanes();

  const ProgramSpec& spec_;
  Mesh mesh_;
  int rank_;
  Arena device_;
  Arena host_;
  std::vector<std::unique_ptr<Comm>> comms_;
  std::vector<Comm*> comm_pointers_;
  std::vector<Event> events_;
  std::vector<std::unique_ptr<LaneState>> lanes_;
  std::atomic<bool> failed_{false};
};

}  // namespace ithaca
