// One rank of a program at work: its arenas, lanes, events and collectives.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/device.h"
#include "ithaca/file.h"
#include "ithaca/lane.h"
#include "ithaca/layout.h"
#include "ithaca/mesh.h"
#include "ithaca/program.h"
#include "ithaca/trace.h"

namespace ithaca {

// A tensor's share where the host can touch it: the arena itself, or a copy of it.
class HostView {
 public:
  std::byte* data() const { return data_; }

 private:
  friend class Executor;
  std::byte* data_ = nullptr;
  std::unique_ptr<std::byte[]> copy_;
};

class Executor {
 public:
  // `comms`: one for each mesh axis, nullptr where its degree is 1. `threads`: OpenMP threads of the compute lane.
  // `host_spill`: the folder of the rank's file, where the program has one. Throws Error if the program is of another
  // ABI, its tables contradict each other, or memory or room for the file is short.
  Executor(const ProgramSpec& spec, int rank, int threads, std::vector<std::unique_ptr<Comm>> comms,
           const std::string& host_spill = "");
  ~Executor();

  // One optimizer step: every lane function once. Throws what failed first, with rank, step and lane; a program that
  // failed can't be stepped again.
  void step();
  // The two halves of step(), for one thread that drives several ranks. finish_step() must follow.
  void begin_step();
  void finish_step();

  // Where its lanes are, for one who looks on from another thread. A lane that waits does so for another lane or rank.
  struct Position {
    const char* lane;
    int step;  // -1 before the first one
    bool is_running;
    bool waits;
    bool operator==(const Position&) const = default;
  };
  bool is_stepping() const { return stepping_.load(std::memory_order_relaxed); }
  std::vector<Position> positions() const;
  // "rank 2, lane compute, step 15 (matmul %q)"; without the rank where it is the only one.
  std::string describe(const Position& position) const;
  // Whether its steps run on processors of the host.
  bool runs_on_host() const { return device_->is_host_memory(); }

  // Whether it is recorded when steps run, from the next step on: by the lanes, or by a device of its own.
  void trace(bool on);
  const std::vector<LaneTrace>& traces() const { return traces_; }

  const ProgramSpec& spec() const { return spec_; }
  const Mesh& mesh() const { return mesh_; }
  int rank() const { return rank_; }

  // Bytes that other ranks got from this one in all steps so far, on all axes. Not to be read during a step.
  std::uint64_t bytes_sent() const;

  // nullptr where the program has no tensor of that name; tensor() throws Error instead.
  const TensorSpec* find(std::string_view name) const;
  const TensorSpec& tensor(std::string_view name) const;
  // This rank's share, all members; valid as long as the executor. Not to be touched during a step. A device of its own
  // is fed with the inputs and gives its outputs at each step; the other tensors there are only seen through a view.
  std::byte* data(const TensorSpec& tensor) const;
  // Any tensor's share: as it is, or for writing, with any content. write_back() makes the device see what was written.
  HostView read(const TensorSpec& tensor) const;
  HostView open_for_writing(const TensorSpec& tensor);
  void write_back(const TensorSpec& tensor, const HostView& view);
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
    std::atomic<bool> is_running{false};
  };
  void run_lane(int index);
  void stop_lanes();
  void push_inputs();
  void pull_outputs();
  std::byte* address(const TensorSpec& tensor) const;

  const ProgramSpec& spec_;
  Mesh mesh_;
  int rank_;
  std::vector<std::unique_ptr<Comm>> comms_;
  std::vector<Comm*> comm_pointers_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<File> file_;
  std::vector<std::unique_ptr<std::byte[]>> mirrors_;  // inputs and outputs of a device of its own, by tensor
  std::vector<Event> events_;
  std::vector<LaneTrace> traces_;
  std::vector<std::unique_ptr<LaneState>> lanes_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> stepping_{false};
};

}  // namespace ithaca
