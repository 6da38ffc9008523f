// What generated CUDA code works with on one rank: a stream for each lane, events, the libraries, the collectives.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "cuda/device_comm.h"
#include "cuda/file_copies.h"
#include "cuda/libraries.h"
#include "cuda/stream_trace.h"
#include "ithaca/program.h"

namespace ithaca::cuda {

class Context {
 public:
  // For the device that is current. `comms` as in Rank.
  Context(const ProgramSpec& spec, Comm* const* comms);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  static Context& of(const Rank& rank) { return *static_cast<Context*>(rank.context); }

  // Lanes are streams: steps of one lane run in order, steps of two lanes where an event orders them. An event that was
  // never signalled holds up nothing, so a wait means the last turn before it, in and out of loops.
  void wait(cudaStream_t stream, int event);
  void signal(cudaStream_t stream, int event);
  // Says that the next calls on `stream` belong to a step. With ITHACA_CUDA_SYNC=1 the steps before must end first, so that a fault
  // is reported at the step that made it.
  void begin(Rank& rank, int step, cudaStream_t stream);
  // Issues a run of the program so that it is traced, waits for its end, and adds its spans to `trace`.
  void run_traced(const LaneSpec& lane, Rank& rank, LaneTrace& trace);
  // Makes the other lanes wait for what was issued on `compute`, and `compute` for what was issued on the others.
  void fork();
  void join();
  // Returns when everything that was issued has ended. Throws what failed.
  void synchronize();

  DeviceComm& axis(int number) { return *comms_[number]; }
  bool has_comms() const;
  std::uint64_t bytes_sent() const;

  cudaStream_t compute = nullptr, comm = nullptr, to_host = nullptr, to_device = nullptr;
  cudaStream_t to_file = nullptr, from_file = nullptr;
  Libraries libraries;
  FileCopies file;

 private:
  void watch(cudaStream_t stream);
  bool is_watched() const;

  std::vector<cudaEvent_t> events_;
  cudaEvent_t forked_ = nullptr;
  cudaEvent_t joined_[5] = {};
  std::vector<std::unique_ptr<DeviceComm>> comms_;
  bool synchronous_ = false;
  std::unique_ptr<StreamTrace> trace_;  // of the run that is being issued
};

}  // namespace ithaca::cuda
