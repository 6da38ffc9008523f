// The run file: what one training run reads, writes and does, as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ithaca/data.h"
#include "ithaca/schedule.h"

namespace ithaca {

struct RunFile {
  DataOptions data;  // sequence_length 0: as long as the program's
  std::vector<std::string> weights;  // none: the program's own initial values
  std::uint64_t seed = 0;
  std::string output_dir;
  std::string config_json;               // copied into final/
  std::vector<std::string> extra_files;  // likewise
  std::int64_t max_steps = 0;
  Schedule schedule;
  std::int64_t snapshot_every = 0;  // steps; 0 for no snapshots
  std::string resume;               // a snapshot's directory, or ""
  bool save_final = true;
  std::string trace;                // a folder for rank-N.json, a trace of the second step; "" for none
  std::string host_spill;           // the folder of ranks' files, or ""
  int threads = 1;  // OpenMP threads of each rank
  int ranks = 1;
  std::int64_t timeout_s = 0;  // after which a rank without a sign of life ends the run; 0: never
  // Each rank a process, of an MPI job or one that a launcher's variables tell of; else all are threads of this one.
  bool mpi = false;
  bool tcp = false;
};

// Throws Error naming the file, the key, its value and what is allowed.
RunFile read_run_file(const std::string& path);

}  // namespace ithaca
