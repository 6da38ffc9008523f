// The training binary: `train --run run.json`. Linked with one generated program; needs neither Node nor a network.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <thread>

#include "ithaca/error.h"
#include "ithaca/file.h"
#include "ithaca/local_comm.h"
#include "ithaca/memory.h"
#include "loop.h"

namespace {

using namespace ithaca;

constexpr int kInterrupted = 130;
std::atomic<int> interrupts{0};

// The first signal asks for an orderly end after the step, the second one ends the process at once.
extern "C" void on_signal(int) {
  if (interrupts.fetch_add(1) > 0) _exit(kInterrupted);
}

void catch_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

struct Arguments {
  std::string run_file;
  bool progress = false;
};

constexpr const char* kUsage = "usage: train --run run.json [--progress]\n";

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--run") == 0 && i + 1 < argc) {
      arguments.run_file = argv[++i];
    } else if (std::strcmp(argv[i], "--progress") == 0) {
      arguments.progress = true;
    } else {
      throw Error(std::string("unknown argument ") + argv[i] + "\n" + kUsage);
    }
  }
  if (arguments.run_file.empty()) throw Error(std::string("--run is missing\n") + kUsage);
  return arguments;
}

std::int64_t sequence_length(const ProgramSpec& spec) {
  for (int i = 0; i < spec.num_tensors; ++i) {
    const TensorSpec& tensor = spec.tensors[i];
    if (std::strcmp(tensor.name, "input_ids") == 0 && tensor.rank == 2) return tensor.dims[1];
  }
  throw Error(std::string(spec.name) + " has no input_ids [batch, sequence]; it is no training program");
}

void check_machine(const RunFile& run, const ProgramSpec& spec) {
  const int ranks = Mesh(spec.axes, spec.num_axes).ranks();
  if (run.ranks != ranks) {
    throw Error("the run file asks for " + std::to_string(run.ranks) + " ranks, the program was compiled for " +
                std::to_string(ranks) + "; compile it again");
  }
  const std::size_t needed = (spec.device_bytes + spec.host_bytes) * ranks;
  const MachineMemory machine = machine_memory();
  if (machine.total_bytes > 0 && needed > machine.total_bytes) {
    throw Error(std::to_string(ranks) + " ranks need " + format_bytes(needed) + " of memory, this machine has " +
                format_bytes(machine.total_bytes) + "; shorten the sequence, tile more, or use more machines");
  }
}

// Runs every rank on a thread of its own; throws the failure that the others stopped for.
LoopResult train(const RunFile& run, const ProgramSpec& spec, const TokenData& data, bool progress) {
  const Mesh mesh(spec.axes, spec.num_axes);
  LocalWorld world(run.ranks);
  std::vector<LoopResult> results(run.ranks);
  std::vector<std::exception_ptr> causes(run.ranks);
  const auto run_rank = [&](int rank) {
    try {
      const auto all = run.ranks > 1 ? world.join_all(rank) : nullptr;
      results[rank] = train_rank(run, spec, data, rank, world.join_axes(rank, mesh), all.get(), progress, interrupts);
    } catch (const Stopped&) {
      world.fail(rank, "it was stopped");
    } catch (const std::exception& error) {
      causes[rank] = std::current_exception();
      world.fail(rank, error.what());
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < run.ranks; ++rank) threads.emplace_back(run_rank, rank);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& cause : causes) {
    if (cause) std::rethrow_exception(cause);
  }
  if (!world.failure().empty()) throw Error(world.failure());
  return results[0];
}

int run_main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  const ProgramSpec& spec = *ithaca_program();
  RunFile run = read_run_file(arguments.run_file);
  check_machine(run, spec);
  require_writable_directory(run.output_dir);
  if (run.snapshot_every > 0) require_writable_directory(run.output_dir + "/snapshots");
  if (run.data.sequence_length == 0) run.data.sequence_length = sequence_length(spec);
  if (run.data.sequence_length > sequence_length(spec)) {
    throw Error("the run file asks for samples of " + std::to_string(run.data.sequence_length) +
                " tokens, the program was compiled for " + std::to_string(sequence_length(spec)) + "; compile it again");
  }
  const TokenData data(run.data);
  catch_signals();
  const LoopResult result = train(run, spec, data, arguments.progress);
  if (!result.interrupted) return 0;
  const std::string next =
      result.snapshot.empty() ? "there is no snapshot to resume from" : "resume from " + result.snapshot;
  std::fprintf(stderr, "ithaca: interrupted after step %lld; %s\n", static_cast<long long>(result.steps),
               next.c_str());
  return kInterrupted;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_main(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "ithaca: out of memory outside the arenas\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ithaca: %s\n", error.what());
  }
  return 1;
}
