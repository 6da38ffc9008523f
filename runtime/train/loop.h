// The training loop of one rank.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/data.h"
#include "ithaca/program.h"
#include "ithaca/watchdog.h"
#include "run_file.h"

namespace ithaca {

struct LoopResult {
  bool interrupted = false;
  std::int64_t steps = 0;  // done in all
  std::string snapshot;    // the latest one's directory, or ""
};

// Trains from the start or a snapshot to max_steps and writes metrics, snapshots and the final directory. `world` joins
// all ranks; nullptr for one alone. `interrupts` counts the signals that ask to stop after the step under way.
// `watchdog` looks on while it steps.
LoopResult train_rank(const RunFile& run, const ProgramSpec& spec, const TokenData& data, int rank,
                      std::vector<std::unique_ptr<Comm>> comms, Comm* world, bool show_progress,
                      const std::atomic<int>& interrupts, Watchdog& watchdog);

}  // namespace ithaca
