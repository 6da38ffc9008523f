// Loads program.so files and drives their ranks.
#include "loaded_program.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>

#include "ithaca/checkpoint.h"
#include "ithaca/error.h"

namespace ithaca {

LoadedProgram::Library::Library(const std::string& path) : handle(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (!handle) throw Error("can't load the program: " + std::string(dlerror()));
}

LoadedProgram::Library::~Library() { dlclose(handle); }

LoadedProgram::LoadedProgram(const std::string& path, int threads, int ranks, const std::string& host_spill)
    : library_(path) {
  const auto entry = reinterpret_cast<const ProgramSpec* (*)()>(dlsym(library_.handle, "ithaca_program"));
  if (!entry) throw Error(path + " exports no ithaca_program; it is no compiled program");
  const ProgramSpec& spec = *entry();
  if (spec.abi != kProgramAbi) {
    throw Error(path + " was built for runtime ABI " + std::to_string(spec.abi) + ", this runtime is " +
                std::to_string(kProgramAbi) + "; compile it again");
  }
  const Mesh mesh(spec.axes, spec.num_axes);
  if (mesh.ranks() != ranks) {
    throw Error(path + " was compiled for " + std::to_string(mesh.ranks()) + " ranks; open it with { ranks: " +
                std::to_string(mesh.ranks()) + " }, not " + std::to_string(ranks));
  }
  world_ = std::make_unique<LocalWorld>(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    executors_.push_back(std::make_unique<Executor>(spec, rank, threads, world_->join_axes(rank, mesh), host_spill));
  }
  driver_ = std::make_unique<Lane>("ithaca", threads);
}

LoadedProgram::~LoadedProgram() = default;

Executor& LoadedProgram::executor(int rank) {
  if (rank < 0 || rank >= ranks()) {
    throw Error("rank is " + std::to_string(rank) + "; the program has " + std::to_string(ranks()) + " ranks");
  }
  return *executors_[rank];
}

double LoadedProgram::step() {
  require_labels();
  const auto begin = std::chrono::steady_clock::now();
  for (auto& executor : executors_) executor->begin_step();
  std::exception_ptr cause;
  std::exception_ptr consequence;
  for (auto& executor : executors_) {
    try {
      executor->finish_step();
    } catch (const Stopped&) {
      if (!consequence) consequence = std::current_exception();
    } catch (...) {
      if (!cause) cause = std::current_exception();
    }
  }
  if (cause) std::rethrow_exception(cause);
  if (consequence) std::rethrow_exception(consequence);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The mean loss over no token is no number, and neither would the weights be.
void LoadedProgram::require_labels() const {
  const TensorSpec* labels = executors_[0]->find("labels");
  if (!labels || labels->role != Role::input || labels->dtype != DType::i32) return;
  for (const auto& executor : executors_) {
    const auto* own = reinterpret_cast<const std::int32_t*>(executor->data(*labels));
    const auto count = static_cast<std::ptrdiff_t>(labels->bytes / sizeof *own);
    if (std::any_of(own, own + count, [](std::int32_t label) { return label >= 0; })) return;
  }
  throw Error("no token has a label: all of \"labels\" is negative, so there is nothing to learn from; set those of "
              "the tokens to predict (-100 marks the others)");
}

void LoadedProgram::load(const std::vector<std::string>& weights, std::uint64_t seed) {
  for (auto& executor : executors_) {
    initialize(*executor, seed, !weights.empty());
    if (!weights.empty()) load_weights(*executor, weights);
  }
}

}  // namespace ithaca
