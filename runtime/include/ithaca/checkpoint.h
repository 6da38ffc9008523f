// Weights in, weights out, and snapshots from which a run goes on as if it had never stopped.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ithaca/comm.h"
#include "ithaca/executor.h"

namespace ithaca {

// Every parameter and state as the program says: zeros, ones, or normal deviates that depend on the seed, the tensor's
// name and the element alone. A parameter without an initial value is an Error unless `weights_follow`.
void initialize(Executor& executor, std::uint64_t seed, bool weights_follow);

// The parameters from safetensors files, converted to the program's dtype. Throws Error for a missing tensor, another
// shape, or a value that is NaN or infinite. Tensors the program doesn't have are named in one warning; a tied
// lm_head.weight is passed over in silence.
void load_weights(Executor& executor, const std::vector<std::string>& paths);

struct FinalOptions {
  std::string directory;    // replaced as a whole when complete
  std::string config_json;  // copied, with its dtype set to float32; "" for none
  std::vector<std::string> extra_files;
  std::uint64_t shard_bytes = 5'000'000'000;  // a larger model is written as several files with an index
};

// The parameters in float32 as a Hugging Face directory. All ranks call it; `world` joins all of them, and is nullptr
// for one rank alone. Every rank writes its own share, so the directory must be on a file system they have in common.
void save_final(const Executor& executor, Comm* world, const FinalOptions& options);

struct Progress {
  std::int64_t step = 0;     // optimizer steps done
  std::int64_t samples = 0;  // samples read by the whole run
};

// Parameters, states and progress, unconverted and with global shapes: a run of another layout can resume from it.
// All ranks call both.
void save_snapshot(const Executor& executor, Comm* world, const std::string& directory, const Progress& progress);
Progress load_snapshot(Executor& executor, const std::string& directory);

}  // namespace ithaca
